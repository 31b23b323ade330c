"""MOT and MOTS text, of MOTChallenge: a line for each object on each frame; frames count from 1.

    MOT     frame,id,left,top,width,height,confidence,-1,-1,-1      boxes; pixels count from 1 too
    MOTS    frame id class height width rle                         masks that do not overlap; id = 1000 class + n

The MOT16 paper (Milan et al., 2016, table 4) and the MOTS page of MOTChallenge say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import numpy as np

from sam2track.data import Mask
from sam2track.errors import MaskletError
from sam2track.masks import rle
from sam2track.masks.formats.files import read_lines, text_written_whole
from sam2track.masks.formats.tracks import Masklets, Seen, Tracks, follow, plain_id
from sam2track.masks.labels import merge
from sam2track.masks.lines import MaskletHeader

RATE = Fraction(25)  # the text does not say
PEDESTRIAN = 2  # the class that MOTS scores
MAX_ID = 2**31
MAX_NUMBER = 2**32

Row = tuple[int, int, Mask, float]  # frame from 0, object id, mask, score


def write_mot(path: Path, masklets: Masklets) -> list[str]:
    """Write the boxes of what is seen; returns what is lost."""
    with text_written_whole(path) as file:
        for result in masklets:
            for i, seen in result.objects.items():
                if seen.box is not None:
                    x0, y0, x1, y1 = seen.box
                    place = f"{x0 + 1:g},{y0 + 1:g},{x1 - x0:g},{y1 - y0:g}"
                    file.write(f"{result.index + 1},{plain_id(i, MAX_ID, 'MOT')},{place},{seen.score:.6f},-1,-1,-1\n")
    return ["MOT has boxes only: no masks, no size, no times, and no frame on which nothing is seen"]


def write_mots(path: Path, masklets: Masklets) -> list[str]:
    """Write the masks of what is seen, as pedestrians; returns what is lost."""
    overlap = 0
    with text_written_whole(path) as file:
        for result in masklets:
            masks = {plain_id(i, 999, "MOTS"): seen.mask for i, seen in result.objects.items()}
            labels = merge(masks, result.size)
            overlap += sum(int(mask.sum()) for mask in masks.values()) - int((labels > 0).sum())
            for i in masks:
                mask = labels == i
                if mask.any():
                    code = rle.encode(mask)
                    height, width = code["size"]
                    file.write(
                        f"{result.index + 1} {1000 * PEDESTRIAN + i} {PEDESTRIAN} {height} {width} {code['counts']}\n"
                    )
    lost = ["MOTS has no scores, no times, and no frame on which nothing is seen; all are of class 2, pedestrian"]
    if overlap:
        lost.append(f"MOTS masks may not overlap: on {overlap} pixels in all the lowest id was kept")
    return lost


def read_mot(path: Path, size: tuple[int, int] | None = None) -> Tracks:
    """The boxes of a MOT file, filled, as masks of ``size`` (height, width), which the text does not say.

    Raises:
        MaskletError: no size, or what is wrong with a line.
    """
    if size is None:
        raise MaskletError(f"{path} holds boxes without the size of the picture; give it: --size WIDTHxHEIGHT")
    height, width = size

    def row(number: int, line: str) -> Row:
        values = _numbers(path, number, line.split(","))
        if len(values) < 6:
            raise MaskletError(
                f"{path}: line {number} has {len(values)} values; expected frame,id,left,top,width,height"
            )
        left, top = values[2] - 1, values[3] - 1
        mask = np.zeros(size, bool)
        x0, y0, x1, y1 = (round(value) for value in (left, top, left + values[4], top + values[5]))
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
        score = values[6] if len(values) > 6 and 0 <= values[6] <= 1 else 1.0
        return *_place(path, number, values[0], values[1]), mask, score

    header = MaskletHeader(source=path.stem, width=width, height=height, rate=RATE)
    return Tracks(header, lambda: follow(_frames(path, row), size))


def read_mots(path: Path) -> Tracks:
    """The masks of a MOTS file; ``1000 class + n`` becomes object n where every line is of that class.

    Raises:
        MaskletError: what is wrong with a line.
    """

    def parts(number: int, line: str) -> tuple[list[float], str]:
        *numbers, counts = line.split()
        if len(numbers) != 5:
            raise MaskletError(f"{path}: line {number} has {len(numbers) + 1} values; expected"
                               " frame id class height width rle")  # fmt: skip
        return _numbers(path, number, numbers), counts

    number, first = next(read_lines(path), (1, ""))
    if not first:
        raise MaskletError(f"{path} is empty, so the size of the masks is unknown; expected MOTS lines")
    height, width = size = _size(path, number, parts(number, first)[0])
    lines = (parts(number, line)[0] for number, line in read_lines(path))
    prefixes = {(values[1] // 1000, values[2]) for values in lines}
    plain = len(prefixes) == 1 and all(prefix == kind for prefix, kind in prefixes)  # else two ids could become one

    def row(number: int, line: str) -> Row:
        values, counts = parts(number, line)
        if _size(path, number, values) != size:
            raise MaskletError(f"{path}: line {number} has a mask of another size than {width}x{height}")
        frame, i = _place(path, number, values[0], values[1])
        try:
            mask = rle.decode({"size": [height, width], "counts": counts})
        except MaskletError as error:
            raise MaskletError(f"{path}: line {number}: {error}") from error
        return frame, i % 1000 if plain else i, mask, 1.0

    header = MaskletHeader(source=path.stem, width=width, height=height, rate=RATE)
    return Tracks(header, lambda: follow(_frames(path, row), size))


def _frames(path: Path, row: Callable[[int, str], Row]) -> Iterator[tuple[int, Fraction, Seen]]:
    """Rows by frame, as they come: a file in the order of its frames is never in memory as a whole."""
    parsed = (row(number, line) for number, line in read_lines(path))
    previous = -1
    for frame, group in groupby(parsed, key=lambda item: item[0]):
        if frame <= previous:
            raise MaskletError(f"{path} goes back from frame {previous + 1} to {frame + 1}; sort it: sort -n")
        previous = frame
        seen: dict[int, tuple[Mask, float]] = {}
        for _, i, mask, score in group:
            if i in seen:
                raise MaskletError(f"{path} has object {i} twice on frame {frame + 1}; expected one line each")
            seen[i] = mask, score
        yield frame, frame / RATE, seen


def _numbers(path: Path, number: int, texts: list[str]) -> list[float]:
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(abs(value) < MAX_NUMBER for value in values):
        raise MaskletError(f"{path}: line {number} holds {','.join(texts)[:60]!r}; expected numbers")
    return values


def _place(path: Path, number: int, frame: float, object_id: float) -> tuple[int, int]:
    """Frame from 0 and object id."""
    if frame < 1 or frame % 1 or object_id < 0 or object_id % 1:
        raise MaskletError(f"{path}: line {number} is of frame {frame:g}, id {object_id:g}; expected whole numbers,"
                           " frames from 1 and tracks, not detections")  # fmt: skip
    return int(frame) - 1, int(object_id)


def _size(path: Path, number: int, values: list[float]) -> tuple[int, int]:
    height, width = values[3], values[4]
    if height % 1 or width % 1 or not (height >= 1 and width >= 1 and height * width <= rle.MAX_PIXELS):
        raise MaskletError(
            f"{path}: line {number} has a mask of {width:g}x{height:g}; expected 1 to {rle.MAX_PIXELS} pixels"
        )
    return int(height), int(width)
