"""A session over a whole clip: prompts on any frame, tracking in both directions, corrections afterwards."""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from sam2track.config import Config
from sam2track.data import FrameResult, Prediction, Prompt, checked_id
from sam2track.errors import ConfigError, PromptError
from sam2track.masks import rle
from sam2track.masks.masklets import MaskletWriter
from sam2track.masks.regions import bounding_box
from sam2track.segmenter import Segmenter
from sam2track.sessions.history import Entry, History
from sam2track.sessions.tracking import Budget, ClipTracker
from sam2track.video import Recording, open_recording


class Session:
    """Objects in a clip that can be read in any order; use it as a context manager.

    ``prompt`` objects on any frames and ``propagate``; look, ``prompt`` again where it is wrong, and ``propagate``
    again, which tracks only the frames that change. ``clear`` takes back the prompts of a frame, ``remove`` an object.

    An object id is any integer from 0 on. Each object has its own history; adding, correcting or removing one leaves
    the others' masks as they were. A call that raises changes nothing. Not thread-safe.

    With the same weights the masks are those of the official video predictor. Memory is bounded by ``Budget`` but for
    what prompts made (0.8 MB each at 1024 pixels) and the masks, kept as RLE (about 1 kB an object and frame).

    Args:
        source: a video file or a folder of pictures, opened now and closed with the session; or an open
            ``Recording``, which stays the caller's to close.
        model: a model name, the path of a config file or a ``Config``, as for ``Tracker.load``; or a loaded model.
            Of its memory settings, ``prompted`` counts for streams only.
        budget: how much to keep.
        most_prompted: prompted frames that a frame reads, the closest in time; None reads all, the official default.
        offload: keep memories in main memory and not on the accelerator.
        overrides: ``weights=``, ``image_size=``, ``device=`` and what else ``Config.load`` takes.

    Raises:
        SourceError: the source cannot be opened, or not read in any order, as a camera.
        ConfigError, WeightsError, BackendError: as ``Tracker.load``.
    """

    def __init__(
        self,
        source: str | Path | Recording,
        model: str | Config | Segmenter = "nano",
        *,
        budget: Budget | None = None,
        most_prompted: int | None = None,
        offload: bool = False,
        **overrides: Any,
    ) -> None:
        budget = budget or Budget()
        given = [name for name, value in overrides.items() if value is not None]
        if isinstance(model, Segmenter) and given:
            raise ConfigError(f"{given[0]}= has no effect on a loaded model; give it where that is loaded")
        if most_prompted is not None and most_prompted < 1:
            raise ConfigError(f"most_prompted is {most_prompted}; give 1 or more, or None for all")
        self._owned = not isinstance(source, Recording)
        self.video = source if isinstance(source, Recording) else open_recording(source, cache_bytes=budget.frames)
        try:
            segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model, **overrides)
        except BaseException:
            self.close()
            raise
        self.config = segmenter.config
        self._tracker = ClipTracker(self.video, segmenter, budget, most_prompted, offload)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects, in the order they were added."""
        return tuple(self._tracker.histories)

    @property
    def prompts(self) -> dict[int, Mapping[int, Prompt]]:
        """Object id -> frame -> the prompt it has there."""
        return {i: MappingProxyType(history.prompts) for i, history in self._tracker.histories.items()}

    @property
    def first_prompted(self) -> int | None:
        """The earliest prompted frame, where ``propagate`` starts by default; None without a prompt."""
        histories = self._tracker.histories.values()
        return min(chain.from_iterable((*h.proposed, *h.prompted) for h in histories), default=None)

    def prompt(self, index: int, object_id: int, prompt: Prompt, *, extend: bool = False) -> FrameResult:
        """Prompt an object on a frame, and see at once what comes of it there.

        On a frame that no propagation went over, the object is segmented from its prompt alone; on one that was
        tracked, the prompt corrects what was found, by the object's memory. Other frames follow with ``propagate``.

        Args:
            index: of the frame.
            object_id: a new id starts an object.
            prompt: in pixels of the frame; it replaces the one the object has on this frame.
            extend: add its points to those given on this frame before instead.

        Returns:
            Every object known on the frame.

        Raises:
            PromptError: a frame, id or prompt that cannot be used.
            SourceError: the frame cannot be read.
        """
        index, object_id = self._checked_index(index), checked_id(object_id)
        if not isinstance(prompt, Prompt):
            raise PromptError(f"{prompt!r} is not a Prompt; build one with Prompt(points=..., box=... or mask=...)")
        history = self._tracker.histories.get(object_id) or self._new_history(object_id)
        if extend:
            prompt = _extended(history.prompts.get(index), prompt)
        prompt.check_inside(self.video.height, self.video.width)
        with torch.inference_mode():
            proposal = self._tracker.propose(index, object_id, history, prompt)
        self._tracker.histories[object_id] = history
        history.prompts[index], history.proposed[index] = prompt, proposal
        return self.result(index)

    def clear(self, index: int, object_id: int) -> FrameResult:
        """Take back the prompts of an object on a frame; its mask there stays until the next propagation.

        Returns:
            Every object known on the frame.

        Raises:
            PromptError: there is no such frame or object, or it has no prompt there.
        """
        index, history = self._checked_index(index), self._history(object_id)
        if index not in history.prompts:
            frames = ", ".join(map(str, sorted(history.prompts))) or "none"
            raise PromptError(f"object {object_id} has no prompt on frame {index}; prompted frames: {frames}")
        history.withdraw(index)
        return self.result(index)

    def remove(self, object_id: int) -> None:
        """Forget an object. Raises ``PromptError`` when there is no such object."""
        self._history(object_id)
        self._tracker.remove(object_id)

    def reset(self) -> None:
        """Forget every object."""
        for object_id in self.object_ids:
            self.remove(object_id)

    def propagate(self, start: int | None = None, end: int | None = None, *, reverse: bool = False) -> Propagation:
        """Track all objects over the clip; iterate the result for the frames, in the order of tracking.

        A frame is tracked again only where something it reads has changed since; the others are given back as they
        are. Leaving the loop ends it there; what was tracked stays. Prompts given meanwhile count from the next
        propagation on. Damaged frames are left out.

        Args:
            start: first frame; by default the earliest prompted one.
            end: last frame, included; by default the last of the clip, or in reverse its first.
            reverse: track towards the beginning.

        Raises:
            PromptError: a frame that is not in the clip, or lies the other way; no object, or one without a prompt.
        """
        if not self._tracker.histories:
            raise PromptError("no object to propagate; prompt one first")
        for object_id, history in self._tracker.histories.items():
            if not history.proposed and not history.prompted:
                raise PromptError(f"object {object_id} has no prompt; prompt it, or remove it")
        start = self._checked_index(self.first_prompted if start is None else start)
        end = (0 if reverse else len(self.video) - 1) if end is None else self._checked_index(end)
        indices = range(start, end - 1, -1) if reverse else range(start, end + 1)
        if not indices:
            way, other = ("after", "without reverse") if reverse else ("before", "with reverse=True")
            raise PromptError(f"last frame {end} comes {way} the first, {start}; go there {other}")
        with torch.inference_mode():
            self._tracker.settle()
        tracked = self._tracker.advance(indices, reverse)
        return Propagation((self._result(index, fresh) for index, fresh in tracked), len(indices))

    def result(self, index: int) -> FrameResult:
        """Every object known on a frame: by a prompt there, or by the last propagation over it."""
        return self._result(self._checked_index(index), {})

    def results(self) -> Iterator[FrameResult]:
        """The frames on which something is known, in order."""
        for index in sorted(set().union(*(history.frames for history in self._tracker.histories.values()))):
            yield self._result(index, {})

    def save(self, path: str | Path) -> None:
        """Write ``results()`` to a masklet file. Raises ``SinkError`` when it cannot be written."""
        with MaskletWriter(path, source=self.video, model=self.config.model) as masklets:
            for result in self.results():
                masklets.write(result)

    def logits(self, index: int) -> dict[int, Tensor]:
        """Object id -> mask logits [S/4, S/4] of every object known on a frame; positive is inside."""
        index = self._checked_index(index)
        logits = {}
        for object_id, history in self._tracker.histories.items():
            if history.at(index) is not None:
                with torch.inference_mode():
                    logits[object_id] = self._tracker.known_logits(index, object_id, history)[0, 0].clone()
        return logits

    def close(self) -> None:
        """Release the clip, if the session opened it."""
        if self._owned:
            self.video.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _result(self, index: int, fresh: Mapping[int, Prediction]) -> FrameResult:
        size = (self.video.height, self.video.width)
        objects = dict(fresh)
        for object_id, history in self._tracker.histories.items():
            entry = history.at(index)
            if object_id not in fresh and entry is not None:
                objects[object_id] = _prediction(entry, size)
        objects = {i: objects[i] for i in self._tracker.histories if i in objects}
        return FrameResult(index, self.video.time(index), size, objects)

    def _new_history(self, object_id: int) -> History:
        most = self.config.tracking.max_objects
        if len(self._tracker.histories) >= most:
            raise PromptError(
                f"object {object_id} would be number {len(self._tracker.histories) + 1} of at most {most}; "
                "remove one or raise tracking.max_objects"
            )
        return History(self._tracker.limits)

    def _history(self, object_id: int) -> History:
        if object_id not in self._tracker.histories:
            known = ", ".join(map(str, self._tracker.histories)) or "none"
            raise PromptError(f"object {object_id!r} is not in the session; its objects: {known}")
        return self._tracker.histories[object_id]

    def _checked_index(self, index: int | None) -> int:
        try:
            number = operator.index(index)  # type: ignore[arg-type]
        except TypeError:
            raise PromptError(f"frame {index!r} is not an integer") from None
        if not 0 <= number < len(self.video):
            raise PromptError(
                f"frame {number} is not in {self.video.name}, which has frames 0 to {len(self.video) - 1}"
            )
        return number


class Propagation(Iterator[FrameResult]):
    """The frames of one propagation, tracked as they are asked for; its length is the number of frames to go over."""

    def __init__(self, results: Generator[FrameResult, None, None], count: int) -> None:
        self._results = results
        self._count = count

    def __next__(self) -> FrameResult:
        return next(self._results)

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """End it; what was tracked stays."""
        self._results.close()


def _extended(given: Prompt | None, prompt: Prompt) -> Prompt:
    """The points of ``prompt`` after those ``given`` before."""
    if prompt.box is not None or prompt.mask is not None:
        raise PromptError(f"{prompt} cannot extend a prompt; only points can, a box or mask replaces it")
    if given is None or given.mask is not None:
        return prompt
    labels = (*(given.labels or ()), *(prompt.labels or ()))
    return replace(given, points=(*given.points, *prompt.points), labels=labels)


def _prediction(entry: Entry, size: tuple[int, int]) -> Prediction:
    mask = rle.decode({"size": list(size), "counts": entry.counts})
    return Prediction(mask, entry.score, entry.visible, bounding_box(mask))
