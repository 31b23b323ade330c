"""What every source of frames looks like, whatever it reads.

    with open_source("dog.mp4") as source:      # opened: the first frame is already decoded
        for frame in source: ...                # once, in order; index counts from 0
                                                # closed, also when the loop is left by an error

Always true: frames are RGB uint8 of one size, upright as a player shows them; ``index`` and ``time``
strictly increase; the first frame of a file has time 0. A source is read once, by one thread at a
time; ``close()`` may be called from any thread, any number of times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from types import TracebackType
from typing import Self

from sam2track.data import Frame

MAX_PIXELS = 2**26  # 8192 x 8192: what no honest video exceeds, and a few frames of it still fit in memory


class Source(ABC):
    """An iterator of ``Frame`` and a context manager.

    Attributes:
        name: what was opened, without passwords.
        width: columns of every frame, after rotation.
        height: rows of every frame, after rotation.
        rate: nominal frames a second; None when unknown. Never a substitute for ``Frame.time``.
        time_base: the unit of the source's own clock, in seconds.
        pixel_aspect: width of a pixel over its height; 1 when square. Frames are not stretched.
        frame_count: number of frames as the container states or implies it, an estimate; None when unknown.
        live: True when frames arrive on their own time and are lost to who does not fetch them.
        damaged: frames (or packets) so far that could not be decoded and were skipped; ``index`` counts them.
    """

    name: str
    width: int
    height: int
    rate: Fraction | None
    time_base: Fraction
    pixel_aspect: Fraction = Fraction(1)
    frame_count: int | None = None
    live: bool = False
    damaged: int = 0

    @abstractmethod
    def __next__(self) -> Frame:
        """The next frame.

        Raises:
            StopIteration: the source has ended, or was closed while this call waited.
            SourceError: the source is closed, or was lost.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the source; safe to repeat, and from any thread. A waiting read ends at once."""

    def __iter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        rate = f"{float(self.rate):.2f} fps" if self.rate else "unknown rate"
        return f"{type(self).__name__}({self.name!r}, {self.width}x{self.height}, {rate})"
