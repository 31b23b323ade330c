"""Evaluation: the semi-supervised protocol of video object segmentation, on any dataset of annotated clips.

Each object is prompted once, on the first frame on which its truth is given, and tracked to the end. The
predicted masks go to PNG and are scored from there, so that what is reported is what other tools measure
on the same files. As DAVIS does, the first and last annotated frames of a clip are not scored.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sam2track.data import FrameResult, Mask, Prompt
from sam2track.datasets import AnnotatedClip
from sam2track.datasets.predictions import read_prediction, write_prediction
from sam2track.engine import track
from sam2track.errors import ConfigError, MaskletError, PromptError, SinkError, SourceError, nearest
from sam2track.files import unfinished
from sam2track.masks.regions import bounding_box, interior_point
from sam2track.masks.scores import FrameScore, Score, score_frame, score_objects
from sam2track.pixels import survives
from sam2track.video import open_source

if TYPE_CHECKING:
    from sam2track.tracker import Tracker

PROMPTS = ("mask", "click", "box")


@dataclass(frozen=True, slots=True)
class ClipScore:
    """How well one clip was tracked.

    Attributes:
        name: of the clip.
        frames: scored frames.
        objects: object id -> its score; empty when the truth leaves no frame to score.
    """

    name: str
    frames: int
    objects: Mapping[int, Score]


def evaluate(
    clips: Iterable[AnnotatedClip],
    tracker: Tracker,
    *,
    prompt: str = "mask",
    save_masks: str | Path | None = None,
    keep_ends: bool = False,
    on_frame: Callable[[FrameResult], None] | None = None,
) -> Iterator[ClipScore]:
    """Track each clip from its truth and score what comes out, one clip at a time.

    Args:
        clips: of ``open_dataset``.
        tracker: is reset before each clip.
        prompt: what is given of an object's first true mask: the ``mask`` itself, a ``click`` on its innermost
            point, or its ``box``.
        save_masks: folder that keeps the predicted PNG, a folder a clip; a clip that is there already is only
            scored, so that an evaluation that was broken off goes on.
        keep_ends: score the first and the last annotated frame too.
        on_frame: called with each tracked frame.

    Raises:
        ConfigError: an unknown kind of prompt.
        SourceError, MaskletError, SinkError: from the iteration, with the name of what is wrong.
    """
    if prompt not in PROMPTS:
        raise ConfigError(f"prompt {prompt!r} is unknown{nearest(prompt, PROMPTS)}")
    return _evaluate(clips, tracker, prompt, save_masks, keep_ends, on_frame)


def score_masks(
    clips: Iterable[AnnotatedClip], predictions: str | Path, *, keep_ends: bool = False
) -> Iterator[ClipScore]:
    """Score masks that exist, whatever made them, one clip at a time.

    Args:
        clips: of ``open_dataset``.
        predictions: holds a folder a clip, laid out and numbered as the truth.
        keep_ends: score the first and the last annotated frame too.

    Raises:
        MaskletError: from the iteration, when a mask is missing, damaged or of another size.
    """
    return (score_clip(clip, Path(predictions) / clip.name, keep_ends=keep_ends) for clip in clips)


def predict(
    clip: AnnotatedClip,
    tracker: Tracker,
    folder: Path,
    *,
    prompt: str = "mask",
    frames: Iterable[int] | None = None,
    on_frame: Callable[[FrameResult], None] | None = None,
) -> None:
    """Track a clip from its truth and write the masks as PNG into ``folder``, which appears when it is whole.

    ``frames`` are the indices to write; None writes all.
    """
    prompts = first_prompts(clip, prompt, tracker.sizes.image_size)
    ids = sorted({i for objects in prompts.values() for i in objects})
    wanted = None if frames is None else set(frames)
    partial = unfinished(folder)
    _make(partial)
    tracker.reset()
    missing = set(clip.annotated)
    try:
        with open_source(clip.video) as source, track(source, tracker, prompts, policy="lossless") as run:
            for _, result in run:
                missing.discard(result.index)
                if wanted is None or result.index in wanted:
                    masks = {i: seen.mask for i, seen in result.objects.items()}
                    write_prediction(partial, clip, result.index, result.size, masks, ids)
                if on_frame is not None:
                    on_frame(result)
        if missing:
            frame = clip.frame_name(min(missing))
            raise SourceError(
                f"frame {frame} of {clip.video} is missing or damaged; copy it again, or leave out its mask"
            )
        _finish(partial, folder)
    except PromptError as error:  # of the truth: of another size than the pictures, or of more objects than allowed
        raise SourceError(f"sequence {clip.name} cannot be tracked: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def first_prompts(clip: AnnotatedClip, kind: str, image_size: int) -> dict[int, dict[int, Prompt]]:
    """Frame index -> object id -> prompt: each object on the first frame that has its true mask.

    A mask too small to be seen at ``image_size`` is given as a click.

    Raises:
        SourceError: the truth shows no object at all.
    """
    prompts: dict[int, dict[int, Prompt]] = {}
    known: set[int] = set()
    for index in clip.annotated:
        for i, mask in clip.masks(index).items():
            if i not in known and mask.any():
                known.add(i)
                seen = kind != "mask" or survives(mask, image_size)
                prompts.setdefault(index, {})[i] = as_prompt(mask, kind if seen else "click")
    if not prompts:
        raise SourceError(f"sequence {clip.name} has no object in its annotations; leave it out")
    return prompts


def as_prompt(mask: Mask, kind: str) -> Prompt:
    """A mask that is not empty as a prompt: itself, a click on its innermost point, or its box."""
    if kind == "mask":
        return Prompt(mask=mask)
    return Prompt(points=[interior_point(mask)]) if kind == "click" else Prompt(box=bounding_box(mask))


def score_clip(clip: AnnotatedClip, folder: Path, *, keep_ends: bool = False) -> ClipScore:
    """Score the PNG in ``folder`` against the truth, several frames at a time.

    Raises:
        MaskletError: a mask is missing, damaged or of another size than the truth.
    """
    indices = clip.annotated if keep_ends else clip.annotated[1:-1]
    if not folder.is_dir():
        raise MaskletError(f"{folder} is missing; expected the masks of sequence {clip.name}")

    def of_frame(index: int) -> dict[int, FrameScore]:
        truth, predicted = clip.masks(index), read_prediction(folder, clip, index)
        try:
            return score_frame(truth, predicted)
        except ValueError as error:
            raise MaskletError(f"sequence {clip.name}, frame {clip.frame_name(index)}: {error}") from error

    with ThreadPoolExecutor(_processors()) as pool:  # decoding and OpenCV leave Python's lock
        frames = list(pool.map(of_frame, indices))
    return ClipScore(clip.name, len(frames), score_objects(frames))


def _evaluate(
    clips: Iterable[AnnotatedClip],
    tracker: Tracker,
    prompt: str,
    save_masks: str | Path | None,
    keep_ends: bool,
    on_frame: Callable[[FrameResult], None] | None,
) -> Iterator[ClipScore]:
    with TemporaryDirectory(prefix="sam2track-") as temporary:
        home = Path(temporary if save_masks is None else save_masks)
        for clip in clips:
            folder = home / clip.name
            if not folder.is_dir():
                frames = clip.annotated if save_masks is None else None
                predict(clip, tracker, folder, prompt=prompt, frames=frames, on_frame=on_frame)
            yield score_clip(clip, folder, keep_ends=keep_ends)
            if save_masks is None:
                shutil.rmtree(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise SinkError(f"folder {folder} cannot be made ({error.strerror}); choose one you can write") from error


def _finish(partial: Path, folder: Path) -> None:
    try:
        os.replace(partial, folder)
    except OSError as error:
        raise SinkError(f"folder {folder} cannot be made ({error.strerror}); give each run its own") from error


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
