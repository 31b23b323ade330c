"""Label maps: one picture whose values are object ids, 0 the background, as DAVIS and YouTube-VOS ship masks.

Read and written by Pillow, since the values of a palette PNG are the ids and most readers give its
colours instead. A pixel of a label map belongs to one object: where masks overlap, the lowest id wins,
as in the official package's scripts.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2track.data import Mask
from sam2track.errors import MaskletError, SinkError

Labels = NDArray[np.uint8 | np.uint16]  # [H, W]

MAX_PIXELS = 2**26  # of one picture; below what Pillow warns of
MAX_BYTES = 2**28
MAX_ID = 2**16 - 1

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MODES = ("1", "L", "P", "I;16")  # one value a pixel
_DAMAGE = (OSError, SyntaxError, ValueError, IndexError, struct.error, zlib.error, Image.DecompressionBombError)


def _palette() -> bytes:
    """The colours of DAVIS and PASCAL VOC: id bits 0, 3, 6 make red from the top bit down, 1, 4, 7 green, 2, 5 blue."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        colours[:, bit % 3] |= (ids >> bit & 1) << (7 - bit // 3)
    return colours.astype(np.uint8).tobytes()


PALETTE = _palette()


def read_labels(path: str | Path) -> Labels:
    """The object ids in a PNG: indices of a palette, or values of a grey picture of 1, 8 or 16 bits.

    Raises:
        MaskletError: it is missing, no PNG, damaged, in colour, or of more than ``MAX_PIXELS`` pixels.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MaskletError(f"mask {path} cannot be read ({error.strerror}); check the path") from error
    if len(data) < 26 or not data.startswith(_SIGNATURE) or len(data) > MAX_BYTES:
        raise MaskletError(f"mask {path} is not a PNG of at most {MAX_BYTES} bytes; give a palette or grey PNG")
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= MAX_PIXELS:
        raise MaskletError(f"mask {path} is {width}x{height}; expected 1 to {MAX_PIXELS} pixels")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            mode, values = picture.mode, np.array(picture) if picture.mode in _MODES else None
    except _DAMAGE as error:
        raise MaskletError(f"mask {path} is damaged ({' '.join(str(error).split())}); copy it again") from error
    if values is None:
        raise MaskletError(f"mask {path} is in colour ({mode}); expected object ids: a palette or grey PNG")
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def write_labels(path: str | Path, labels: Labels) -> None:
    """Write a label map as a palette PNG in the colours of DAVIS; as 16-bit grey when an id exceeds 255.

    Raises:
        SinkError: the disk refuses.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    wide = bool(labels.size and labels.max() > 255)
    picture = Image.fromarray(np.ascontiguousarray(labels, np.uint16 if wide else np.uint8))
    if not wide:
        picture.putpalette(PALETTE)
    try:
        picture.save(partial, "PNG", compress_level=1)  # a label map is small at any level
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SinkError(f"{path} cannot be written ({error.strerror}); choose a folder you can write") from error


def split(labels: Labels) -> dict[int, Mask]:
    """Object id -> mask, of the ids that occur, ascending."""
    ids = np.flatnonzero(np.bincount(labels.ravel()))
    return {int(i): labels == i for i in ids if i}


def merge(masks: Mapping[int, Mask], size: tuple[int, int]) -> Labels:
    """The label map of masks of ``size`` (height, width); where they overlap, the lowest id wins.

    Raises:
        ValueError: an id that is not from 1 to ``MAX_ID``.
    """
    if any(not 1 <= i <= MAX_ID for i in masks):
        raise ValueError(f"object ids {sorted(masks)} do not fit a label map; expected 1 to {MAX_ID}")
    kind = np.uint16 if max(masks, default=0) > 255 else np.uint8
    labels: Labels = np.zeros(size, kind)
    for i in sorted(masks, reverse=True):
        labels[masks[i]] = i
    return labels
