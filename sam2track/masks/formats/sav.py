"""SA-V JSON, ``sav_000001_manual.json``: the masks of every fourth frame of a video of 24 frames a second.

Written from the description and the example that come with the dataset (N. Ravi et al., *SAM 2*, 2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from sam2track.data import FrameResult, Mask
from sam2track.errors import MaskletError
from sam2track.masks import rle
from sam2track.masks.formats.files import Untrusted, read_json, text_written_whole, write_object
from sam2track.masks.formats.tracks import Masklets, Seen, Tracks, follow
from sam2track.masks.lines import MaskletHeader, readable

MAX_FRAMES = 2**22  # two days
EVERY = 4  # video frames for one that is annotated
DEFAULT_RATE = Fraction(24)
COARSEST = 1001  # most that the denominator of a rate may be
FASTEST = 100_000  # frames a second
BUCKETS = ((32**2, "small"), (96**2, "medium"))  # below so many pixels; else large

_Side = Annotated[float, Field(ge=1, le=2**15)]


class _Rle(Untrusted):
    size: tuple[int, int]
    counts: str


class SavFile(Untrusted):
    """The keys of an SA-V JSON that matter here; ``masklet`` is by annotated frame, then by object."""

    video_id: str
    video_height: _Side
    video_width: _Side
    video_frame_count: Annotated[float, Field(ge=1, le=2**31)]
    video_duration: Annotated[float, Field(gt=0)] | None = None
    masklet: list[list[_Rle]]
    masklet_id: list[int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the video."""
        return int(self.video_height), int(self.video_width)

    @property
    def rate(self) -> Fraction:
        """Frames a second of the video."""
        if self.video_duration is None:
            return DEFAULT_RATE
        return Fraction(self.video_frame_count / self.video_duration).limit_denominator(COARSEST)

    @property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the annotated frames."""
        return tuple(EVERY * entry for entry in range(len(self.masklet)))

    def masks(self, index: int) -> dict[int, Mask]:
        """Object id -> mask on an annotated frame; empty where the object is not seen.

        Raises:
            MaskletError: an RLE is damaged, or of another size than the video.
        """
        masks = {}
        for i, encoded in zip(self.masklet_id, self.masklet[index // EVERY], strict=True):
            if encoded.size != self.size:
                raise MaskletError(f"masklet {i} on frame {index} has size {encoded.size}, the video {self.size}")
            masks[i] = rle.decode({"size": list(encoded.size), "counts": encoded.counts})
        return masks


def read_file(path: Path) -> SavFile:
    """An SA-V JSON, checked but for its RLE.

    Raises:
        MaskletError: what is wrong with it.
    """
    content = read_json(path, SavFile, "an SA-V JSON")
    if not all(len(objects) == len(content.masklet_id) for objects in content.masklet):
        raise MaskletError(f"{path}: a frame has not one mask for each of {len(content.masklet_id)} masklet_id")
    if len(set(content.masklet_id)) < len(content.masklet_id) or min(content.masklet_id, default=0) < 0:
        raise MaskletError(f"{path}: masklet_id {content.masklet_id[:20]} repeat or are negative; expected ids from 0")
    count, duration = content.video_frame_count, content.video_duration
    if duration is not None and not 1 / COARSEST <= count / duration <= FASTEST:
        raise MaskletError(
            f"{path}: {count:g} frames in {duration:g} seconds are not a video;"
            f" expected a video_duration that makes 1/{COARSEST} to {FASTEST} frames a second"
        )
    return content


def read_sav(path: Path) -> Tracks:
    """Masklets of an SA-V JSON; the frames between those annotated are left out."""
    content = read_file(path)
    height, width = content.size
    header = MaskletHeader(source=content.video_id, width=width, height=height, rate=content.rate)

    def rows() -> Iterator[tuple[int, Fraction, Seen]]:
        for index in content.annotated:
            masks = content.masks(index)
            yield index, index / content.rate, {i: (mask, 1.0) for i, mask in masks.items() if mask.any()}

    return Tracks(header, lambda: follow(rows(), content.size))


def write_sav(path: Path, masklets: Masklets) -> list[str]:
    """Write every fourth frame as SA-V JSON; returns what was left out."""
    rows: list[dict[int, rle.Rle]] = []
    areas: dict[int, list[int]] = {}  # object id -> area by annotated frame, from the first on
    last, read = -1, 0
    for result in masklets:
        last, read = result.index, read + 1
        if result.index % EVERY == 0:
            _add_row(rows, areas, result)
    ids = sorted(areas)
    header = masklets.header
    empty = rle.encode(np.zeros((header.height, header.width), bool)) if rows else None
    filled = ([row.get(i, empty) for i in ids] for row in rows)
    with text_written_whole(path) as file:
        write_object(file, {"masklet": filled}, _facts(path, header, last + 1, ids, areas).items())
    kept = sum(1 for row in rows if row is not _MISSING)
    lost = ["SA-V has no scores, and no time but a rate"]
    if kept < read:
        lost.append(f"SA-V holds every {EVERY}th frame: {kept} of {read} were written")
    return lost


_MISSING: dict[int, rle.Rle] = {}


def _add_row(rows: list[dict[int, rle.Rle]], areas: dict[int, list[int]], result: FrameResult) -> None:
    """Append the masks of an annotated frame, after empty rows for frames that are missing."""
    if result.index > MAX_FRAMES:
        raise MaskletError(f"frame {result.index} is past {MAX_FRAMES}, the most an SA-V JSON may have here")
    rows += [_MISSING] * (result.index // EVERY - len(rows))
    for i in result.objects:
        areas.setdefault(i, [0] * len(rows))
    for i, area in areas.items():
        area.extend([0] * (len(rows) - len(area)))
        area.append(int(result.objects[i].mask.sum()) if i in result.objects else 0)
    rows.append({i: rle.encode(seen.mask) for i, seen in result.objects.items()})


def _facts(
    path: Path, header: MaskletHeader, frames: int, ids: Sequence[int], areas: dict[int, list[int]]
) -> dict[str, Any]:
    """The keys of SA-V but for the masks; what nobody annotated is left empty or 0."""
    rate = header.rate or DEFAULT_RATE
    pixels = header.height * header.width
    seen = {i: [area for area in areas[i] if area] for i in ids}
    mean = {i: float(np.mean(seen[i])) if seen[i] else 0.0 for i in ids}
    first = {i: next((entry for entry, area in enumerate(areas[i]) if area), 0) for i in ids}
    changes = {i: int(np.count_nonzero(np.diff(np.array(areas[i][first[i] :]) > 0))) for i in ids}
    stem = Path(header.source or readable(path.name)).stem
    return {
        "video_id": stem.removesuffix("_manual").removesuffix("_auto"),
        "video_duration": float(frames / rate),
        "video_frame_count": float(frames),
        "video_height": float(header.height),
        "video_width": float(header.width),
        "video_resolution": float(pixels),
        "video_environment": "",
        "video_split": "",
        "masklet_id": list(ids),
        "masklet_size_rel": [mean[i] / pixels if pixels else 0.0 for i in ids],
        "masklet_size_abs": [mean[i] for i in ids],
        "masklet_size_bucket": [next((name for below, name in BUCKETS if mean[i] < below), "large") for i in ids],
        "masklet_visibility_changes": [changes[i] for i in ids],
        "masklet_first_appeared_frame": [float(EVERY * first[i]) for i in ids],
        "masklet_frame_count": [len(areas[i]) for i in ids],
        "masklet_edited_frame_count": [0 for _ in ids],
        "masklet_type": ["auto" for _ in ids],
        "masklet_stability_score": None,
        "masklet_num": len(ids),
    }
