"""How long each stage of a frame takes.

One ``Timings`` is shared by every thread of a run. Its memory is bounded: counts and totals are
exact, medians and 99th percentiles are of the last ``WINDOW`` samples of a stage.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Lock
from time import perf_counter

import numpy as np

STAGES = (  # in the order of the path of a frame
    "decode",
    "preprocess",
    "image_encoder",
    "memory_attention",
    "mask_decoder",
    "memory_encoder",
    "postprocess",
    "render",
    "write",
)
WINDOW = 4096  # about two minutes at 30 frames a second


@dataclass(frozen=True, slots=True)
class StageTiming:
    """What one stage cost, in seconds.

    Attributes:
        count: samples since the start.
        median: of the last ``WINDOW`` samples.
        p99: the 99th percentile of the same, interpolated between samples.
        total: sum of all samples since the start.
    """

    count: int
    median: float
    p99: float
    total: float


class Timings:
    """Durations by stage, from any thread.

    Usage: ``with timings.measure("render"): ...``, or ``timings.add("render", seconds)`` for a
    duration taken elsewhere; then ``timings.summary()``. A block that raises is not counted. A
    measure costs about a microsecond. It takes wall time: work queued on an accelerator counts
    only where the block waits for it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._series: dict[str, _Series] = {}

    def measure(self, stage: str) -> Measure:
        """A context manager that adds its own duration to ``stage``."""
        return Measure(self, stage)

    def add(self, stage: str, seconds: float) -> None:
        """Add one duration to ``stage``; a name outside ``STAGES`` opens a stage of its own."""
        with self._lock:
            series = self._series.get(stage)
            if series is None:
                series = self._series[stage] = _Series()
            series.count += 1
            series.total += seconds
            series.window.append(seconds)

    def summary(self) -> dict[str, StageTiming]:
        """Stage -> timing of the stages seen: those of ``STAGES`` in that order, then others as first seen."""
        with self._lock:
            seen = {stage: (s.count, s.total, list(s.window)) for stage, s in self._series.items()}
        known = [stage for stage in STAGES if stage in seen]
        others = [stage for stage in seen if stage not in STAGES]
        timings = {}
        for stage in known + others:
            count, total, window = seen[stage]
            median, p99 = np.quantile(window, (0.5, 0.99))
            timings[stage] = StageTiming(count, float(median), float(p99), total)
        return timings


class Measure:
    """One running measurement; made by ``Timings.measure``."""

    __slots__ = ("_stage", "_start", "_timings")

    def __init__(self, timings: Timings, stage: str) -> None:
        self._timings = timings
        self._stage = stage

    def __enter__(self) -> None:
        self._start = perf_counter()

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        elapsed = perf_counter() - self._start
        if error is None:
            self._timings.add(self._stage, elapsed)


class _Series:
    """The samples of one stage."""

    __slots__ = ("count", "total", "window")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.window: deque[float] = deque(maxlen=WINDOW)
