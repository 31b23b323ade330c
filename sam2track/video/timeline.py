"""Places pictures in time: an index and an exact time that strictly increase, whatever the clock does."""

from __future__ import annotations

from fractions import Fraction

from sam2track.data import Frame
from sam2track.video.decode import Picture

_JUMP = Fraction(1)  # seconds backwards that are a new clock and not a glitch


class Timeline:
    """Turns pictures into frames whose index and time strictly increase.

    The first frame is at 0, and from there the container's clock is followed exactly. Where it does not
    serve: a missing time is the last one plus a frame; a time that does not advance is moved one tick past
    the last; a jump back of more than a second is a new clock, which continues where the old one stopped.
    """

    def __init__(self, rate: Fraction | None, time_base: Fraction) -> None:
        self._step = 1 / rate if rate else Fraction(1, 25)
        self._tick = min(time_base, self._step)
        self._offset: Fraction | None = None
        self._last: Fraction | None = None
        self._index = -1

    @property
    def count(self) -> int:
        """Places of the source that have passed."""
        return self._index + 1

    def frame(self, picture: Picture) -> Frame:
        """``picture`` with its place in the source."""
        started = self._last is not None
        self._index += 1 + (picture.lost if started else 0)
        self._last = self._advance(picture.time)
        return Frame(picture.image, self._index, self._last)

    def restart(self, pause: float) -> None:
        """Expect a new clock, ``pause`` seconds after the last frame."""
        self._offset = None
        if self._last is not None:
            self._last += Fraction(round(pause * 1000), 1000)

    def _advance(self, time: Fraction | None) -> Fraction:
        expected = Fraction(0) if self._last is None else self._last + self._step
        if time is None:
            return expected
        if self._offset is None or (self._last is not None and time + self._offset < self._last - _JUMP):
            self._offset = expected - time
        time += self._offset
        return time if self._last is None or time > self._last else self._last + self._tick
