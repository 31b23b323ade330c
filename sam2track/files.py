"""Files that are whole or not there, and the order of those that are numbered."""

from __future__ import annotations

import re
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def unfinished(path: Path) -> Path:
    """A hidden name beside ``path``, of this call alone, for what is not whole yet."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """An ``unfinished`` name to write to; it takes the name of ``path`` when the block ends without an error.

    Two processes that write the same file do not get in each other's way: the last one's stays. ``OSError`` passes
    through, and nothing is left behind.
    """
    partial = unfinished(path)
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
    """Let the block end before a Ctrl-C that comes meanwhile is heeded, or a SIGTERM that somebody handles."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in handlers.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():  # the others are not interrupted
        handled = {}
    came: list[int] = []
    for number in handled:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
