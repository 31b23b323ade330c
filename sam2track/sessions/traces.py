"""What objects left behind on the frames of a clip, within a budget of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

_SLAB = 2**24  # bytes


class Trace(NamedTuple):
    """What tracking on from a frame, or correcting it, reads of it."""

    tokens: Tensor  # [M, m] bf16
    pointer: Tensor  # [d]
    logits: Tensor  # [1, 1, S/4, S/4], of the mask as shown

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self)


class _Slabs:
    """Room for traces in a few large tensors.

    Traces are small and live long; each on its own, they would lie scattered between the frames that come and go, and
    keep the allocator from ever reusing that space (measured: 0.6 MB a frame of 1080p).
    """

    def __init__(self, device: torch.device | None) -> None:
        self._device = device
        self._free: list[Trace] = []

    def take(self, trace: Trace) -> Trace:
        """A copy of ``trace`` that lies here."""
        if not self._free:
            count = max(_SLAB // trace.nbytes, 1)
            tensors = [t.new_empty((count, *t.shape), device=self._device or t.device) for t in trace]
            self._free = [Trace(*(tensor[i] for tensor in tensors)) for i in range(count)]
        own = self._free.pop()
        for room, tensor in zip(own, trace, strict=True):
            room.copy_(tensor)
        return own

    def give_back(self, trace: Trace) -> None:
        """Take the room of ``trace`` for another one."""
        self._free.append(trace)


class Traces:
    """Traces by object and frame.

    What is always true: a trace that a prompt made stays; so do those of the block of frames kept to last and of the
    two beside it. Of the others, whole blocks stay, every one of them while they fit ``budget`` bytes; when they do
    not, every second one goes, then every second of the rest, and so on. Any frame is thus a bounded way from one
    where tracking can be taken up. Within ``held`` nothing goes.

    Args:
        budget: bytes.
        block: frames, at least as many as memory looks back: tracking can go on from either end of a block.
        device: where to keep them; None is where they were made.
    """

    def __init__(self, budget: int, block: int, device: torch.device | None = None) -> None:
        self._budget = budget
        self._block = block
        self._slabs = _Slabs(device)
        self._pinned: dict[tuple[int, int], Trace] = {}
        self._blocks: dict[int, dict[tuple[int, int], Trace]] = {}
        self._spacing = 1  # every so manieth block stays
        self._front = 0
        self._held = False
        self._due = False  # something may have to go
        self.used = 0  # bytes, without what is pinned

    def get(self, object_id: int, frame: int) -> Trace | None:
        """The trace of an object on a frame; None when there is none, or none any more.

        Its tensors hold until the next ``keep`` or ``drop``.
        """
        key = object_id, frame
        return self._pinned.get(key) or self._blocks.get(frame // self._block, {}).get(key)

    def keep(self, object_id: int, frame: int, trace: Trace, pinned: bool) -> None:
        """Keep a copy of a trace, in place of the one there was; ``pinned`` when a prompt made it."""
        self.drop(object_id, frame)
        trace = self._slabs.take(trace)
        if pinned:
            self._pinned[object_id, frame] = trace
            return
        block = frame // self._block
        self._blocks.setdefault(block, {})[object_id, frame] = trace
        self.used += trace.nbytes
        moved, self._front = block != self._front, block
        self._due |= moved or self.used > self._budget
        if self._due and not self._held:
            self._thin()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let none go for the budget's sake meanwhile, so that what is recalled one by one can be read together."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._due:
                self._thin()

    def drop(self, object_id: int, frame: int) -> None:
        """Forget a trace, if there is one."""
        key = object_id, frame
        pinned = self._pinned.pop(key, None)
        trace = self._blocks.get(frame // self._block, {}).pop(key, None)
        if pinned is not None:
            self._slabs.give_back(pinned)
        if trace is not None:
            self._slabs.give_back(trace)
            self.used -= trace.nbytes

    def drop_object(self, object_id: int) -> None:
        """Forget every trace of an object."""
        for kept in (self._pinned, *self._blocks.values()):
            for key in [key for key in kept if key[0] == object_id]:
                self.drop(*key)

    def _thin(self) -> None:
        self._due = False
        while True:
            for block in [b for b in self._blocks if b % self._spacing and abs(b - self._front) > 1]:
                for key in list(self._blocks[block]):
                    self.drop(*key)
                del self._blocks[block]
            away = max((b for b in self._blocks if abs(b - self._front) > 1), default=0)
            if self.used <= self._budget or away == 0:
                return
            self._spacing *= 2
