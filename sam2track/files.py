"""Files that are whole or not there, and the order of those that are numbered."""

from __future__ import annotations

import re
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path`` to write to; it takes the name of ``path`` when the block ends without an error.

    The name is of this call alone, so two processes that write the same file do not get in each other's way: the
    last one's stays. ``OSError`` passes through, and nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def natural(name: str) -> list[tuple[str, int]]:
    """A key that compares the numbers in a name as numbers: img2 before img10."""
    parts = re.findall(r"(\D*)(\d{0,4000})", name.lower())  # as many digits as int() takes
    return [(text, int(number or -1)) for text, number in parts]


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let the block end before a Ctrl-C that comes meanwhile is raised. Other threads than the main one get none."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)
