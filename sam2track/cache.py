"""A cache bounded in bytes: the least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Keeps what was put or got last, up to ``budget`` bytes, and always the newest entry.

    Args:
        budget: bytes.
        size: of a value, in bytes.
    """

    def __init__(self, budget: int, size: Callable[[V], int]) -> None:
        self._budget = budget
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self.used = 0

    def get(self, key: K) -> V | None:
        """The value of ``key``, or None."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep ``value``, in place of what ``key`` had."""
        if key in self._values:
            self.used -= self._size(self._values.pop(key))
        self._values[key] = value
        self.used += self._size(value)
        while self.used > self._budget and len(self._values) > 1:
            _, oldest = self._values.popitem(last=False)
            self.used -= self._size(oldest)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.used = 0
