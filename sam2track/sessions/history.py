"""One object over a whole clip: what it was prompted with, what was found, and what a frame can read of the others.

The rules are those of SAM 2.1 (section 4 of the paper, and the behaviour of its video predictor): a frame reads the
prompted frames, the 6 frames before it, and object pointers up to 15 frames back. *Before* is in the direction of
tracking: in reverse, it is the later frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sam2track.data import Prompt
from sam2track.memory import MemoryLimits
from sam2track.steps import Segmentation

_numbers = itertools.count(1)


class Reads(NamedTuple):
    """Which frames a frame reads."""

    slots: list[tuple[int, int]]  # (0 prompted, else frames away; frame)
    pointers: list[tuple[int, int]]  # (frames away, frame)

    @property
    def frames(self) -> set[int]:
        """All of them."""
        return {frame for _, frame in [*self.slots, *self.pointers]}


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What was found of the object on one frame.

    Attributes:
        lineage: two entries of one frame with the same lineage were made from the same things, and are equal.
        counts: the mask as COCO RLE.
        score: as in ``Prediction``.
        visible: as in ``Prediction``.
        reverse: the direction in which it was tracked; None where a prompt made it.
    """

    lineage: int
    counts: str
    score: float
    visible: bool
    reverse: bool | None


class Proposal(NamedTuple):
    """What a prompt gave, until the next propagation puts it into memory."""

    mask: Segmentation  # holes filled
    entry: Entry
    joins: bool  # as a prompted frame


class History:
    """The frames of one object.

    Attributes:
        prompts: frame -> the prompt given there.
        proposed: frame -> what came of it since the last propagation.
        prompted: frames that every other frame reads.
        tracked: frames that their neighbours read.
        passed: frame -> direction in which a propagation went over it last.
    """

    def __init__(self, limits: MemoryLimits) -> None:
        self._limits = limits
        self.prompts: dict[int, Prompt] = {}
        self.proposed: dict[int, Proposal] = {}
        self.prompted: dict[int, Entry] = {}
        self.tracked: dict[int, Entry] = {}
        self.passed: dict[int, bool] = {}

    def at(self, frame: int) -> Entry | None:
        """What is known of the object on a frame."""
        if frame in self.proposed:
            return self.proposed[frame].entry
        return self.prompted.get(frame) or self.tracked.get(frame)

    @property
    def frames(self) -> set[int]:
        """All frames on which something is known."""
        return {*self.proposed, *self.prompted, *self.tracked}

    def reads(self, frame: int, reverse: bool) -> Reads:
        """What ``frame`` reads when it is tracked, or corrected, in this direction.

        Of prompted frames in the other direction only the tokens are read, not the pointer.
        """
        sign = -1 if reverse else 1
        chosen = nearest(self.prompted, frame, self._limits.prompted)
        reach = max(self._limits.recent + 1, self._limits.pointers)
        near = [(ago, frame - sign * ago) for ago in range(1, reach)]
        near = [(ago, f) for ago, f in near if f in self.tracked or (f in self.prompted and f not in chosen)]
        slots = [(0, f) for f in chosen] + [(ago, f) for ago, f in near[::-1] if ago <= self._limits.recent]
        pointers = [(sign * (frame - f), f) for f in chosen if sign * (frame - f) >= 0]
        return Reads(slots, pointers + [(ago, f) for ago, f in near if ago < self._limits.pointers])

    def lineage(self, frame: int, reverse: bool, reads: Reads) -> int:
        """Of what tracking ``frame`` would give."""
        made_of = [(away, f, self._known(f).lineage) for away, f in [*reads.slots, *reads.pointers]]
        return hash((frame, reverse, len(reads.slots), *made_of))

    def settle(self, frame: int) -> Entry | None:
        """Put what was proposed on a frame into memory; None when it does not count.

        A correction that does not join the prompted frames cannot replace one of them.
        """
        proposal = self.proposed.pop(frame)
        if proposal.joins:
            self.tracked.pop(frame, None)
            self.prompted[frame] = proposal.entry
        elif frame in self.prompted:
            return None
        else:
            self.tracked[frame] = proposal.entry
        return proposal.entry

    def withdraw(self, frame: int) -> None:
        """Forget the prompts of a frame; what they gave stays as if it had been tracked."""
        self.prompts.pop(frame, None)
        self.proposed.pop(frame, None)
        entry = self.prompted.pop(frame, None)
        if entry is not None:
            self.tracked[frame] = entry
            self.passed.pop(frame, None)

    def _known(self, frame: int) -> Entry:
        return self.prompted.get(frame) or self.tracked[frame]


def new_lineage() -> int:
    """Of what a prompt made: like nothing else."""
    return next(_numbers)  # not negative: -1 and -2 have the same hash


def nearest(frames: Iterable[int], frame: int, most: int) -> list[int]:
    """At most ``most`` of ``frames``, ascending: the last before ``frame``, the first from it on, then by distance."""
    frames = sorted(frames)
    if len(frames) <= most:
        return frames
    before, after = [f for f in frames if f < frame], [f for f in frames if f >= frame]
    first = before[-1:] + after[:1]
    others = sorted((f for f in frames if f not in first), key=lambda f: abs(f - frame))
    return sorted((first + others)[:most])
