"""What ``track`` and ``live`` share: Ctrl-C, and the account given at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

import sam2track as st
from sam2track.cli import report

if TYPE_CHECKING:
    from sam2track.cli.outputs import Paths

INTERRUPTED = 130  # the exit code of a command ended by Ctrl-C, as shells have it


@dataclass(slots=True)
class Tally:
    """Counts what a run did, and tells it."""

    source: st.Source
    run: st.Run
    tracker: st.Tracker
    paths: Paths
    frames: int = 0
    visible: dict[int, int] = field(default_factory=dict)  # object id -> frames on which it was visible
    interrupted: bool = False

    def add(self, result: st.FrameResult) -> None:
        """One more frame was tracked and written."""
        self.frames += 1
        for object_id, prediction in result.objects.items():
            self.visible[object_id] = self.visible.get(object_id, 0) + prediction.visible

    def tell(self, *, as_json: bool, quiet: bool, timings: bool) -> None:
        """Print the account; after Ctrl-C, end with exit code 130."""
        if as_json:
            report.say_json(self.as_json())
        elif not quiet:
            self._say(timings=timings)
        if self.interrupted:
            raise typer.Exit(INTERRUPTED)

    def as_json(self) -> dict[str, Any]:
        """The account for a program."""
        return {
            "source": self.source.name,
            "width": self.source.width,
            "height": self.source.height,
            "model": self.tracker.name,
            "placement": self.tracker.placement,
            "policy": self.run.policy,
            "frames": self.frames,
            "fps": round(self.run.throughput, 3),
            "skipped": self.run.skipped,
            "damaged": self.source.damaged,
            "interrupted": self.interrupted,
            "objects": {str(i): {"visible_frames": count} for i, count in self.visible.items()},
            "latency": report.milliseconds(self.run.latency),
            "stages": report.stages(self.run.timings.summary()),
            "outputs": self.paths.as_text() if self.frames else {},
        }

    def _say(self, *, timings: bool) -> None:
        extra = "".join(
            f", {count} {word}"
            for count, word in ((self.run.skipped, "skipped"), (self.source.damaged, "damaged"))
            if count
        )
        ended = "interrupted after " if self.interrupted else ""
        report.say(f"{ended}{self.frames} frames of {self.source.name}, {self.run.throughput:.1f} fps{extra}")
        for object_id, count in self.visible.items():
            report.say(f"object {object_id}: visible on {count} frames")
        if timings:
            report.say_stages("time per stage", self.run.timings.summary())
        if self.frames:
            for kind, path in self.paths.as_text().items():
                report.say(f"{kind}: {path}")


@contextmanager
def interruptible(tally: Tally) -> Iterator[None]:
    """Take note of Ctrl-C, after the blocks inside have finished their files."""
    try:
        yield
    except KeyboardInterrupt:
        tally.interrupted = True
