"""How overlays are drawn: what ``track``, ``live`` and ``render`` share."""

from __future__ import annotations

import sam2track as st
from sam2track.cli.options import UsageError


class Style:
    """The style flags; ``draw`` every frame of one clip, in order."""

    def __init__(self, opacity: float, contour: int | None, labels: bool, trace: int) -> None:
        from sam2track.render import Trace

        if trace == 1:
            raise UsageError("--trace 1 is too short to draw; give 2 frames or more, or 0 for none")
        self._opacity, self._contour, self._labels = opacity, contour, labels
        self._trace = Trace(trace) if trace else None

    def draw(self, frame: st.Frame, result: st.FrameResult, timings: st.Timings) -> st.Frame:
        """The overlay of a frame, timed."""
        with timings.measure("render"):
            return st.overlay(
                frame, result, opacity=self._opacity, contour=self._contour, labels=self._labels, trace=self._trace
            )
