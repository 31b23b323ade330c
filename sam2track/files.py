"""Files: written whole or not at all, and in the order of the numbers in their names."""

from __future__ import annotations

import re
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
