"""A folder of palette PNG named after the frames, ``00000.png``, as DAVIS has one for each sequence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from sam2track.data import FrameResult
from sam2track.errors import MaskletError, SinkError
from sam2track.files import unfinished
from sam2track.masks.formats.tracks import Masklets, Seen, Tracks, follow, plain_id
from sam2track.masks.labels import MAX_ID, merge, read_labels, split, write_labels
from sam2track.masks.lines import MaskletHeader

RATE = Fraction(24)  # a folder does not say; DAVIS was shot at 24
MAX_INDEX = 10**9


def read_davis(folder: Path) -> Tracks:
    """Masklets of a folder of numbered PNG; a frame's index is the number in its name.

    Raises:
        MaskletError: there is none, a name is no number, or on iterating, one is damaged or of another size.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png" and path.name[0] != ".")
    except OSError as error:
        raise MaskletError(f"folder {folder} cannot be read ({error.strerror}); check the path") from error
    numbered: dict[int, Path] = {}
    for path in files:
        if not path.stem.isdecimal() or int(path.stem) > MAX_INDEX or int(path.stem) in numbered:
            raise MaskletError(f"{path} is not named after a frame; expected 00000.png, 00001.png, ...")
        numbered[int(path.stem)] = path
    if not numbered:
        raise MaskletError(f"folder {folder} holds no PNG; expected 00000.png, 00001.png, ...")
    height, width = size = read_labels(numbered[min(numbered)]).shape

    def rows() -> Iterator[tuple[int, Fraction, Seen]]:
        for index in sorted(numbered):
            labels = read_labels(numbered[index])
            if labels.shape != size:
                raise MaskletError(
                    f"mask {numbered[index]} is {labels.shape[1]}x{labels.shape[0]}, not {width}x{height}"
                )
            yield index, index / RATE, {i: (mask, 1.0) for i, mask in split(labels).items()}

    header = MaskletHeader(source=folder.name, width=width, height=height, rate=RATE)
    return Tracks(header, lambda: follow(rows(), (height, width)))


def write_davis(folder: Path, masklets: Masklets) -> list[str]:
    """Write a label map a frame into a new folder, which takes its name when it is whole; returns what is lost.

    Raises:
        SinkError: the folder exists, or the disk refuses.
    """
    if folder.exists():
        raise SinkError(f"folder {folder} exists; give another name")
    partial = unfinished(folder)
    overlap = 0
    try:
        partial.mkdir()
        for result in masklets:
            overlap += _write_frame(partial, result)
        os.replace(partial, folder)
    except OSError as error:
        raise SinkError(f"folder {folder} cannot be written ({error.strerror}); choose one you can write") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    lost = ["a palette PNG has no scores and no times"]
    if overlap:
        lost.append(f"objects overlap on {overlap} pixels in all: there the lowest id was kept")
    return lost


def _write_frame(folder: Path, result: FrameResult) -> int:
    """Write one label map; returns how many pixels belong to several objects, counted for each that loses them."""
    masks = {plain_id(i, MAX_ID, "a palette PNG"): seen.mask for i, seen in result.objects.items()}
    labels = merge(masks, result.size)
    write_labels(folder / f"{result.index:05d}.png", labels)
    return int(sum(np.count_nonzero(mask) for mask in masks.values()) - np.count_nonzero(labels))
