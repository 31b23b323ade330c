"""What a command says at its end: one JSON object, or text with a table of stages."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2track.timing import StageTiming

WIDE = 200  # columns of a table that goes to a file or a pipe


def say(text: str) -> None:
    """One line for the user, on standard output."""
    print(text)  # noqa: T201


def note(text: str) -> None:
    """One line beside the results, on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def say_json(report: Mapping[str, Any]) -> None:
    """``report`` as JSON on standard output."""
    say(json.dumps(report, indent=2))


def milliseconds(timing: StageTiming) -> dict[str, float]:
    """A timing for JSON: count, and median, p99 and total in milliseconds."""
    return {
        "count": timing.count,
        "median_ms": round(1000 * timing.median, 3),
        "p99_ms": round(1000 * timing.p99, 3),
        "total_ms": round(1000 * timing.total, 3),
    }


def stages(timings: Mapping[str, StageTiming]) -> dict[str, dict[str, float]]:
    """Stage -> its timing, for JSON."""
    return {stage: milliseconds(timing) for stage, timing in timings.items()}


def say_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table; the first column is text, the others are aligned right if they hold numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = all(
            row[number].lstrip("-").replace(".", "").replace(",", "").isdigit() for row in rows if row[number]
        )
        table.add_column(column, justify="right" if number and numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Names are shown as they are: [brackets] are no markup, :colons: no emoji.
    Console(width=None if sys.stdout.isatty() else WIDE, markup=False, emoji=False).print(table)


def say_stages(title: str, timings: Mapping[str, StageTiming]) -> None:
    """The table of stages, in milliseconds."""
    rows = [
        [stage, str(t.count), f"{1000 * t.median:.2f}", f"{1000 * t.p99:.2f}", f"{1000 * t.total:.0f}"]
        for stage, t in timings.items()
    ]
    say_table(title, ["stage", "count", "median ms", "p99 ms", "total ms"], rows)
