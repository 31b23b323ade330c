"""Samples for quantisation: the float graphs of an exported folder track the user's clip, and their inputs are kept.

Real features, masks and memories, and histories from one frame on, so that padded memory slots are among the
samples. Two grey frames follow the clip: a range that never saw an object gone would cut off what says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sam2track.backends import ort
from sam2track.backends.manifest import Exported, Room
from sam2track.backends.quantize import COMPONENTS
from sam2track.backends.rehearse import Call, noted
from sam2track.backends.samples import Samples
from sam2track.config import Config, MemoryTable
from sam2track.contracts import CONTRACTS, Components
from sam2track.data import Frame, FrameResult, Prompt
from sam2track.errors import PromptError
from sam2track.schedule import Schedule
from sam2track.tracker import Tracker

EVERY = 2  # frames tracked for one that is sampled: neighbours are alike
HOLD_BACK = 4  # of as many sampled frames, the last is held back
GREY = 128, 2  # brightness and number of the frames added


def record(
    exported: Exported,
    frames: Iterable[Frame],
    prompts: Mapping[int, Mapping[int, Prompt]],
    folder: Path,
    progress: Callable[[FrameResult], None] = lambda _: None,
) -> Samples:
    """Track ``frames`` with the fp32 graphs of ``exported`` on the CPU, and keep what their components are given.

    Args:
        exported: the folder.
        frames: any iterable of frames.
        prompts: frame index -> object id -> prompt.
        folder: where the samples are kept; at 1024 px some 50 MB for a sampled frame with one object.
        progress: called after each frame.

    Raises:
        PromptError: a prompt that cannot be used, or too few frames tracked: it takes 8 from the first prompt on.
        BackendError: graphs that are missing, damaged, or cannot run.
    """
    samples = Samples(folder)
    keep: list[bool] = []  # whether this frame's calls are held back; empty on frames that are not sampled

    def note(call: Call) -> None:
        if keep and call.component in COMPONENTS:
            samples.add(call.component, call.inputs, held_back=keep[0])

    config = Config(model=exported.manifest.model, memory=memory_for(exported.manifest.room))
    tracker = Tracker(noted(float_components(exported), note), config)
    schedule = Schedule(prompts)
    tracked = count = 0
    frame = None
    for frame in frames:
        count = frame.index + 1
        _, rounds = schedule.take(frame.index)
        sampled = (tracked % EVERY == 0) and bool(rounds or tracker.object_ids)
        keep[:] = [tracked // EVERY % HOLD_BACK == HOLD_BACK - 1] if sampled else []
        result = tracker.step(frame, rounds[0] if rounds else {})
        for corrections in rounds[1:]:
            tracker.refine(corrections)
        tracked += bool(tracker.object_ids)
        progress(result)
    schedule.check_all_given(count)
    if frame is not None:
        keep[:] = [False]
        for _ in range(GREY[1]):
            tracker.step(replace(frame, image=np.full_like(frame.image, GREY[0])))
    if tracked <= EVERY * (HOLD_BACK - 1):
        raise PromptError(
            f"objects were tracked on {tracked} frames; calibration takes {EVERY * HOLD_BACK}: "
            "give a longer clip or an earlier prompt"
        )
    return samples


def float_components(exported: Exported) -> Components:
    """The fp32 graphs of a folder, all on the CPU."""
    parts: dict[str, Any] = {name: ort.component(name, exported) for name in CONTRACTS}
    return Components(sizes=exported.sizes, placement=dict.fromkeys(CONTRACTS, "onnx:cpu:fp32"), **parts)


def memory_for(room: Room) -> MemoryTable:
    """The most memory that graphs have room for, up to the default."""
    usual = MemoryTable()
    recent = min(usual.recent, room.slots[-1] - 1)
    prompted = min(usual.prompted, room.slots[-1] - recent, room.pointers)
    return MemoryTable(prompted=prompted, recent=recent, pointers=min(usual.pointers, room.pointers - prompted + 1))
