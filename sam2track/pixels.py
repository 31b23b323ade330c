"""Between pixels and the model: images to tensors, prompts to model pixels, logits to masks.

Every resize of the package is here. ``S`` is the model's image size; low-resolution logits are
``S / 4`` a side.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2track.contracts import MASK_STRIDE
from sam2track.data import Image, Mask, Point, Prompt

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]: what SAM 2 was trained with
STD = (0.229, 0.224, 0.225)
MASK_LOGIT = 10.0  # a mask prompt taken as output counts as logits of +-10
HOLE_LOGIT = 0.1  # a filled hole is barely inside
STILL_LOGIT = 10.0  # in a still it is surely inside, and a removed speck surely outside

_SCALE = torch.tensor([1 / (255 * s) for s in STD]).reshape(1, 3, 1, 1)
_SHIFT = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)]).reshape(1, 3, 1, 1)


def to_tensor(image: Image, size: int) -> Tensor:
    """RGB uint8 ``[H, W, 3]`` -> normalised fp32 ``[1, 3, size, size]``, bilinear with antialias.

    The aspect ratio is not kept, as in SAM 2. The resize rounds to 8 bits, as PIL's does.
    """
    image = np.require(image, requirements=("C", "W"))  # torch shares only what may be written to
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    if image.shape[:2] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).mul_(_SCALE).add_(_SHIFT)


def still_to_tensor(image: Image, size: int) -> Tensor:
    """As ``to_tensor``, without rounding to 8 bits on the way: what SAM 2 does with stills. Three times as slow."""
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(2, 0, 1)[None].float()
    if image.shape[:2] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return pixels.contiguous().mul_(_SCALE).add_(_SHIFT)


def to_points(prompt: Prompt, height: int, width: int, size: int) -> tuple[list[Point], list[int]]:
    """Points and labels of a prompt in model pixels; a box leads as two corners labelled 2 and 3."""
    points: list[Point] = list(prompt.points)
    labels = list(prompt.labels or ())
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        points = [(x0, y0), (x1, y1), *points]
        labels = [2, 3, *labels]
    return [(x * size / width, y * size / height) for x, y in points], labels


def to_mask_prompt(mask: Mask, size: int) -> Tensor:
    """Bool ``[H, W]`` -> fp32 0 or 1 ``[1, 1, size, size]``."""
    return torch.from_numpy(resize_mask(mask, (size, size))).to(torch.float32)[None, None]


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Bool ``[H, W]`` -> bool of ``size`` (height, width), resized with antialias and cut at one half."""
    mask = np.require(mask, requirements=("C", "W"))
    if mask.shape == size:
        return mask
    pixels = torch.from_numpy(mask).to(torch.float32)[None, None]
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False) >= 0.5
    return resized[0, 0].numpy()


def mask_to_logits(mask: Tensor) -> Tensor:
    """A mask prompt ``[B, 1, S, S]`` as low-resolution logits ``[B, 1, S/4, S/4]`` within +-10."""
    side = mask.shape[-1] // MASK_STRIDE
    logits = mask * (2 * MASK_LOGIT) - MASK_LOGIT
    return F.interpolate(logits, (side, side), mode="bilinear", antialias=True, align_corners=False)


def survives(mask: Mask, size: int) -> bool:
    """Whether anything of a mask prompt is left at the size the model sees."""
    return bool(resize_mask(mask, (size, size)).any())


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of ``[B, 1, h, w]`` logits to ``size`` (height, width)."""
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)


def fill_holes(logits: Tensor, area: int) -> Tensor:
    """Fill background components (8-connected) of at most ``area`` pixels in ``[B, 1, h, w]`` logits."""
    holes = _small_components(logits <= 0, area)
    return logits if holes is None else torch.where(holes, HOLE_LOGIT, logits)


def clean_still(logits: Tensor, threshold: float, hole_area: float, speck_area: float) -> Tensor:
    """Fill holes, then drop specks, of at most so many pixels in ``[B, 1, h, w]`` logits cut at ``threshold``."""
    holes = _small_components(logits <= threshold, hole_area)
    specks = _small_components(logits > threshold, speck_area)
    if holes is not None:
        logits = torch.where(holes, threshold + STILL_LOGIT, logits)
    return logits if specks is None else torch.where(specks, threshold - STILL_LOGIT, logits)


def _small_components(inside: Tensor, area: float) -> Tensor | None:
    """The 8-connected components of at most ``area`` pixels of ``[B, 1, h, w]``; None where there are none."""
    if area <= 0:
        return None
    pictures = inside.to(torch.uint8).cpu().numpy()[:, 0]
    small = np.zeros(pictures.shape, dtype=bool)
    for picture, found in zip(pictures, small, strict=True):
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(picture, connectivity=8)
        counts = statistics[:, cv2.CC_STAT_AREA] <= area
        counts[0] = False  # label 0 is what is not inside
        if counts.any():
            found[:] = counts[labels]
    return torch.from_numpy(small)[:, None].to(inside.device) if small.any() else None


def to_masks(logits: Tensor, height: int, width: int) -> list[Mask]:
    """Low-resolution logits ``[B, 1, h, w]`` -> one bool mask ``[height, width]`` an object."""
    return list((resize_logits(logits, (height, width)) > 0)[:, 0].cpu().numpy())


def pad_points(prompts: Sequence[tuple[list[Point], list[int]]]) -> tuple[Tensor, Tensor]:
    """Stack prompts that have equally many points: ``xy`` [B, P, 2] and ``label`` [B, P]."""
    xy, label = zip(*prompts, strict=True)
    return torch.tensor(xy, dtype=torch.float32), torch.tensor(label, dtype=torch.float32)
