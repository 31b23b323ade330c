"""The memory of one object, bounded by construction, and the batch of several objects' memories.

What is always true of a ``MemoryBank``: it holds at most ``prompted`` prompted frames (the first and
the newest), tokens of at most ``recent`` other frames and pointers of at most ``pointers - 1`` of them,
plus those of the step just made, however long the stream. Tokens are kept in bf16, as the official package keeps them.

Frames are numbered by *step*: the count of frames this tracker was given, so that a live stream that
skips frames still has its memories one step apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """How much a bank keeps.

    Attributes:
        prompted: prompted frames, at least 1.
        recent: latest other frames whose tokens are kept, at most 6 (the model has 6 temporal codes).
        pointers: object pointers reach ``pointers - 1`` frames back. A clip shorter than 16 frames gives the
            official package's masks when this is its length: there the clip's length is the age divisor.
    """

    prompted: int = 4
    recent: int = 6
    pointers: int = 16


class Memory(NamedTuple):
    """One frame as an object remembers it."""

    step: int
    tokens: Tensor  # [M, m] bf16
    pointer: Tensor  # [d]


class Readable(NamedTuple):
    """What one object can read of other frames."""

    slots: list[tuple[int, Tensor]]  # (0 prompted, else steps away; tokens)
    pointers: list[tuple[int, Tensor]]  # (steps away, pointer)


class MemoryView(NamedTuple):
    """Memories of B objects as one padded batch; the inputs of memory attention."""

    tokens: Tensor  # [B, N, M, m]
    slot: Tensor  # [B, N]: 0 prompted, else how many steps ago
    pointer: Tensor  # [B, K, d]
    age: Tensor  # [B, K]: steps ago / (pointers - 1)
    valid: Tensor | None  # [B, N + K]; None where every entry is real


class MemoryBank:
    """Memories of one object: ``keep`` after each step, ``slots`` and ``pointers`` before the next."""

    def __init__(self, limits: MemoryLimits) -> None:
        self._limits = limits
        self._prompted: dict[int, Memory] = {}
        self._tokens: dict[int, Tensor] = {}
        self._pointers: dict[int, Tensor] = {}

    def keep(self, memory: Memory, prompted: bool) -> None:
        """Remember a step, in place of what was remembered of the same step, and forget what is too old.

        Over the cap, the oldest prompted frame but the first becomes an ordinary one.
        """
        self._drop(memory.step)
        if not prompted:
            self._keep_recent(memory)
        else:
            self._prompted[memory.step] = memory
            if len(self._prompted) > self._limits.prompted:
                steps = sorted(self._prompted)
                self._keep_recent(self._prompted.pop(steps[1] if self._limits.prompted > 1 else steps[0]))
        self._forget(memory.step)

    def slots(self, step: int) -> list[tuple[int, Tensor]]:
        """(slot, tokens) of what can be read at ``step``: prompted frames, then recent ones, oldest first."""
        prompted = [(0, m.tokens) for s, m in sorted(self._prompted.items()) if s < step]
        recent = [(step - s, t) for s, t in sorted(self._tokens.items()) if 1 <= step - s <= self._limits.recent]
        return prompted + recent

    def pointers(self, step: int) -> list[tuple[int, Tensor]]:
        """(steps ago, pointer) of what can be read at ``step``."""
        prompted = [(step - s, m.pointer) for s, m in sorted(self._prompted.items()) if s < step]
        recent = [(step - s, p) for s, p in sorted(self._pointers.items()) if 1 <= step - s < self._limits.pointers]
        return prompted + recent

    def _keep_recent(self, memory: Memory) -> None:
        self._tokens[memory.step] = memory.tokens
        self._pointers[memory.step] = memory.pointer

    def _drop(self, step: int) -> None:
        self._prompted.pop(step, None)
        self._tokens.pop(step, None)
        self._pointers.pop(step, None)

    def _forget(self, step: int) -> None:
        """Drop what neither a later step nor a refinement of this one can read."""
        for s in [s for s in self._tokens if step - s > self._limits.recent]:
            del self._tokens[s]
        for s in [s for s in self._pointers if step - s >= self._limits.pointers]:
            del self._pointers[s]


def view(banks: Sequence[MemoryBank], step: int, limits: MemoryLimits, width: int) -> MemoryView:
    """Read ``banks`` at ``step`` as one batch, padded to the longest history; pointers are ``width`` long."""
    objects = [Readable(bank.slots(step), bank.pointers(step)) for bank in banks]
    return gather(objects, limits.pointers, width)


def gather(objects: Sequence[Readable], pointers: int, width: int) -> MemoryView:
    """What several objects can read, as one batch padded to the longest, with at least one pointer.

    ``pointers`` is that of ``MemoryLimits`` and ``width`` the length of a pointer.
    """
    n, k = max(len(r.slots) for r in objects), max(1, *(len(r.pointers) for r in objects))
    divisor = max(pointers - 1, 1)
    empty_tokens = torch.zeros_like(objects[0].slots[0][1])
    device = empty_tokens.device
    first = next((pointer for r in objects for _, pointer in r.pointers), None)
    empty_pointer = torch.zeros(width, device=device if first is None else first.device)
    padded = any(len(r.slots) < n or len(r.pointers) < k for r in objects)
    valid = [[i < len(r.slots) for i in range(n)] + [j < len(r.pointers) for j in range(k)] for r in objects]
    return MemoryView(
        tokens=torch.stack([torch.stack(_pad([t for _, t in r.slots], n, empty_tokens)) for r in objects]),
        slot=torch.tensor([_pad([s for s, _ in r.slots], n, 1) for r in objects], device=device),
        pointer=torch.stack([torch.stack(_pad([p for _, p in r.pointers], k, empty_pointer)) for r in objects]),
        age=torch.tensor([_pad([a / divisor for a, _ in r.pointers], k, 0.0) for r in objects], device=device),
        valid=torch.tensor(valid, device=device) if padded else None,
    )


def _pad(row: list[T], length: int, filler: T) -> list[T]:
    return row + [filler] * (length - len(row))
