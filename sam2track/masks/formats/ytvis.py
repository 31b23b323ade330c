"""YouTube-VIS JSON, one video in a file: an annotation for each object, with a segmentation or null for each frame.

Keys that its readers ignore keep what it has no key for: ``frame_indices`` and ``times`` of the video, ``scores``
and ``track_id`` of an annotation, ``sam2track`` of the file. So a file written here is read back without loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from sam2track.errors import MaskletError
from sam2track.masks import rle
from sam2track.masks.formats.coco import (
    DEFAULT_RATE,
    Index,
    ObjectId,
    Origin,
    Score,
    Segmentation,
    Side,
    as_header,
    as_mask,
    as_origin,
    xywh,
)
from sam2track.masks.formats.files import Untrusted, read_json, text_written_whole, write_object
from sam2track.masks.formats.tracks import Masklets, Seen, Tracks, follow
from sam2track.masks.lines import Exact, readable


class _Video(Untrusted):
    id: int
    height: Side
    width: Side
    length: Index
    frame_indices: list[Index] | None = None
    times: list[Exact] | None = None


class _Annotation(Untrusted):
    id: int
    video_id: int
    segmentations: list[Segmentation | None]
    track_id: ObjectId | None = None
    score: Score = 1.0
    scores: list[Score | None] | None = None


class _YtvisFile(Untrusted):
    videos: list[_Video]
    annotations: list[_Annotation]
    sam2track: Origin = Origin()


def read_ytvis(path: Path) -> Tracks:
    """Masklets of a YouTube-VIS JSON of one video.

    Raises:
        MaskletError: what is wrong with it; on iterating, for a damaged mask.
    """
    content = read_json(path, _YtvisFile, "a YouTube-VIS JSON")
    if len(content.videos) != 1:
        raise MaskletError(f"{path} has {len(content.videos)} videos; expected one: take it apart")
    video = content.videos[0]
    objects: dict[int, _Annotation] = {}
    for annotation in content.annotations:
        _check(path, video, annotation)
        i = annotation.id if annotation.track_id is None else annotation.track_id
        if i in objects or i < 0:
            raise MaskletError(f"{path}: several annotations are of object {i}, or it is negative; expected one each")
        objects[i] = annotation
    indices = list(range(video.length)) if video.frame_indices is None else video.frame_indices
    rate = content.sam2track.rate or DEFAULT_RATE
    times = [index / rate for index in indices] if video.times is None else video.times
    if not len(indices) == len(times) == video.length or indices != sorted(set(indices)):
        raise MaskletError(f"{path}: frame_indices or times do not fit length {video.length}; expected one a frame")
    size = video.height, video.width

    def rows() -> Iterator[tuple[int, Fraction, Seen]]:
        for place, (index, time) in enumerate(zip(indices, times, strict=True)):
            yield index, time, _seen(path, objects, place, size)

    return Tracks(as_header(content.sam2track, size), lambda: follow(rows(), size))


def write_ytvis(path: Path, masklets: Masklets) -> list[str]:
    """Write YouTube-VIS; the RLE of the whole video are in memory at once. Returns what is lost."""
    indices: list[int] = []
    times: list[str] = []
    objects: dict[int, list[dict[str, Any] | None]] = {}
    for result in masklets:
        for i, seen in result.objects.items():
            column = objects.setdefault(i, [])
            column += [None] * (len(indices) - len(column))
            found = {"segmentation": rle.encode(seen.mask), "bbox": xywh(seen), "area": int(seen.mask.sum()),
                     "score": seen.score}  # fmt: skip
            column.append(found if seen.mask.any() else None)
        indices.append(result.index)
        times.append(str(result.time))
    header = masklets.header
    video = {
        "id": 1,
        "width": header.width,
        "height": header.height,
        "length": len(indices),
        "file_names": [f"{readable(path.stem)}/{index:05d}.jpg" for index in indices],
        "frame_indices": indices,
        "times": times,
    }
    annotations = (_annotation(number, i, objects[i], video) for number, i in enumerate(sorted(objects), start=1))
    rest = {
        "videos": [video],
        "categories": [{"id": 1, "name": "object", "supercategory": ""}],
        "licenses": [],
        "info": {"description": header.source or readable(path.stem)},
        "sam2track": as_origin(header),
    }
    with text_written_whole(path) as file:
        write_object(file, {"annotations": annotations}, rest.items())
    return ["YouTube-VIS has no object that is tracked but not seen: once seen, it reads back as not visible"]


def _annotation(number: int, i: int, column: list[dict[str, Any] | None], video: dict[str, Any]) -> dict[str, Any]:
    column = column + [None] * (video["length"] - len(column))

    def each(key: str) -> list[Any]:
        return [None if found is None else found[key] for found in column]

    return {
        "id": number,
        "video_id": video["id"],
        "category_id": 1,
        "track_id": i,
        "iscrowd": 0,
        "width": video["width"],
        "height": video["height"],
        "length": video["length"],
        # Its readers know runs, not the compressed counts of COCO.
        "segmentations": [code and {"size": code["size"], "counts": rle.runs(code)} for code in each("segmentation")],
        "bboxes": each("bbox"),
        "areas": each("area"),
        "scores": each("score"),
    }


def _check(path: Path, video: _Video, annotation: _Annotation) -> None:
    where = f"{path}: annotation {annotation.id}"
    if annotation.video_id != video.id:
        raise MaskletError(f"{where} is of video {annotation.video_id}, which is missing")
    counts = [len(annotation.segmentations), len(annotation.scores or annotation.segmentations)]
    if counts != [video.length, video.length]:
        raise MaskletError(f"{where} has {counts[0]} segmentations; expected one for each of {video.length} frames")


def _seen(path: Path, objects: dict[int, _Annotation], place: int, size: tuple[int, int]) -> Seen:
    seen = {}
    for i, annotation in objects.items():
        segmentation = annotation.segmentations[place]
        if segmentation is not None:
            score = annotation.scores[place] if annotation.scores else None
            try:
                seen[i] = as_mask(segmentation, size), annotation.score if score is None else score
            except MaskletError as error:
                raise MaskletError(f"{path}: annotation {annotation.id}, frame {place}: {error}") from error
    return seen
