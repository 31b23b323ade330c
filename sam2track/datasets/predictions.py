"""Predicted masks of an annotated clip as PNG, laid out as the dataset lays out its truth.

<clip>/00000.png            a label map a frame
<clip>/001/00000.png        where objects may overlap, as in SA-V: a mask (0 or 255) an object and frame
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from sam2track.data import Mask
from sam2track.datasets.annotated import AnnotatedClip
from sam2track.errors import MaskletError
from sam2track.masks.labels import merge, read_labels, split, write_labels


def write_prediction(
    folder: Path, clip: AnnotatedClip, index: int, size: tuple[int, int], masks: Mapping[int, Mask], ids: Iterable[int]
) -> None:
    """Write the masks of one frame into the clip's folder.

    Args:
        folder: of the clip.
        clip: says how files are named, and whether objects may overlap; in a label map the lowest id wins.
        index: of the frame.
        size: (height, width) of the frame.
        masks: object id -> mask; objects that are left out are not seen.
        ids: of every object of the clip.

    Raises:
        SinkError: the disk refuses.
    """
    name = f"{clip.frame_name(index)}.png"
    if not clip.overlapping:
        write_labels(folder / name, merge(masks, size))
        return
    empty = np.zeros(size, bool)
    for i in ids:
        (folder / f"{i:03d}").mkdir(exist_ok=True)
        write_labels(folder / f"{i:03d}" / name, masks.get(i, empty).astype(np.uint8) * np.uint8(255))


def read_prediction(folder: Path, clip: AnnotatedClip, index: int) -> dict[int, Mask]:
    """Object id -> mask of one frame, from the clip's folder.

    Raises:
        MaskletError: a file is missing or damaged.
    """
    name = f"{clip.frame_name(index)}.png"
    return read_objects(folder, name) if clip.overlapping else split(read_labels(folder / name))


def read_objects(folder: Path, name: str) -> dict[int, Mask]:
    """Object id -> what is not 0 in the PNG ``name`` of its own numbered folder, where there is one.

    Raises:
        MaskletError: no object has such a file, or one is damaged.
    """
    numbered = {int(path.name): path / name for path in folder.glob("*") if path.name.isdecimal()}
    masks = {i: read_labels(path) > 0 for i, path in sorted(numbered.items()) if path.is_file()}
    if not masks:
        raise MaskletError(f"mask {folder}/<object>/{name} is missing; expected one of at least one object")
    return masks
