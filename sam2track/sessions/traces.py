"""What objects left behind on the frames of a clip, within a budget of bytes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Trace(NamedTuple):
    """What tracking on from a frame, or correcting it, reads of it."""

    tokens: Tensor  # [M, m] bf16
    pointer: Tensor  # [d]
    logits: Tensor  # [1, 1, S/4, S/4], of the mask as shown

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self)


class Traces:
    """Traces by object and frame.

    What is always true: a trace that a prompt made stays; so do those of the block of frames kept to last and of the
    two beside it. Of the others, whole blocks stay, every one of them while they fit ``budget`` bytes; when they do
    not, every second one goes, then every second of the rest, and so on. Any frame is thus a bounded way from one
    where tracking can be taken up.

    Args:
        budget: bytes.
        block: frames, at least as many as memory looks back: tracking can go on from either end of a block.
    """

    def __init__(self, budget: int, block: int) -> None:
        self._budget = budget
        self._block = block
        self._pinned: dict[tuple[int, int], Trace] = {}
        self._blocks: dict[int, dict[tuple[int, int], Trace]] = {}
        self._spacing = 1  # every so manieth block stays
        self._front = 0
        self.used = 0  # bytes, without what is pinned

    def get(self, object_id: int, frame: int) -> Trace | None:
        """The trace of an object on a frame; None when there is none, or none any more."""
        key = object_id, frame
        return self._pinned.get(key) or self._blocks.get(frame // self._block, {}).get(key)

    def keep(self, object_id: int, frame: int, trace: Trace, pinned: bool) -> None:
        """Keep a trace, in place of the one there was; ``pinned`` when a prompt made it."""
        self.drop(object_id, frame)
        if pinned:
            self._pinned[object_id, frame] = trace
            return
        block = frame // self._block
        self._blocks.setdefault(block, {})[object_id, frame] = trace
        self.used += trace.nbytes
        moved, self._front = block != self._front, block
        if moved or self.used > self._budget:
            self._thin()

    def drop(self, object_id: int, frame: int) -> None:
        """Forget a trace, if there is one."""
        key = object_id, frame
        self._pinned.pop(key, None)
        trace = self._blocks.get(frame // self._block, {}).pop(key, None)
        if trace is not None:
            self.used -= trace.nbytes

    def drop_object(self, object_id: int) -> None:
        """Forget every trace of an object."""
        for kept in (self._pinned, *self._blocks.values()):
            for key in [key for key in kept if key[0] == object_id]:
                self.drop(*key)

    def _thin(self) -> None:
        while True:
            for block in [b for b in self._blocks if b % self._spacing and abs(b - self._front) > 1]:
                self.used -= sum(trace.nbytes for trace in self._blocks.pop(block).values())
            away = max((b for b in self._blocks if abs(b - self._front) > 1), default=0)
            if self.used <= self._budget or away == 0:
                return
            self._spacing *= 2
