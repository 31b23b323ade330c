"""Real videos with masks as training clips: cut, mirrored, reversed and degraded at random."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sam2track.datasets import AnnotatedClip
from sam2track.errors import SourceError
from sam2track.train.clips import Clips
from sam2track.train.degrade import degrade
from sam2track.train.dice import Dice
from sam2track.train.style import Style
from sam2track.video.images import numbered_images
from sam2track.video.picture import read_picture

STRIDES = (1, 1, 2, 3)  # annotated frames from one to the next; fast motion is rarer than slow
SMALLEST = 0.6  # side of a cut, of the picture's


@dataclass(frozen=True, slots=True)
class Footage:
    """Annotated clips whose pictures lie in folders, as a ``Supply``; a batch depends on its seed alone.

    Attributes:
        clips: of ``open_dataset``.
        device: where batches go.
    """

    clips: Sequence[AnnotatedClip]
    device: torch.device

    def __post_init__(self) -> None:
        for clip in self.clips:
            if not clip.video.is_dir():
                raise SourceError(f"{clip.video} is no folder of pictures; extract its frames to train on it")

    def __call__(self, style: Style, count: int, seed: int) -> Clips:
        """``count`` clips of ``style``, whose ``size``, ``frames``, ``layers`` and ``degrade`` are heeded."""
        dice = Dice(seed, self.device)
        cuts = [_cut(dice.host, self.clips, style) for _ in range(count)]
        jobs = [(cut, index) for cut in cuts for index in cut.frames]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding leaves Python's lock
            pictures, labels = zip(*pool.map(lambda job: _read(job[0], job[1], style.size), jobs), strict=True)
        shape = count, style.frames
        frames = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2)
        truth = torch.from_numpy(np.stack(labels)).to(self.device)
        frames = frames.reshape(*shape, *frames.shape[1:]).float() / 255
        return Clips(degrade(dice, style.degrade, frames), truth.reshape(*shape, *truth.shape[1:]), style.layers)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Part of a video: which frames, which rectangle (as shares of the picture), mirrored or not, which objects."""

    clip: AnnotatedClip
    pictures: tuple[Path, ...]
    frames: tuple[int, ...]
    box: tuple[float, float, float, float]
    mirrored: bool
    objects: tuple[int, ...]


def _cut(host: random.Random, clips: Sequence[AnnotatedClip], style: Style) -> _Cut:
    clip = host.choice(clips)
    known = clip.annotated
    stride = min(host.choice(STRIDES), max(1, (len(known) - 1) // max(style.frames - 1, 1)))
    start = host.randrange(max(1, len(known) - stride * (style.frames - 1)))
    chosen = [
        known[min(start + stride * i, len(known) - 1)] for i in range(style.frames)
    ]  # a short one waits at its end
    if host.random() < 0.5:
        chosen.reverse()
    side = host.uniform(SMALLEST, 1.0)
    left, top = host.uniform(0, 1 - side), host.uniform(0, 1 - side)
    objects = [i for i, mask in sorted(clip.masks(chosen[0]).items()) if mask.any()]
    host.shuffle(objects)
    return _Cut(
        clip,
        tuple(numbered_images(clip.video)),
        tuple(chosen),
        (left, top, left + side, top + side),
        host.random() < 0.5,
        tuple(objects[: style.layers]),
    )


def _read(cut: _Cut, index: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A frame of a cut as RGB ``[size, size, 3]`` and labels ``[size, size]``."""
    path = cut.pictures[index]
    picture = Image.fromarray(read_picture(path))  # as the tracker reads it: upright, 16 bits by their full range
    labels = np.zeros((picture.height, picture.width), np.uint8)
    masks = cut.clip.masks(index)
    for label, number in enumerate(cut.objects, start=1):
        mask = masks.get(number)
        if mask is None:
            continue
        if mask.shape != labels.shape:
            raise SourceError(f"{path} is {labels.shape[::-1]} pixels and its mask {mask.shape[::-1]}; make them equal")
        labels[mask] = label
    x0, y0, x1, y1 = cut.box
    box = (x0 * picture.width, y0 * picture.height, x1 * picture.width, y1 * picture.height)
    image = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box))
    truth = np.asarray(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST, box))
    return (image[:, ::-1], truth[:, ::-1]) if cut.mirrored else (image, truth)
