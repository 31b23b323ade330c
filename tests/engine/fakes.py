"""A source and a tracker without pixels or a network."""

import threading
import time
from fractions import Fraction

import numpy as np

from sam2track.data import Frame, FrameResult, Prompt
from sam2track.timing import Timings

CLICK = Prompt(points=[(1, 1)])
APART = {"image_encoder": "fake:npu:fp16", "memory_attention": "fake:cpu:fp32"}
TOGETHER = {"image_encoder": "fake:cpu:fp32", "memory_attention": "fake:cpu:fp32"}
GPU = {"image_encoder": "torch:cuda:0:fp16", "memory_attention": "torch:cuda:0:fp16"}
PATIENCE = 20.0  # seconds until a wait that should end at once counts as hanging


def make_frame(index):
    return Frame(np.full((4, 6, 3), index % 256, np.uint8), index, Fraction(index, 30))


class FakeSource:
    """Frames from memory; ``period`` seconds apart, ``hooks`` run before the frame of that index."""

    def __init__(self, count, live=False, period=0.0, hooks=None):
        self.count, self.live, self.period, self.hooks = count, live, period, hooks or {}
        self.produced = 0
        self.ended = threading.Event()

    def __iter__(self):
        for index in range(self.count):
            if self.period:
                time.sleep(self.period)
            self.hooks.get(index, lambda: None)()
            self.produced += 1
            yield make_frame(index)
        self.ended.set()


class FakeEncoded:
    def __init__(self, frame):
        self.frame = frame


class FakeTracker:
    """Follows ids, not pixels; ``on_encode`` and ``on_step`` are called with the frame's index."""

    def __init__(self, placement=APART, on_encode=None, on_step=None):
        self.placement = placement
        self.timings = Timings()
        self.object_ids = ()
        self.on_encode, self.on_step = on_encode or (lambda index: None), on_step or (lambda index: None)
        self.encoded, self.given, self.log = [], {}, []

    def encode(self, frame):
        self.on_encode(frame.index)
        self.encoded.append(frame.index)
        return FakeEncoded(frame)

    def step(self, frame, prompts=None):
        frame = getattr(frame, "frame", frame)
        self.on_step(frame.index)
        self.frame = frame
        return self._give("step", prompts)

    def refine(self, prompts):
        return self._give("refine", prompts)

    def remove(self, object_id):
        self.log.append(("remove", object_id))
        self.object_ids = tuple(i for i in self.object_ids if i != object_id)

    def _give(self, verb, prompts):
        if prompts:
            self.log.append((verb, self.frame.index, dict(prompts)))
        self.object_ids = tuple(dict.fromkeys((*self.object_ids, *prompts)))
        ids = self.object_ids if verb == "step" else prompts  # like the real one
        return FrameResult(self.frame.index, self.frame.time, (4, 6), dict.fromkeys(ids, verb))


def engine_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sam2track")]


def drain(run, indices):
    """Iterate ``run``, noting the frames that came before it failed."""
    for frame, _ in run:
        indices.append(frame.index)
