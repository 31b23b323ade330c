"""Bool masks to and from COCO compressed run-length encoding.

``{"size": [H, W], "counts": text}``. pycocotools encodes. Decoding is done here, because the text may
come from anywhere: the C decoder returns uninitialised memory for counts that stop short of the mask
and reads past the end of a text that breaks off inside a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from sam2track.data import Mask
from sam2track.errors import MaskletError

MAX_PIXELS = 2**26  # of one mask: twice an 8K frame
MAX_COUNTS = 2**23  # characters: noise that fills a 4K frame needs half of that
MAX_POINTS = 2**16  # numbers of one polygon
MAX_DIGITS = 7  # of one run: 5 bits each, enough for +-2^34


class Rle(TypedDict):
    """A mask as COCO writes it; ``counts`` is ASCII text."""

    size: list[int]
    counts: str


def encode(mask: Mask) -> Rle:
    """The COCO RLE of a bool mask ``[H, W]``.

    Raises:
        ValueError: not a two-dimensional bool array, empty, or of more than ``MAX_PIXELS`` pixels.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_ or not 0 < mask.size <= MAX_PIXELS:
        raise ValueError(
            f"mask is {mask.dtype}{list(mask.shape)}; expected bool [H, W] of at most {MAX_PIXELS} pixels, not empty"
        )
    columns = cv2.transpose(np.ascontiguousarray(mask).view(np.uint8))  # COCO runs go down the columns
    counts = coco.encode(columns.T)["counts"]
    return {"size": [int(side) for side in mask.shape], "counts": counts.decode("ascii")}


def decode(rle: Rle) -> Mask:
    """The bool mask ``[H, W]`` of a COCO RLE from any source.

    Raises:
        MaskletError: a size or counts of another type, a size out of range, or counts that are damaged
            or do not fill the size exactly.
    """
    height, width = _checked_size(rle.get("size"))
    counts = rle.get("counts")
    if not isinstance(counts, str):
        raise MaskletError(f"RLE counts are {type(counts).__name__}; expected compressed COCO counts as text")
    return _painted(_runs(counts), height, width)


def runs(rle: Rle) -> list[int]:
    """The lengths of the runs of an RLE that ``encode`` made: COCO's uncompressed counts."""
    lengths: list[int] = _runs(rle["counts"]).tolist()
    return lengths


def decode_runs(lengths: Sequence[int], size: object) -> Mask:
    """The bool mask ``[H, W]`` of uncompressed COCO counts of a mask of ``size`` [H, W], from any source.

    Raises:
        MaskletError: as ``decode``.
    """
    height, width = _checked_size(size)
    if not 0 < len(lengths) <= height * width + 1 or not all(0 <= run <= height * width for run in lengths):
        raise MaskletError(f"RLE has {len(lengths)} runs that do not fit a {width}x{height} mask; the RLE is damaged")
    return _painted(np.asarray(lengths, dtype=np.int64), height, width)


def decode_polygons(polygons: Sequence[Sequence[float]], size: object) -> Mask:
    """The bool mask ``[H, W]`` of COCO polygons ``[x, y, x, y, ...]`` in a picture of ``size`` [H, W], from any source.

    Raises:
        MaskletError: a polygon of fewer than three points, or one that lies far outside the picture.
    """
    height, width = _checked_size(size)
    reach = height + width  # COCO's painter takes time and memory with the length of an outline
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2 or len(polygon) > MAX_POINTS:
            raise MaskletError(f"polygon has {len(polygon)} numbers; expected x, y of 3 to {MAX_POINTS // 2} points")
        if not all(-reach <= value <= 2 * reach for value in polygon):
            raise MaskletError(f"polygon lies outside the {width}x{height} picture; expected coordinates in pixels")
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    painted = coco.merge(coco.frPyObjects([list(map(float, polygon)) for polygon in polygons], height, width))
    return decode({"size": [height, width], "counts": painted["counts"].decode("ascii")})


def _painted(lengths: NDArray[np.int64], height: int, width: int) -> Mask:
    """The mask whose runs are ``lengths``, if they fill it."""
    if lengths.min() < 0 or lengths.max() > height * width or lengths.sum() != height * width:
        raise MaskletError(f"RLE counts do not fill the {width}x{height} mask exactly; the RLE is damaged")
    inside = np.arange(lengths.size, dtype=np.uint8) & 1  # runs alternate and begin with the background
    columns = np.repeat(inside, lengths).reshape(width, height)
    return np.asarray(cv2.transpose(columns)).reshape(height, width).view(np.bool_)


def _checked_size(size: object) -> tuple[int, int]:
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int for side in size):
        raise MaskletError(f"RLE size is {str(size)[:60]}; expected [height, width]")
    height, width = size
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise MaskletError(f"RLE size {width}x{height} is out of range; expected 1 to {MAX_PIXELS} pixels")
    return height, width


def _runs(counts: str) -> NDArray[np.int64]:
    """The run lengths of compressed counts.

    Each run is a signed number in base 32, low digit first, one character a digit: its code less 48
    holds 5 bits of value and, in the sixth, whether another digit follows. From the fourth run on,
    a number is the difference from the run two before.
    """
    damaged = MaskletError(f"RLE counts {counts[:20]!r} are damaged; expected compressed COCO counts")
    if not 0 < len(counts) <= MAX_COUNTS or not counts.isascii():
        raise damaged
    codes = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    last_digits = np.flatnonzero(codes & 32 == 0)
    if codes.min() < 0 or codes.max() > 63 or not last_digits.size or last_digits[-1] != codes.size - 1:
        raise damaged
    starts = np.concatenate(([0], last_digits[:-1] + 1))
    digits = last_digits - starts + 1
    if digits.max() > MAX_DIGITS:
        raise damaged
    places = np.arange(codes.size) - np.repeat(starts, digits)
    lengths = np.add.reduceat((codes & 31) << (5 * places), starts)
    negative = codes[last_digits] & 16 != 0
    lengths[negative] -= np.left_shift(1, 5 * digits[negative])
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths
