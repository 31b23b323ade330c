"""Which pictures of a stream were lost, told from the packets that went into its decoder."""

from __future__ import annotations

import sys
from collections import deque
from heapq import heappop, heappush

_REMEMBERED = 64  # lost pictures that are known again when they come late: more than any decoder reorders


class Losses:
    """Counts lost pictures at their place in the order of presentation.

    ``expect`` each packet's time before it is decoded, and ask ``before`` each picture that comes out.

    Args:
        picture_a_packet: every packet is a picture, so one that does not come is lost. Otherwise some packets show
            nothing, and only as many pictures are lost as there was damage.
        damaged: damage counted so far.
    """

    def __init__(self, picture_a_packet: bool, damaged: int) -> None:
        self._picture_a_packet = picture_a_packet
        self._told = damaged  # damage that is accounted for
        self._due: list[int] = []  # a heap
        self._orderly = True
        self._last = -sys.maxsize
        self._gone: deque[int] = deque(maxlen=_REMEMBERED)

    def expect(self, time: int, decoded_at: int | None) -> None:
        """A packet went in that is decoded at ``decoded_at`` and whose picture is to be shown at ``time``."""
        if decoded_at is not None:
            self._orderly = self._orderly and decoded_at >= self._last
            self._last = decoded_at
        if self._orderly:
            heappush(self._due, time)

    def before(self, time: int | None, damaged: int) -> int | None:
        """How many pictures were lost right before the one at ``time``; None when that one was itself counted as lost.

        ``damaged`` is the damage counted so far. Without a time, or once the clock has jumped back, all of it that is
        new counts here.
        """
        if time is None or not self._orderly:
            lost, self._told = damaged - self._told, damaged
            return lost
        if time in self._gone:
            return None  # after damage, some decoders let a picture out late
        missing = []
        while self._due and self._due[0] <= time:
            due = heappop(self._due)
            if due < time:
                missing.append(due)
        self._gone.extend(missing)
        lost = len(missing) if self._picture_a_packet else min(len(missing), damaged - self._told)
        self._told = min(self._told + lost, damaged)
        return lost
