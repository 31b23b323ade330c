"""Where the camera and the objects of synthetic clips are, frame by frame.

Lengths are in half-frames (the frame reaches from -1 to 1), times in frames, angles in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sam2track.train.dice import Dice
from sam2track.train.style import Style

FAR = 9.0  # where a layer that is not there is put
ASIDE = 2.6  # how far one goes that slides out of the frame


@dataclass(frozen=True, slots=True)
class Camera:
    """What the camera does.

    Attributes:
        pan: ``[B, T, 2]``, x then y, what is at distance 1 moves by this, to the other side.
        zoom: ``[B, T]`` magnification.
        depth: ``[B, L + 1]`` how much of the pan each layer shows, the background first: near things move more.
    """

    pan: Tensor
    zoom: Tensor
    depth: Tensor


@dataclass(frozen=True, slots=True)
class Motion:
    """Where each layer is as the camera sees it: ``[B, L, T]`` but the last two."""

    x: Tensor
    y: Tensor
    half_width: Tensor
    half_height: Tensor
    angle: Tensor
    wave: Tensor  # [B, L, T, 2] phases of the elastic deformation
    amplitude: Tensor  # [B, L]
    label: Tensor  # uint8 [B, L]: the object that a layer is, or is a part of, from 1


class _Layers(NamedTuple):
    """Where layers are in the scene, their half-size and slimness ``[B, L, T]``, and their labels ``[B, L]``."""

    x: Tensor
    y: Tensor
    extent: Tensor
    slim: Tensor
    angle: Tensor
    label: Tensor


def move_camera(dice: Dice, style: Style, count: int) -> Camera:
    """A drift, a little shake, and in a few clips much of it."""
    steps = _steps(dice, style)
    drift = dice.normal(count, 1, 2, std=style.camera) * steps[None, :, None]
    shake = torch.where(dice.chance(count, 1, 1, of=style.shaky), 1.0, 0.2) * style.camera
    zoom = torch.exp(dice.normal(count, 1, std=style.camera) * steps)
    near = dice.uniform(count, style.layers, low=0.8, high=1.5).sort(dim=1).values
    far = dice.uniform(count, 1, low=0.4, high=1.0)
    return Camera(drift + dice.normal(count, style.frames, 2) * shake, zoom, torch.cat([far, near], dim=1))


def move_objects(dice: Dice, style: Style, count: int, camera: Camera) -> Motion:
    """Paths of all layers as the camera sees them."""
    shape, steps = (count, style.layers), _steps(dice, style)
    hurry = torch.where(dice.chance(*shape, 1, of=0.15), 3.0, 1.0)  # a few jump, so that place alone does not tell
    path = dice.uniform(*shape, 2, 1, low=-0.75, high=0.75)
    path = path + (dice.normal(*shape, 2, 1, std=style.speed) * hurry[..., None]) * steps
    path = path + dice.normal(*shape, 2, style.frames, std=0.15 * style.speed)
    x, y = path.unbind(2)
    x = x + _absence(dice, style, count)

    low, high = style.extent
    extent = low * (high / low) ** dice.uniform(*shape, 1) * torch.exp(dice.normal(*shape, 1, std=0.04) * steps)
    stretch = dice.uniform(count, 1, 1, low=0.6, high=1.15)  # wide frames are squeezed into the model's square
    mirror = torch.where(dice.chance(*shape, 1, of=0.5), -1.0, 1.0)
    angle = dice.normal(*shape, 1, std=0.25) + dice.normal(*shape, 1, std=style.turn) * steps
    wave = dice.uniform(*shape, 1, 2, high=2 * math.pi) + dice.normal(*shape, 1, 2, std=0.6) * steps[:, None]
    pan = camera.pan[:, None] * camera.depth[:, 1:, None, None]
    zoom = camera.zoom[:, None]
    label = torch.arange(1, style.layers + 1, dtype=torch.uint8, device=dice.device).repeat(count, 1)
    layers = _Layers(x, y, extent, torch.ones_like(extent), angle, label)
    if style.jointed:
        layers = _jointed(dice, style, layers)
    return Motion(
        x=(layers.x - pan[..., 0]) * zoom,
        y=(layers.y - pan[..., 1]) * zoom,
        half_width=layers.extent * layers.slim * stretch * mirror * zoom,
        half_height=layers.extent * zoom,
        angle=layers.angle,
        wave=wave,
        amplitude=dice.uniform(*shape, low=-0.06, high=0.08).clamp_min(0),
        label=layers.label,
    )


def sprite_velocity(motion: Motion) -> Tensor:
    """Motion from frame to frame in half-widths and half-heights of the layer itself, ``[B, L, T, 2]``."""
    dx, dy = _velocity(motion.x), _velocity(motion.y)
    cosine, sine = motion.angle.cos(), motion.angle.sin()
    u = (dx * cosine + dy * sine) / motion.half_width
    v = (dy * cosine - dx * sine) / motion.half_height
    return torch.stack([u, v], dim=-1)


def _jointed(dice: Dice, style: Style, apart: _Layers) -> _Layers:
    """The layers after some groups of them became one object: a body, and parts that point away from it and sway."""
    x, y, extent, slim, angle, label = (each.clone() for each in apart)
    count, steps, groups = len(x), _steps(dice, style), style.layers // style.parts
    joined = dice.chance(count, groups, of=style.jointed)
    here = joined[..., None]
    body = slice(0, groups * style.parts, style.parts)
    for each in range(1, style.parts):
        part = slice(each, groups * style.parts, style.parts)
        size = extent[:, body] * dice.uniform(count, groups, 1, low=0.45, high=1.0)
        direction = dice.uniform(count, groups, 1, high=2 * math.pi)
        direction = direction + dice.normal(count, groups, 1, std=1.5 * style.turn) * steps
        reach = dice.uniform(count, groups, 1, low=0.5, high=0.85) * (extent[:, body] + size)
        x[:, part] = torch.where(here, x[:, body] + reach * direction.cos(), x[:, part])
        y[:, part] = torch.where(here, y[:, body] + reach * direction.sin(), y[:, part])
        extent[:, part] = torch.where(here, size, extent[:, part])
        slim[:, part] = torch.where(here, dice.uniform(count, groups, 1, low=0.3, high=1.0), slim[:, part])
        angle[:, part] = torch.where(here, direction - math.pi / 2, angle[:, part])
        label[:, part] = torch.where(joined, label[:, body], label[:, part])
    return _Layers(x, y, extent, slim, angle, label)


def _absence(dice: Dice, style: Style, count: int) -> Tensor:
    """How far aside each layer is, ``[B, L, T]``: those that leave slide out of the frame, or vanish, and return."""
    shape, steps = (count, style.layers), _steps(dice, style)
    last = max(style.frames, 2)
    one, other = (dice.uniform(*shape, 1, low=1.0, high=last).floor() for _ in range(2))
    start, end = torch.minimum(one, other), torch.maximum(one, other)
    leaving = dice.chance(*shape, 1, of=style.leaving)
    vanished = FAR * ((steps >= start) & (steps <= end))
    phase = ((steps - start + 1) / (end - start + 2)).clamp(0, 1)
    side = torch.where(dice.chance(*shape, 1, of=0.5), -ASIDE, ASIDE)
    slid = side * (math.pi * phase).sin()
    away = torch.where(dice.chance(*shape, 1, of=0.5), vanished, slid) * leaving
    there = dice.uniform(*shape, 1) * style.layers < dice.uniform(count, 1, 1, low=1.5, high=style.layers + 1)
    return away + FAR * ~there


def _velocity(place: Tensor) -> Tensor:
    """Change of ``place`` [..., T] a frame; the first frame moves as the second does. 0 for jumps out of the frame."""
    if place.shape[-1] == 1:
        return torch.zeros_like(place)
    change = place.diff(dim=-1)
    change = torch.cat([change[..., :1], change], dim=-1)
    return torch.where(change.abs() < 1, change, 0.0)


def _steps(dice: Dice, style: Style) -> Tensor:
    return torch.arange(style.frames, device=dice.device, dtype=torch.float32)
