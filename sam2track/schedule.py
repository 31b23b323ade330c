"""Prompts and removals on their way to the tracker.

Prompts known beforehand wait for their frame; those sent live wait for the next one. What is always
true: a prompt is given exactly once, on its frame or, if that was skipped, on the next tracked one;
prompts that meet on one frame keep their order, and of those that a removal would have ended none is
given. Any thread may call any method.

A *round* is object id -> prompt. Rounds exist because several prompts for one object may meet on
one frame: the first goes to ``Tracker.step``, each further one corrects it with ``Tracker.refine``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import Lock

from sam2track.data import Prompt
from sam2track.errors import PromptError

Round = dict[int, Prompt]


class Schedule:
    """What to tell the tracker, and when.

    The tracking thread calls ``take`` before each step, and does what it says.

    Args:
        prompts: frame index -> object id -> prompt.
        object_ids: objects the tracker follows already.
        removals: frame index -> ids of the objects to forget before that frame.

    Raises:
        PromptError: ``prompts`` or ``removals`` has another shape.
    """

    def __init__(
        self,
        prompts: Mapping[int, Mapping[int, Prompt]],
        object_ids: Iterable[int] = (),
        removals: Mapping[int, Collection[int]] | None = None,
    ) -> None:
        self._lock = Lock()
        self._scheduled = _checked_schedule(prompts)  # in ascending order of frames
        self._removals = _checked_removals({} if removals is None else removals)
        self._sent: list[Round] = []
        self._removed: list[int] = []
        self._object_ids = set(object_ids)
        self._highest = max([0, *self._object_ids, *(i for objects in self._scheduled.values() for i in objects)])

    def send(self, prompts: Mapping[int, Prompt]) -> None:
        """Keep object id -> prompt for the next tracked frame."""
        checked = _checked_prompts(prompts, "sent prompts")
        with self._lock:
            _append(self._sent, checked)
            self._highest = max([self._highest, *checked])

    def start(self, prompts: Sequence[Prompt]) -> Round:
        """Give new objects their ids: each above every id that was ever given, scheduled or sent."""
        with self._lock:
            ids = range(self._highest + 1, self._highest + 1 + len(prompts))
            self._highest += len(prompts)
            self._object_ids.update(ids)
            return dict(zip(ids, prompts, strict=True))

    def remove(self, object_id: int) -> None:
        """Forget an object, and what was sent for it, before the next tracked frame."""
        with self._lock:
            tracked = object_id in self._object_ids
            if not tracked and not any(object_id in prompts for prompts in self._sent):
                known = ", ".join(map(str, sorted(self._object_ids))) or "none"
                raise PromptError(f"object {object_id!r} is not tracked, so it cannot be removed; tracked: {known}")
            for prompts in self._sent:
                prompts.pop(object_id, None)
            if tracked:
                self._object_ids.discard(object_id)
                self._removed.append(object_id)

    def wants(self, index: int) -> bool:
        """Whether an object is tracked by frame ``index``, or a prompt is due on it."""
        with self._lock:
            return bool(self._object_ids or self._sent) or any(frame <= index for frame in self._scheduled)

    def awaited(self) -> int:
        """How many objects the prompts that still wait will start."""
        with self._lock:
            waiting = (*self._scheduled.values(), *self._sent)
            return len(set().union(*waiting) - self._object_ids)

    def take(self, index: int) -> tuple[list[int], list[Round]]:
        """The objects to remove before frame ``index`` is tracked, then the rounds of prompts to give on it."""
        with self._lock:
            removed, self._removed = self._removed, []
            tracked = set(self._object_ids)
            rounds: list[Round] = []
            for frame in sorted(frame for frame in self._removals.keys() | self._scheduled.keys() if frame <= index):
                for object_id in self._removals.pop(frame, ()):
                    if object_id not in self._object_ids:
                        raise PromptError(f"object {object_id} was to be removed on frame {frame}, but is not tracked")
                    self._object_ids.discard(object_id)
                    for prompts in rounds:  # of frames that were skipped
                        prompts.pop(object_id, None)
                    if object_id in tracked:
                        tracked.discard(object_id)
                        removed.append(object_id)
                due = self._scheduled.pop(frame, {})
                _append(rounds, due)
                self._object_ids.update(due)
            sent, self._sent = self._sent, []
            for prompts in sent:
                _append(rounds, prompts)
                self._object_ids.update(prompts)
            return removed, [prompts for prompts in rounds if prompts]

    def check_all_given(self, frame_count: int) -> None:
        """Raise ``PromptError`` if a prompt or removal was scheduled past the last of ``frame_count`` frames."""
        with self._lock:
            missed = {"prompts": list(self._scheduled), "removals": list(self._removals)}
        have = f"only frames 0 to {frame_count - 1}" if frame_count else "no frames"
        for what, late in missed.items():
            if late:
                frames = ", ".join(map(str, late[:5])) + (", ..." if len(late) > 5 else "")
                raise PromptError(f"{what} for frame {frames} were never given: the source has {have}")


def _append(rounds: list[Round], prompts: Round) -> None:
    """Add ``prompts`` to the last round, or as a new one if it has a prompt for one of the objects already."""
    if not prompts:
        return
    if rounds and rounds[-1].keys().isdisjoint(prompts):
        rounds[-1].update(prompts)
    else:
        rounds.append(dict(prompts))


def _checked_schedule(prompts: object) -> dict[int, Round]:
    shape = "expected frame index -> object id -> Prompt, as in {0: {1: Prompt(...)}}"
    if not isinstance(prompts, Mapping):
        raise PromptError(f"prompts are a {type(prompts).__name__}; {shape}")
    for index, objects in prompts.items():
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise PromptError(f"prompts have the frame index {index!r}; expected an integer, 0 or more")
        if not isinstance(objects, Mapping):
            raise PromptError(f"prompts[{index}] is a {type(objects).__name__}; {shape}")
    return {index: _checked_prompts(prompts[index], f"prompts[{index}]") for index in sorted(prompts)}


def _checked_removals(removals: object) -> dict[int, tuple[int, ...]]:
    shape = "expected frame index -> object ids, as in {120: [2]}"
    if not isinstance(removals, Mapping):
        raise PromptError(f"removals are a {type(removals).__name__}; {shape}")
    for index, ids in removals.items():
        if not isinstance(index, int) or index < 0 or isinstance(ids, str) or not isinstance(ids, Collection):
            raise PromptError(f"removals hold {index!r}: {ids!r}; {shape}")
    return {index: tuple(removals[index]) for index in sorted(removals)}


def _checked_prompts(prompts: object, where: str) -> Round:
    if not isinstance(prompts, Mapping):
        raise PromptError(f"{where} are a {type(prompts).__name__}; expected object id -> Prompt")
    for object_id, prompt in prompts.items():
        if not isinstance(object_id, int) or isinstance(object_id, bool):
            raise PromptError(f"{where} have the object id {object_id!r}; expected an integer")
        if not isinstance(prompt, Prompt):
            raise PromptError(f"{where} give object {object_id} a {type(prompt).__name__}; expected a Prompt")
    return dict(prompts)
