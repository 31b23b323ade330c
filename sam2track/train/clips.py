"""Synthetic clips with ground truth, a whole batch at once, on the device the assets are on.

Cut-outs, turning objects and random shapes filled with photo texture move over photos in front of a
moving camera. What is always true: a clip depends on its seed and style alone; a pixel has the label of
the layer that contributes most to it; layer k hides the layers below k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from sam2track.train.assets import CELL, Assets

FAR = 9.0  # where a layer that is not there is put, in half-frames from the centre


@dataclass(frozen=True, slots=True)
class Style:
    """What clips look like. Lengths are in half-frames (the frame reaches from -1 to 1), times in frames.

    Attributes:
        size: pixels a side.
        frames: frames a clip.
        layers: most objects a clip.
        extent: smallest and largest half-size of an object.
        speed: standard deviation of an object's motion a frame.
        turn: standard deviation of its rotation a frame, radians.
        camera: standard deviation of the camera's pan a frame; its zoom changes by as much.
        textured: share of random shapes filled with photo texture.
        twins: share of clips in which one cut-out is there twice.
        leaving: share of objects that leave the frame and come back.
        degrade: strength of blur, noise and lighting, 0 to 1.
    """

    size: int = 128
    frames: int = 2
    layers: int = 4
    extent: tuple[float, float] = (0.18, 0.7)
    speed: float = 0.08
    turn: float = 0.08
    camera: float = 0.03
    textured: float = 0.3
    twins: float = 0.3
    leaving: float = 0.1
    degrade: float = 0.7


@dataclass(frozen=True, slots=True)
class Clips:
    """A batch of clips.

    Attributes:
        frames: ``[B, T, 3, S, S]`` RGB in [0, 1].
        labels: uint8 ``[B, T, S, S]``: 0 background, k the object of layer k - 1.
        layers: number of layers there can be.
    """

    frames: Tensor
    labels: Tensor
    layers: int


class Dice:
    """Random numbers on a device, from one seed."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.generator = Generator(device=device).manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform in [low, high)."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        """Normal around 0."""
        return torch.randn(shape, generator=self.generator, device=self.device) * std

    def integer(self, *shape: int, below: int) -> Tensor:
        """Integers in [0, below)."""
        return torch.randint(below, shape, generator=self.generator, device=self.device)

    def chance(self, *shape: int, of: float) -> Tensor:
        """True with probability ``of``."""
        return self.uniform(*shape) < of


@dataclass(frozen=True, slots=True)
class Motion:
    """Where each layer is: all ``[B, L, T]`` but the last two."""

    x: Tensor
    y: Tensor
    half_width: Tensor
    half_height: Tensor
    angle: Tensor
    wave: Tensor  # [B, L, T, 2] phases of the elastic deformation
    amplitude: Tensor  # [B, L]


def make_clips(assets: Assets, style: Style, count: int, seed: int) -> Clips:
    """Make ``count`` clips."""
    dice = Dice(seed, assets.photos.device)
    pan, zoom = _camera(dice, style, count)
    frames = _background(dice, assets, style, pan, zoom)
    sprites = _sprites(dice, assets, style, count)
    motion = _motion(dice, style, count, pan, zoom)
    gain = dice.uniform(count, style.layers, 1, 3, 1, 1, low=0.75, high=1.25)
    grid = _grid(style.size, dice.device)

    most = torch.ones(count, style.frames, style.size, style.size, device=dice.device)  # largest share of each pixel
    labels = torch.zeros_like(most, dtype=torch.uint8)
    for layer in range(style.layers):
        warped = F.grid_sample(sprites[:, layer].flatten(0, 1), _sampling(grid, motion, layer), align_corners=False)
        warped = warped.reshape(count, style.frames, *warped.shape[1:])
        alpha = warped[:, :, 3:]
        color = (warped[:, :, :3] / alpha.clamp_min(1e-3) * gain[:, layer]).clamp(0, 1)
        frames = frames * (1 - alpha) + color * alpha
        share, left = alpha[:, :, 0], most * (1 - alpha[:, :, 0])
        labels = labels.masked_fill(share > left, layer + 1)
        most = torch.maximum(share, left)
    return Clips(_degrade(dice, style, frames), labels, style.layers)


def _camera(dice: Dice, style: Style, count: int) -> tuple[Tensor, Tensor]:
    """Pan ``[B, T, 2]`` and zoom ``[B, T]`` of the camera: a drift and a shake."""
    steps = torch.arange(style.frames, device=dice.device)
    drift = dice.normal(count, 1, 2, std=style.camera) * steps[None, :, None]
    pan = drift + dice.normal(count, style.frames, 2, std=0.2 * style.camera)
    zoom = torch.exp(dice.normal(count, 1, std=style.camera) * steps)
    return pan, zoom


def _background(dice: Dice, assets: Assets, style: Style, pan: Tensor, zoom: Tensor) -> Tensor:
    """Crops of photos that the camera moves over, ``[B, T, 3, S, S]``."""
    count = pan.shape[0]
    photo = assets.photos[dice.integer(count, below=len(assets.photos))].float() / 255
    half = dice.uniform(count, 1, low=0.35, high=0.9) / zoom
    centre = dice.uniform(count, 1, 2, low=-0.3, high=0.3) + 0.5 * pan
    mirror = torch.where(dice.chance(count, 1, of=0.5), -1.0, 1.0)
    theta = torch.zeros(count, style.frames, 2, 3, device=dice.device)
    theta[..., 0, 0] = half * mirror
    theta[..., 1, 1] = half * dice.uniform(count, 1, low=0.8, high=1.2)
    theta[..., 2] = centre
    grid = F.affine_grid(theta.flatten(0, 1), [count * style.frames, 3, style.size, style.size], align_corners=False)
    photo = photo[:, None].expand(-1, style.frames, -1, -1, -1).flatten(0, 1)
    picture = F.grid_sample(photo, grid, padding_mode="reflection", align_corners=False)
    return picture.reshape(count, style.frames, *picture.shape[1:])


def _sprites(dice: Dice, assets: Assets, style: Style, count: int) -> Tensor:
    """What each layer shows at each frame: premultiplied sprites ``[B, L, T, 4, CELL, CELL]``."""
    layers, cells = style.layers, assets.cells if assets.turns else 1
    turning = dice.chance(count, layers, of=0.25 if assets.turns else 0.0)
    still = dice.integer(count, layers, below=assets.stills)
    first = assets.stills + dice.integer(count, layers, below=max(assets.turns, 1)) * cells
    first = torch.where(turning, first, still)
    twin = dice.chance(count, of=style.twins)
    first[:, -1] = torch.where(twin, first[:, 0], first[:, -1])  # of all the pairs, one is enough
    turning[:, -1] = torch.where(twin, turning[:, 0], turning[:, -1])
    pace = dice.uniform(count, layers, 1, low=-1.0, high=1.0)
    steps = pace * torch.arange(style.frames, device=dice.device) + dice.integer(count, layers, 1, below=cells)
    cell = (steps.round().long() % cells) * turning[..., None]
    sprites = assets.sprites[first[..., None] + cell].float() / 255
    sprites = torch.cat([sprites[:, :, :, :3] * sprites[:, :, :, 3:], sprites[:, :, :, 3:]], dim=3)

    textured = dice.chance(count, layers, of=style.textured) & ~turning
    textured[:, [0, -1]] &= ~twin[:, None]
    shapes = _textured_shapes(dice, assets, int(textured.sum()))
    sprites[textured] = shapes[:, None].expand(-1, style.frames, -1, -1, -1)
    return sprites


def _textured_shapes(dice: Dice, assets: Assets, count: int) -> Tensor:
    """Smooth random outlines filled with crops of photos, premultiplied ``[count, 4, CELL, CELL]``."""
    grid = _grid(CELL, dice.device)
    radius, angle = grid.norm(dim=-1), torch.atan2(grid[..., 1], grid[..., 0])
    outline = torch.full((count, 1, 1), 0.62, device=dice.device)
    for waves in range(1, 7):
        strength = dice.normal(count, 1, 1, std=0.22 / waves)
        outline = outline + strength * torch.cos(waves * angle + dice.uniform(count, 1, 1, high=2 * math.pi))
    alpha = ((outline.clamp(0.2, 0.9) - radius) * CELL / 2 + 0.5).clamp(0, 1)[:, None]
    photo = assets.photos[dice.integer(count, below=len(assets.photos))]
    half = dice.uniform(count, 1, 1, 1, low=0.15, high=0.6)
    where = grid[None] * half + dice.uniform(count, 1, 1, 2, low=-0.4, high=0.4)
    return torch.cat([F.grid_sample(photo.float() / 255, where, align_corners=False) * alpha, alpha], dim=1)


def _motion(dice: Dice, style: Style, count: int, pan: Tensor, zoom: Tensor) -> Motion:
    """Paths of all layers as the camera sees them."""
    shape = (count, style.layers)
    steps = torch.arange(style.frames, device=dice.device)
    hurry = torch.where(dice.chance(*shape, 1, of=0.15), 3.0, 1.0)  # a few jump, so that place alone does not tell
    path = dice.uniform(*shape, 2, 1, low=-0.75, high=0.75)
    path = path + (dice.normal(*shape, 2, 1, std=style.speed) * hurry[..., None]) * steps
    path = path + dice.normal(*shape, 2, style.frames, std=0.15 * style.speed)
    x, y = path.unbind(2)

    start, end = (dice.uniform(*shape, 1, low=1.0, high=max(style.frames, 2)).floor() for _ in range(2))
    away = (dice.chance(*shape, 1, of=style.leaving)) & (steps >= torch.minimum(start, end)) & (steps <= end)
    there = dice.uniform(*shape, 1) * style.layers < dice.uniform(count, 1, 1, low=1.5, high=style.layers + 1)
    x = x + FAR * (away | ~there)

    low, high = style.extent
    extent = low * (high / low) ** dice.uniform(*shape, 1) * torch.exp(dice.normal(*shape, 1, std=0.04) * steps)
    stretch = dice.uniform(count, 1, 1, low=0.6, high=1.15)  # wide frames are squeezed into the model's square
    mirror = torch.where(dice.chance(*shape, 1, of=0.5), -1.0, 1.0)
    angle = dice.normal(*shape, 1, std=0.25) + dice.normal(*shape, 1, std=style.turn) * steps
    wave = dice.uniform(*shape, 1, 2, high=2 * math.pi) + dice.normal(*shape, 1, 2, std=0.6) * steps[:, None]
    zoomed = zoom[:, None]
    return Motion(
        x=(x - pan[:, None, :, 0]) * zoomed,
        y=(y - pan[:, None, :, 1]) * zoomed,
        half_width=extent * stretch * mirror * zoomed,
        half_height=extent * zoomed,
        angle=angle,
        wave=wave,
        amplitude=dice.uniform(*shape, low=-0.06, high=0.08).clamp_min(0),
    )


def _sampling(grid: Tensor, motion: Motion, layer: int) -> Tensor:
    """Where each pixel of each frame looks in the sprite of ``layer``: ``[B * T, S, S, 2]``."""

    def per_frame(values: Tensor) -> Tensor:
        return values[:, layer].flatten()[:, None, None]

    dx, dy = grid[..., 0] - per_frame(motion.x), grid[..., 1] - per_frame(motion.y)
    cosine, sine = per_frame(motion.angle.cos()), per_frame(motion.angle.sin())
    u = (dx * cosine + dy * sine) / per_frame(motion.half_width)
    v = (dy * cosine - dx * sine) / per_frame(motion.half_height)
    frames = motion.x.shape[2]
    amplitude = motion.amplitude[:, layer].repeat_interleave(frames)[:, None, None]
    phase = motion.wave[:, layer].flatten(0, 1)[:, None, None]
    return torch.stack(
        [u + amplitude * (4 * v + phase[..., 0]).sin(), v + amplitude * (4 * u + phase[..., 1]).sin()], -1
    )


def _degrade(dice: Dice, style: Style, frames: Tensor) -> Tensor:
    """Lighting that drifts, blur and noise."""
    count, length = frames.shape[:2]
    steps = torch.arange(length, device=dice.device)[None, :, None, None, None]
    gain = 1 + style.degrade * (dice.normal(count, 1, 1, 1, 1, std=0.15) + dice.normal(count, 1, 3, 1, 1, std=0.05))
    drift = style.degrade * dice.normal(count, 1, 1, 1, 1, std=0.02) * steps
    bias = style.degrade * dice.normal(count, 1, 1, 1, 1, std=0.05)
    frames = frames * (gain + drift) + bias
    soft = dice.chance(count, 1, 1, 1, 1, of=0.5 * style.degrade)
    blurred = F.avg_pool2d(frames.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False)
    frames = torch.where(soft, blurred.reshape(frames.shape), frames)
    noise = dice.uniform(count, 1, 1, 1, 1, high=0.04 * style.degrade)
    return (frames + noise * dice.normal(*frames.shape)).clamp(0, 1)


def _grid(size: int, device: torch.device) -> Tensor:
    """Pixel centres ``[size, size, 2]`` of a frame from -1 to 1, x then y."""
    centre = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([x, y], dim=-1)
