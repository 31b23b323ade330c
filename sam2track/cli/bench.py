"""``sam2track bench``: the time of a frame, by stage and number of objects."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

import sam2track as st
from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.progress import Progress

if TYPE_CHECKING:
    from sam2track.timing import StageTiming

FULL_BANK = 8  # frames after which an object's memory of recent frames is full, and the cost of a frame steady


def bench(  # noqa: PLR0913, a command's flags are its arguments
    clip: Annotated[str | None, typer.Argument(metavar="[CLIP]", help="Video to run on; default: made up.")] = None,
    *,
    objects: Annotated[str, typer.Option(metavar="N[,N...]", help="How many objects, one pass each.")] = "1,4",
    frames: Annotated[int, typer.Option(min=2, help="Timed frames a pass.")] = 30,
    warmup: Annotated[int, typer.Option(min=0, help="Frames before them.")] = FULL_BANK,
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Of made-up frames.")] = "1280x720",
    model: o.Model = None,
    config: o.ConfigFile = None,
    weights: o.Weights = None,
    image_size: o.ImageSize = None,
    device: o.Device = None,
    pins: o.Pins = None,
    sets: o.Sets = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Time the tracker, one frame after the other, without decoding or overlap: median and p99 by stage."""
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=device, pins=pins, sets=sets)
    counts = read_counts(objects, settings.tracking.max_objects)
    shape = read_size(size)
    tracker = st.Tracker.load(settings)
    passes: dict[int, dict[str, StageTiming]] = {}
    with Progress(len(counts) * (warmup + frames), quiet=quiet or as_json) as progress:
        for count in counts:
            pictures = made_up(shape) if clip is None else from_clip(clip)
            passes[count] = time_steps(tracker, pictures, count, warmup, frames, progress)
    if as_json:
        report.say_json({
            "model": tracker.name,
            "image_size": tracker.sizes.image_size,
            "placement": tracker.placement,
            "source": clip or f"made up, {size}",
            "frames": frames,
            "warmup": warmup,
            "passes": [{"objects": count, "stages": report.stages(stages)} for count, stages in passes.items()],
        })  # fmt: skip
        return
    report.say(f"{tracker.name} at {tracker.sizes.image_size} px; {', '.join(sorted(set(tracker.placement.values())))}")
    for count, stages in passes.items():
        each = stages["frame"]
        word = "object" if count == 1 else "objects"
        report.say_stages(f"\n{count} {word}: {1 / each.median:.1f} frames a second", stages)


def time_steps(
    tracker: st.Tracker,
    frames: Iterator[st.Frame],
    objects: int,
    warmup: int,
    count: int,
    progress: Progress | None = None,
) -> dict[str, StageTiming]:
    """Stage -> timing of ``count`` steps with ``objects`` objects, after ``warmup`` steps; ``frame`` is the whole.

    Raises:
        UsageError: ``frames`` are too few.
    """
    tracker.reset()
    before = tracker.timings
    done = 0
    try:
        for done, frame in enumerate(islice(frames, warmup + count), start=1):
            if done == warmup + 1 or done == 1:
                tracker.timings = st.Timings()  # forget the warm-up
            with tracker.timings.measure("frame"):
                tracker.step(frame, spread(objects, frame) if done == 1 else {})
            if progress is not None:
                progress.frame()
        if done < warmup + count:
            raise o.UsageError(
                f"the clip has {done} frames, but {warmup + count} are needed; lower --frames or --warmup"
            )
        return tracker.timings.summary()
    finally:
        tracker.timings = before
        tracker.reset()


def spread(objects: int, frame: st.Frame) -> dict[int, st.Prompt]:
    """One box for each object, side by side over the frame: the time of a frame does not depend on what is in it."""
    columns = math.ceil(math.sqrt(objects))
    rows = math.ceil(objects / columns)
    width, height = frame.width / columns, frame.height / rows
    boxes = [(column * width, row * height) for row in range(rows) for column in range(columns)][:objects]
    return {
        number: st.Prompt(box=(x + width / 5, y + height / 5, x + 4 * width / 5, y + 4 * height / 5))
        for number, (x, y) in enumerate(boxes, start=1)
    }


def made_up(shape: tuple[int, int]) -> Iterator[st.Frame]:
    """Endless frames of ``shape = (height, width)``: a texture that drifts."""
    import numpy as np

    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    texture = np.stack([np.sin(x / 23) * np.cos(y / 31), np.sin((x + y) / 41), np.cos(x / 17)], axis=2)
    image = (127 + 120 * texture).astype(np.uint8)
    index = 0
    while True:
        yield st.Frame(np.roll(image, 2 * index, axis=1), index, Fraction(index, 30))
        index += 1


def from_clip(clip: str) -> Iterator[st.Frame]:
    """The frames of a clip, which is closed with the iterator."""
    with st.open_source(clip) as source:
        yield from source


def read_counts(text: str, most: int) -> list[int]:
    """``"1,4"`` as numbers of objects."""
    counts = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if len(counts) != len(text.split(",")) or not all(1 <= count <= most for count in counts):
        raise o.UsageError(
            f"--objects {text!r} is not a list of numbers from 1 to {most} (tracking.max_objects), such as 1,4"
        )
    return list(dict.fromkeys(counts))


def read_size(text: str) -> tuple[int, int]:
    """``"1280x720"`` as ``(height, width)``."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    width, height = (int(side) for side in match.groups()) if match else (0, 0)
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise o.UsageError(f"--size {text!r} is not WIDTHxHEIGHT with sides of 16 to 8192, such as 1280x720")
    return height, width
