"""How far a run is: a bar on a terminal, a line now and then elsewhere; both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from sam2track.data import Prediction

EVERY = 10.0  # seconds between lines where there is no terminal
MANY = 8  # objects that are still named one by one


class Progress:
    """Counts frames and shows them; call ``frame`` once each.

    Args:
        total: frames expected; None when unknown, as with a camera.
        quiet: show nothing.
    """

    def __init__(self, total: int | None, *, quiet: bool = False) -> None:
        self.done = 0
        self._total = total
        self._start = self._told = monotonic()
        self._bar = None if quiet or not sys.stderr.isatty() else _bar()
        self._task = None if self._bar is None else self._bar.add_task("", total=total, rate="", objects="")
        self._plain = not quiet and self._bar is None

    def frame(self, objects: Mapping[int, Prediction] | None = None, note: str = "") -> None:
        """One more frame is done; ``objects`` are those on it, ``note`` is added to them."""
        self.done += 1
        now = monotonic()
        rate = self.done / max(now - self._start, 1e-6)
        if self._bar is not None and self._task is not None:
            states = ", ".join(filter(None, (_states(objects or {}), note)))
            self._bar.update(self._task, completed=self.done, rate=f"{rate:.1f} fps", objects=states)
        elif self._plain and now - self._told >= EVERY:
            self._told = now
            print(self._line(rate, objects or {}, note), file=sys.stderr, flush=True)  # noqa: T201

    def _line(self, rate: float, objects: Mapping[int, Prediction], note: str) -> str:
        count, left = f"{self.done} frames", ""
        if self._total is not None:
            seconds = max(0, self._total - self.done) / rate
            count, left = f"{self.done}/{self._total} frames", f"{seconds // 60:.0f}:{seconds % 60:02.0f} left"
        return ", ".join(filter(None, (count, f"{rate:.1f} fps", left, _states(objects), note)))

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[objects]}", markup=False),
        console=Console(stderr=True),
    )


def _states(objects: Mapping[int, Prediction]) -> str:
    """``1 visible, 2 occluded``; a count where there are many."""
    visible = [str(i) for i, prediction in objects.items() if prediction.visible]
    hidden = [str(i) for i, prediction in objects.items() if not prediction.visible]
    if len(objects) > MANY:
        return f"{len(visible)} of {len(objects)} visible"
    parts = ((visible, "visible"), (hidden, "occluded"))
    return ", ".join(f"{' '.join(ids)} {state}" for ids, state in parts if ids)
