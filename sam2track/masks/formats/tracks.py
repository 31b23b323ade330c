"""Masklets between formats: a header and frame results, whatever file they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from sam2track.data import FrameResult, Mask, Prediction
from sam2track.masks.lines import MaskletHeader
from sam2track.masks.regions import bounding_box

Seen = Mapping[int, tuple[Mask, float]]  # object id -> mask and score


class Masklets(Protocol):
    """What every format is read into and written from; ``MaskletReader`` is one."""

    @property
    def header(self) -> MaskletHeader:
        """Size, rate, and the names of source and model."""

    def __iter__(self) -> Iterator[FrameResult]:
        """The frames in order, from the first, each time it is iterated."""


@dataclass(frozen=True)
class Tracks:
    """Masklets of a file in a foreign format; ``frames`` reads it from the start."""

    header: MaskletHeader
    frames: Callable[[], Iterator[FrameResult]]

    def __iter__(self) -> Iterator[FrameResult]:
        return self.frames()


def follow(rows: Iterable[tuple[int, Fraction, Seen]], size: tuple[int, int]) -> Iterator[FrameResult]:
    """Frame results of a format that lists an object only where it is seen.

    An object is there from its first mask on; where it has none after that, it is not visible.

    Args:
        rows: index, time, and what is seen, frame by frame.
        size: (height, width) of every mask.
    """
    hidden = Prediction(np.zeros(size, bool), 0.0, visible=False, box=None)
    known: dict[int, Prediction] = {}
    for index, time, seen in rows:
        known |= dict.fromkeys(seen, hidden)
        now = {i: Prediction(mask, score, True, bounding_box(mask)) for i, (mask, score) in seen.items() if mask.any()}
        yield FrameResult(index, time, size, {**known, **now})


def plain_id(object_id: int, most: int, where: str) -> int:
    """``object_id`` if it is from 1 to ``most``, what ``where`` can hold; else raises ``ValueError``."""
    if not 1 <= object_id <= most:
        raise ValueError(f"object {object_id} cannot be in {where}, which holds ids from 1 to {most}")
    return object_id
