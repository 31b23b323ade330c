"""Tracking over a clip that can be read in any order: what is done with a frame, and what is kept of it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sam2track.cache import LruCache
from sam2track.data import Prediction, Prompt
from sam2track.errors import PromptError
from sam2track.masks import rle
from sam2track.memory import MemoryLimits, MemoryView, Readable, gather
from sam2track.segmenter import Encoded, Segmenter, rows
from sam2track.sessions.history import Entry, History, Proposal, Reads, new_lineage
from sam2track.sessions.traces import Trace, Traces
from sam2track.steps import Segmentation
from sam2track.video import Recording


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes a session may keep of each kind.

    Attributes:
        memory: memories of tracked frames. What does not fit is tracked again when it is needed.
        features: image features of the frames used last.
        frames: decoded frames, for going backwards through a file.
    """

    memory: int = 2**29
    features: int = 2**26
    frames: int = 2**27


class ClipTracker:
    """Objects over one clip; the session above it checks what the user says.

    ``propose`` what a prompt gives on its frame, ``settle`` the proposals into memory, ``advance`` over frames.

    Attributes:
        histories: object id -> what is known of it, in the order they were added.
    """

    def __init__(
        self, video: Recording, segmenter: Segmenter, budget: Budget, most_prompted: int | None, offload: bool
    ) -> None:
        memory = segmenter.config.memory
        self.histories: dict[int, History] = {}
        self.limits = MemoryLimits(most_prompted or sys.maxsize, memory.recent, min(memory.pointers, len(video)))
        self._video = video
        self._segmenter = segmenter
        self._features: LruCache[int, Encoded] = LruCache(budget.features, _size)
        block = max(memory.pointers, memory.recent + 1)
        self._traces = Traces(budget.memory, block, torch.device("cpu") if offload else None)

    def remove(self, object_id: int) -> None:
        """Forget an object."""
        del self.histories[object_id]
        self._traces.drop_object(object_id)

    def propose(self, index: int, object_id: int, history: History, prompt: Prompt) -> Proposal:
        """Segment one object from its prompt, as SAM does, or as a correction where it was tracked."""
        encoded = self._encoded(index)
        if encoded is None:
            raise PromptError(f"frame {index} of {self._video.name} is damaged; prompt another one")
        direction = history.passed.get(index)
        bases: Mapping[int, Tensor] = {}
        priors: dict[int, Tensor] = {}
        if prompt.mask is None and direction is not None:
            reads = history.reads(index, direction)
            with self._traces.held():
                self._recall(object_id, reads.frames)
                readable = self._readable(object_id, reads)
                if readable.slots:
                    _, bases = self._segmenter.follow(encoded, [object_id], self._gathered([readable]))
        if prompt.mask is None and history.at(index) is not None:
            priors[object_id] = self.known_logits(index, object_id, history)
        mask = self._segmenter.segment(encoded, {object_id: prompt}, bases, priors)[object_id]
        mask = mask._replace(logits=self._segmenter.filled(mask.logits))
        (prediction,) = self._segmenter.predictions(mask, self._video.height, self._video.width)
        joins = direction is None or self._segmenter.config.memory.keep_corrections or not history.prompted
        return Proposal(mask, _entry(prediction, new_lineage(), None), joins)

    def settle(self) -> None:
        """Put what was prompted since the last propagation into memory."""
        for index in sorted(set().union(*(history.proposed for history in self.histories.values()))):
            encoded = self._encoded(index)
            assert encoded is not None, "it was segmented"
            masks = {i: h.proposed[index].mask for i, h in self.histories.items() if index in h.proposed}
            shown, tokens = self._segmenter.remember(encoded, masks, masks)
            for object_id, trace in zip(masks, _traces(shown, tokens), strict=True):
                if self.histories[object_id].settle(index) is not None:
                    self._traces.keep(object_id, index, trace, pinned=True)

    def advance(self, indices: Iterable[int], reverse: bool) -> Iterator[tuple[int, dict[int, Prediction]]]:
        """Track all objects over frames, in this order; yields each frame and what was tracked anew on it."""
        for index in indices:
            followed = {i: history for i, history in self.histories.items() if history.prompted}
            with torch.inference_mode():
                changed = [i for i, history in followed.items() if _outdated(history, index, reverse)]
                if changed and self._encoded(index) is None:
                    continue
                with self._traces.held():
                    for object_id in changed:
                        self._recall(object_id, followed[object_id].reads(index, reverse).frames)
                    predictions = self._follow(index, changed, reverse) if changed else {}
            for history in followed.values():
                history.passed[index] = reverse
            yield index, predictions

    def _follow(self, index: int, object_ids: Collection[int], reverse: bool) -> dict[int, Prediction]:
        """Track objects into a frame by what there is of their memories."""
        encoded = self._encoded(index)
        assert encoded is not None, "damaged frames are not tracked"
        reads = {i: self.histories[i].reads(index, reverse) for i in object_ids}
        memory = self._gathered([self._readable(i, reads[i]) for i in object_ids])
        masks, _ = self._segmenter.follow(encoded, object_ids, memory)
        shown, tokens = self._segmenter.remember(encoded, masks, ())
        predictions = self._segmenter.predictions(shown, self._video.height, self._video.width)
        for object_id, prediction, trace in zip(object_ids, predictions, _traces(shown, tokens), strict=True):
            history = self.histories[object_id]
            lineage = history.lineage(index, reverse, reads[object_id])
            history.tracked[index] = _entry(prediction, lineage, reverse)
            self._traces.keep(object_id, index, trace, pinned=False)
        return dict(zip(object_ids, predictions, strict=True))

    def _recall(self, object_id: int, frames: Collection[int]) -> None:
        """Track those of ``frames`` again whose traces were dropped, from where the object can be taken up.

        With the prompts as they are now: where those have changed, so may the masks. What was tracked in the other
        direction and dropped as well is left out of what they read.
        """
        tracked = self.histories[object_id].tracked

        def dropped(frame: int, reverse: bool) -> bool:
            entry = tracked.get(frame)
            return entry is not None and entry.reverse is reverse and self._traces.get(object_id, frame) is None

        for reverse in (False, True):
            wanted = sorted((frame for frame in frames if dropped(frame, reverse)), reverse=reverse)
            if not wanted:
                continue
            step = -1 if reverse else 1
            first = frame = wanted[0]
            while 0 <= frame - step < len(self._video) and abs(first - frame) < self.limits.pointers:
                frame -= step
                first = frame if dropped(frame, reverse) else first
            for frame in range(first, wanted[-1] + step, step):
                if dropped(frame, reverse):
                    self._follow(frame, [object_id], reverse)
        assert not any(dropped(frame, reverse) for frame in frames for reverse in (False, True)), "held by the caller"

    def _readable(self, object_id: int, reads: Reads) -> Readable:
        def fetched(frames: list[tuple[int, int]], name: str) -> list[tuple[int, Tensor]]:
            traces = ((away, self._traces.get(object_id, frame)) for away, frame in frames)
            return [(away, getattr(trace, name)) for away, trace in traces if trace is not None]

        return Readable(fetched(reads.slots, "tokens"), fetched(reads.pointers, "pointer"))

    def _gathered(self, readable: list[Readable]) -> MemoryView:
        return gather(readable, self.limits.pointers, self._segmenter.sizes.width)

    def known_logits(self, index: int, object_id: int, history: History) -> Tensor:
        """Logits [1, 1, S/4, S/4] of a mask that is known."""
        if index in history.proposed:
            return history.proposed[index].mask.logits
        self._recall(object_id, [index])
        trace = self._traces.get(object_id, index)
        assert trace is not None, "recalled"
        return trace.logits

    def _encoded(self, index: int) -> Encoded | None:
        """A frame and its features; None when it is damaged. Only the features are kept: of the frame, its size."""
        encoded = self._features.get(index)
        if encoded is None:
            frame = self._video.read(index)
            if frame is not None:
                hollow = replace(frame, image=np.broadcast_to(np.uint8(0), frame.image.shape))
                encoded = Encoded(hollow, self._segmenter.encode(frame).features)
                self._features.put(index, encoded)
        return encoded


def _outdated(history: History, index: int, reverse: bool) -> bool:
    """Whether tracking a frame would give something new."""
    if index in history.prompted:
        return False
    entry = history.tracked.get(index)
    return entry is None or entry.lineage != history.lineage(index, reverse, history.reads(index, reverse))


def _traces(shown: Segmentation, tokens: Tensor) -> list[Trace]:
    """What each row of a batch leaves behind."""
    return [Trace(own, mask.pointer[0], mask.logits) for own, mask in zip(tokens, rows(shown), strict=True)]


def _entry(prediction: Prediction, lineage: int, reverse: bool | None) -> Entry:
    return Entry(lineage, rle.encode(prediction.mask)["counts"], prediction.score, prediction.visible, reverse)


def _size(encoded: Encoded) -> int:
    return sum(tensor.nbytes for tensor in encoded.features)
