"""Synthetic clips with ground truth, a whole batch at once, on the device the assets are on.

Cut-outs, turning objects and random shapes filled with photo texture move over photos in front of a
moving camera. What is always true: a clip depends on its seed and style alone (and on the kind of device); a
pixel has the label of the layer that contributes most to it; layer k hides the layers below k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2track.train.assets import CELL, MARGIN, Assets
from sam2track.train.degrade import degrade
from sam2track.train.dice import Dice
from sam2track.train.motion import Camera, Motion, move_camera, move_objects, sprite_velocity
from sam2track.train.style import Style

BLURRED = 0.3  # share of clips with motion blur, at full degradation
SHUTTER = 0.6  # share of the time between frames that the shutter is open, at most
TAPS = 4  # pictures averaged into a blurred one
TURNING = 0.25  # share of layers that show a turning object


@dataclass(frozen=True, slots=True)
class Clips:
    """A batch of clips.

    Attributes:
        frames: ``[B, T, 3, S, S]`` RGB in [0, 1].
        labels: uint8 ``[B, T, S, S]``: 0 background, k the object of layer k - 1, of which later ones may be part.
        layers: number of layers there can be.
    """

    frames: Tensor
    labels: Tensor
    layers: int


@torch.no_grad()
def make_clips(assets: Assets, style: Style, count: int, seed: int) -> Clips:
    """Make ``count`` clips."""
    dice = Dice(seed, assets.photos.device)
    camera = move_camera(dice, style, count)
    motion = move_objects(dice, style, count, camera)
    blurred = dice.some(count, BLURRED * style.degrade)
    shutter = dice.uniform(len(blurred), 1, 1, low=0.2, high=SHUTTER)
    scene = dice.integer(count, below=assets.scenes)
    frames = _background(dice, assets.photos[scene], style, camera, (blurred, shutter))
    sprites = _sprites(dice, assets, style, scene)
    if len(blurred):
        streak = sprite_velocity(motion)[blurred] * shutter[..., None]
        sprites[blurred] = _streaked(sprites[blurred], streak)
    gain = dice.uniform(count, style.layers, 1, 3, 1, 1, low=0.75, high=1.25) / 255

    most = torch.ones(count, style.frames, style.size, style.size, device=dice.device)  # largest share of each pixel
    labels = torch.zeros_like(most, dtype=torch.uint8)
    for layer in range(style.layers):
        for clips, rows, columns in _regions(motion, layer, style.size):
            where = _sampling(
                motion, layer, clips, _centres(rows, style.size, dice), _centres(columns, style.size, dice)
            )
            sprite = _sized(sprites[clips, layer], motion.half_height[clips, layer], style.size)
            warped = F.grid_sample(sprite, where, align_corners=False)
            warped = warped.reshape(-1, style.frames, *warped.shape[1:])
            alpha = warped[:, :, 3:] / 255
            region = frames[clips, :, :, rows, columns]
            region.mul_(1 - alpha).add_(torch.minimum(warped[:, :, :3] * gain[clips, layer], alpha))
            share = alpha[:, :, 0]
            left = most[clips, :, rows, columns].mul_(1 - share)
            here = labels[clips, :, rows, columns]
            here.copy_(torch.where(share > left, motion.label[clips, layer, None, None, None], here))
            torch.maximum(share, left, out=left)
    return Clips(degrade(dice, style.degrade, frames), labels, style.layers)


def _background(dice: Dice, photo: Tensor, style: Style, camera: Camera, blur: tuple[Tensor, Tensor]) -> Tensor:
    """Crops of photos that the camera moves over, ``[B, T, 3, S, S]``; those of clips ``blur[0]`` are streaked."""
    count = len(camera.pan)
    photo = photo.float() / 255
    half = dice.uniform(count, 1, low=0.35, high=0.9) / camera.zoom
    mirror = torch.where(dice.chance(count, 1, of=0.5), -1.0, 1.0)
    scale = torch.stack([half * mirror, half * dice.uniform(count, 1, low=0.8, high=1.2)], dim=-1)  # [B, T, 2]
    pan = camera.pan * camera.depth[:, :1, None]
    centre = dice.uniform(count, 1, 2, low=-0.3, high=0.3) + scale * pan
    frames = _views(photo, scale, centre, style.size)
    clips, shutter = blur
    if len(clips) and style.frames > 1:
        speed = pan[clips].diff(dim=1)
        streak = torch.cat([speed[:, :1], speed], dim=1) * scale[clips] * shutter
        centre = (centre[clips][:, :, None] + streak[:, :, None] * _times(dice.device)).flatten(1, 2)
        views = _views(photo[clips], scale[clips].repeat_interleave(TAPS, dim=1), centre, style.size)
        frames[clips] = views.reshape(len(clips), style.frames, TAPS, *views.shape[2:]).mean(dim=2)
    return frames


def _views(photo: Tensor, scale: Tensor, centre: Tensor, size: int) -> Tensor:
    """Crops ``[B, T, 3, size, size]`` of photos [B, 3, H, W]: ``centre`` and half-size ``scale`` are [B, T, 2]."""
    place = torch.linspace(1 / size - 1, 1 - 1 / size, size, device=photo.device)
    xy = centre[:, :, None] + scale[:, :, None] * place[:, None]  # [B, T, size, 2]
    b, t = centre.shape[:2]
    grid = torch.empty(b, t, size, size, 2, device=photo.device)
    grid[..., 0], grid[..., 1] = xy[:, :, None, :, 0], xy[..., 1:]
    crops = F.grid_sample(photo, grid.flatten(1, 2), padding_mode="reflection", align_corners=False)
    return crops.reshape(b, 3, t, size, size).transpose(1, 2).contiguous()


def _sprites(dice: Dice, assets: Assets, style: Style, scene: Tensor) -> Tensor:
    """What each layer shows at each frame: premultiplied uint8 sprites ``[B, L, T, 4, CELL, CELL]``.

    ``scene`` [B] tells the photo behind each clip.
    """
    count, layers, cells = len(scene), style.layers, assets.cells if assets.turns else 1
    turning = dice.chance(count, layers, of=TURNING if assets.turns else 0.0)
    still = dice.integer(count, layers, below=assets.stills)
    first = assets.stills + dice.integer(count, layers, below=max(assets.turns, 1)) * cells
    first = torch.where(turning, first, still)
    pace = dice.uniform(count, layers, 1, low=-1.0, high=1.0)
    steps = pace * torch.arange(style.frames, device=dice.device) + dice.integer(count, layers, 1, below=cells)
    cell = (steps.round().long() % cells) * turning[..., None]
    sprites = assets.sprites[first[..., None] + cell]

    flat = sprites.flatten(0, 1)
    filled = dice.some(count * layers, style.textured)
    if len(filled):
        flat[filled] = _textured_shapes(dice, assets, style, scene[filled // layers])[:, None]
    twins = dice.some(count, style.twins)
    if layers > 1:
        flat[twins * layers + layers - 1] = flat[twins * layers]  # of all the pairs, one is enough
    return sprites


def _textured_shapes(dice: Dice, assets: Assets, style: Style, scene: Tensor) -> Tensor:
    """Smooth random outlines filled with crops of photos and textures, premultiplied uint8 ``[N, 4, CELL, CELL]``.

    ``scene`` [N] is the photo behind each, of which some are filled.
    """
    count = len(scene)
    grid = _grid(CELL, dice.device)
    radius, angle = grid.norm(dim=-1), torch.atan2(grid[..., 1], grid[..., 0])
    waves = torch.arange(1, 7, device=dice.device)[:, None, None, None]
    strength = dice.normal(6, count, 1, 1, std=0.22) / waves
    phase = dice.uniform(6, count, 1, 1, high=2 * math.pi)
    outline = 0.62 + (strength * torch.cos(waves * angle + phase)).sum(dim=0)
    alpha = ((outline.clamp(0.2, 0.9) - radius) * CELL / 2 + 0.5).clamp(0, 1)[:, None] * 255
    source = dice.integer(count, below=len(assets.photos))
    if style.camouflaged:
        source = torch.where(dice.chance(count, of=style.camouflaged), scene, source)
    photo = assets.photos[source]
    half = dice.uniform(count, 1, 1, 1, low=0.15, high=0.6)
    where = grid[None] * half + dice.uniform(count, 1, 1, 2, low=-0.4, high=0.4)
    fill = F.grid_sample(photo.float() / 255, where, align_corners=False)
    return torch.cat([fill * alpha, alpha], dim=1).round_().byte()


def _streaked(sprites: Tensor, streak: Tensor) -> Tensor:
    """Sprites [B, L, T, 4, CELL, CELL] averaged along ``streak`` [B, L, T, 2], at most what their margin holds."""
    limit = 2 * MARGIN / CELL * 2  # the margin on both sides, in half-cells
    streak = streak.flatten(0, 2).clamp(-limit, limit)
    grid = _grid(CELL, sprites.device)
    offset = streak[:, None] * _times(sprites.device)  # [N, TAPS, 2]
    where = (grid + offset[:, :, None, None]).flatten(1, 2)  # [N, TAPS * CELL, CELL, 2]
    taken = F.grid_sample(sprites.flatten(0, 2).float(), where, align_corners=False)
    return taken.reshape(-1, 4, TAPS, CELL, CELL).mean(dim=2).round_().byte().reshape(sprites.shape)


def _sized(sprites: Tensor, half: Tensor, size: int) -> Tensor:
    """Sprites uint8 [B, T, 4, CELL, CELL] as float [B * T, ...], softened where shown at less than half their size."""
    sprite = sprites.flatten(0, 1).float()
    small = (half.flatten().abs() * size < CELL / 2)[:, None, None, None]
    halved = F.interpolate(F.avg_pool2d(sprite, 2), scale_factor=2.0, mode="nearest")
    return torch.where(small, halved, sprite)


def _regions(motion: Motion, layer: int, size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Clips, rows and columns that together hold all of a layer.

    On a CPU each clip on its own, no larger than its object; elsewhere all at once and whole, for there a
    few large launches beat many small ones, and nobody may wait to learn where the objects are.
    """
    if motion.x.device.type != "cpu":
        yield slice(None), slice(None), slice(None)
        return
    cosine, sine = motion.angle[:, layer].cos().abs(), motion.angle[:, layer].sin().abs()
    wide, high = motion.half_width[:, layer].abs(), motion.half_height[:, layer]
    swell = 1 + motion.amplitude[:, layer, None]
    bounds = []
    for place, reach in (
        (motion.y, swell * (wide * sine + high * cosine)),
        (motion.x, swell * (wide * cosine + high * sine)),
    ):
        low, high_end = place[:, layer] - reach, place[:, layer] + reach
        seen = (low < 1) & (high_end > -1)
        first = torch.where(seen, (low + 1) * size / 2, size).amin(dim=1).floor().clamp(0, size)
        last = torch.where(seen, (high_end + 1) * size / 2, 0.0).amax(dim=1).ceil().clamp(0, size)
        bounds += [first.int().tolist(), last.int().tolist()]
    for clip, (top, bottom, left, right) in enumerate(zip(*bounds, strict=True)):
        if top < bottom and left < right:
            yield slice(clip, clip + 1), slice(top, bottom), slice(left, right)


def _sampling(motion: Motion, layer: int, clips: slice, y: Tensor, x: Tensor) -> Tensor:
    """Where the pixels at rows ``y`` and columns ``x`` of each frame look in the sprite: ``[B * T, h, w, 2]``.

    The affine map and the waves sin(4 v + phase) added to it are sums of products of a function of the row
    and one of the column, so the whole grid is one product of matrices.
    """

    def per_frame(values: Tensor) -> Tensor:
        return values[clips, layer].reshape(-1, 1)

    cosine, sine = per_frame(motion.angle.cos()), per_frame(motion.angle.sin())
    wide, high = per_frame(motion.half_width), per_frame(motion.half_height)
    dx, dy = x - per_frame(motion.x), y - per_frame(motion.y)  # [N, w], [N, h]
    u_x, u_y, v_x, v_y = dx * cosine / wide, dy * sine / wide, -dx * sine / high, dy * cosine / high
    amplitude = motion.amplitude[clips, layer].repeat_interleave(motion.x.shape[2])[:, None]
    phase_u, phase_v = motion.wave[clips, layer].reshape(-1, 2, 1).unbind(1)
    one, none = torch.ones_like(dx), torch.zeros_like(dx)
    wave_u, wave_v = 4 * v_x + phase_u, 4 * u_x + phase_v
    u = [u_x, one, none, amplitude * wave_u.sin(), amplitude * wave_u.cos(), none, none]
    v = [v_x, none, one, none, none, amplitude * wave_v.sin(), amplitude * wave_v.cos()]
    columns = torch.stack([torch.stack(u, dim=1), torch.stack(v, dim=1)], dim=-1)  # [N, 7, w, 2]
    rows = [torch.ones_like(dy), u_y, v_y, (4 * v_y).cos(), (4 * v_y).sin(), (4 * u_y).cos(), (4 * u_y).sin()]
    grid = torch.stack(rows, dim=-1) @ columns.flatten(2)
    return grid.reshape(*grid.shape[:2], len(x), 2)


def _centres(part: slice, size: int, dice: Dice) -> Tensor:
    """Places of the pixels ``part`` of ``size``, from -1 to 1."""
    start, end, _ = part.indices(size)
    return (torch.arange(start, end, device=dice.device) + 0.5) * (2 / size) - 1


def _times(device: torch.device) -> Tensor:
    """When the pictures of a blurred one are taken: ``[TAPS, 1]`` from -1/2 to 1/2."""
    return torch.linspace(-0.5, 0.5, TAPS, device=device)[:, None]


def _grid(size: int, device: torch.device) -> Tensor:
    """Pixel centres ``[size, size, 2]`` of a square from -1 to 1, x then y."""
    centre = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([x, y], dim=-1)
