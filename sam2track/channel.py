"""A bounded, closable queue between two threads.

The producer calls ``put`` or ``replace``, then ``finish`` (with its exception if it failed); the
consumer iterates. Either side, or a third, may ``close``. What is always true: items arrive in
order and before the exception that followed them; after ``close`` nobody waits any longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL = 0.2  # seconds; Windows delivers Ctrl-C only between two waits


class ClosedError(Exception):
    """The channel was closed: the other side has gone, so there is nothing left to do."""


class Channel(Generic[T]):
    """At most ``capacity`` items on their way from one thread to another."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Append ``item``, waiting for room. Raises ``ClosedError`` once closed."""
        with self._changed:
            self._wait_until(lambda: len(self._items) < self._capacity)
            self._items.append(item)
            self._changed.notify_all()

    def replace(self, item: T) -> bool:
        """Append ``item`` without waiting; True if the oldest item made room for it."""
        with self._changed:
            self._wait_until(lambda: True)
            full = len(self._items) >= self._capacity
            if full:
                self._items.popleft()
            self._items.append(item)
            self._changed.notify_all()
            return full

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no item follows; ``error`` is raised in the consumer after the last item."""
        if isinstance(error, StopIteration):  # would end the consumer's loop as if all were well
            reason = RuntimeError("StopIteration was raised inside a stage")
            reason.__cause__ = error
            error = reason
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """Drop what is inside and release both sides; safe to repeat, from any thread."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._error = None
            self._changed.notify_all()

    def __iter__(self) -> Channel[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            self._wait_until(lambda: bool(self._items) or self._finished)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        while not self._closed and not ready():
            self._changed.wait(_POLL)
        if self._closed:
            raise ClosedError
