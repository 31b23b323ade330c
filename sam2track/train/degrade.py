"""What a camera and a codec do to a picture: light, softness, noise, compression."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2track.train.dice import Dice

BLOCK = 8  # side of a block that is compressed on its own
SOFT, LIT, PACKED = 0.4, 0.5, 0.5  # shares of clips that are blurred, unevenly lit, compressed


def degrade(dice: Dice, strength: float, frames: Tensor) -> Tensor:
    """Degrade ``frames`` [B, T, 3, S, S] in place, RGB in [0, 1]; ``strength`` from 0 (not at all) to 1."""
    if strength == 0:
        return frames.clamp_(0, 1)
    _light(dice, strength, frames)
    count = len(frames)
    soft = dice.some(count, SOFT * strength)
    if len(soft):
        picture = frames[soft].flatten(0, 1)
        blurred = F.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)
        frames[soft] = blurred.reshape(-1, *frames.shape[1:])
    noise = dice.uniform(count, 1, 1, 1, 1, high=0.04 * strength)
    frames.add_(dice.normal(*frames.shape).mul_(noise))
    packed = dice.some(count, PACKED * strength)
    if len(packed):
        coarse = dice.uniform(len(packed), 1, 1, 1, 1, low=0.1, high=1.3) * strength
        frames[packed] = compress(frames[packed], coarse)
    return frames.clamp_(0, 1)


def _light(dice: Dice, strength: float, frames: Tensor) -> None:
    """Exposure and tint that differ by clip and drift, flicker, and light that falls off to a side and moves."""
    count, length, _, size, _ = frames.shape
    steps = torch.arange(length, device=dice.device)[None, :, None, None, None]
    gain = 1 + strength * (dice.normal(count, 1, 1, 1, 1, std=0.15) + dice.normal(count, 1, 3, 1, 1, std=0.05))
    gain = gain + strength * dice.normal(count, 1, 1, 1, 1, std=0.02) * steps
    gain = gain + strength * dice.normal(count, length, 1, 1, 1, std=0.01)
    bias = strength * dice.normal(count, 1, 1, 1, 1, std=0.05)
    slope = strength * dice.chance(count, 1, 1, 1, 1, of=LIT) * dice.normal(count, 1, 2, 1, 1, std=0.2)
    slope = (slope * (1 + dice.normal(count, 1, 1, 1, 1, std=0.15) * steps)).clamp(-0.6, 0.6)
    place = torch.linspace(-1, 1, size, device=dice.device)
    across = 1 + slope[:, :, :1] * place  # [B, T, 1, 1, S]
    down = 1 + slope[:, :, 1:] * place[:, None]  # [B, T, 1, S, 1]
    frames.mul_(gain * across).mul_(down).add_(bias)


def compress(frames: Tensor, coarse: Tensor) -> Tensor:
    """Round the cosine transform of each block of luma and chroma, as JPEG and the intra frames of codecs do.

    Args:
        frames: RGB ``[B, T, 3, S, S]`` in [0, 1], S a multiple of 8.
        coarse: ``[B, 1, 1, 1, 1]`` size of the rounding: 0.1 is hardly seen, 1 is a bad stream.
    """
    b, t, _, size, _ = frames.shape
    side = size // BLOCK
    basis, colours, back, steps = _tables(frames.device)
    yuv = (colours @ frames.flatten(3)).reshape(b, t, 3, side, BLOCK, side, BLOCK)
    blocks = yuv.permute(0, 1, 2, 3, 5, 4, 6).reshape(b, t, 3, side * side, BLOCK * BLOCK)
    step = steps[:, None] * coarse
    blocks = ((blocks @ basis.t()) / step).round_().mul_(step) @ basis
    blocks = blocks.reshape(b, t, 3, side, side, BLOCK, BLOCK).permute(0, 1, 2, 3, 5, 4, 6)
    return (back @ blocks.reshape(b, t, 3, size * size)).reshape(frames.shape)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cosine basis [64, 64]; RGB to luma and chroma (BT.601) and back [3, 3]; rounding by frequency [3, 64]."""
    k = torch.arange(BLOCK, dtype=torch.float32)
    cosine = torch.cos(math.pi / BLOCK * (k + 0.5) * k[:, None]) * math.sqrt(2 / BLOCK)
    cosine[0] /= math.sqrt(2)
    red, green, blue = torch.eye(3)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    colours = torch.stack([luma, (blue - luma) / 1.772, (red - luma) / 1.402])
    frequency = (k[:, None] + k).flatten()
    fine, rough = 0.06 + 0.05 * frequency, 0.12 + 0.15 * frequency  # finer where the eye is
    tables = torch.kron(cosine, cosine), colours, torch.linalg.inv(colours), torch.stack([fine, rough, rough])
    return tuple(table.to(device) for table in tables)  # type: ignore[return-value]
