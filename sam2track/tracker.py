"""The tracker: object ids, one memory bank each, and one verb per frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2track import backends
from sam2track.config import Config
from sam2track.contracts import Components
from sam2track.data import Frame, FrameResult, Prediction, Prompt, checked_id
from sam2track.errors import PromptError
from sam2track.memory import Memory, MemoryBank, MemoryLimits, view
from sam2track.segmenter import Encoded, Segmenter, rows
from sam2track.steps import Segmentation
from sam2track.timing import Timings

NO_PROMPTS: Mapping[int, Prompt] = MappingProxyType({})


class _Last(NamedTuple):
    """What ``refine`` needs of the last step."""

    frame: Frame | Encoded
    logits: dict[int, Tensor]  # object id -> [1, 1, S/4, S/4], holes filled


class Tracker:
    """Follows objects through a stream of frames.

    Call ``step`` once a frame, with prompts for the objects that get one on that frame; between frames,
    ``refine`` adds prompts to the frame just seen, ``remove`` forgets an object and ``reset`` all of them.

    An object id is any integer from 0 on. The first prompt of an id starts the object; a later one corrects
    it, and its effect on memory is that this frame joins the object's prompted frames, which it always
    consults. Objects share nothing but the frame: adding, correcting or removing one leaves the others' masks
    as they were. A call that raises changes nothing.

    Not thread-safe but for ``encode``, which keeps no state.
    """

    def __init__(self, components: Components, config: Config | None = None) -> None:
        config = config or Config()
        self.name = config.model
        self.placement = components.placement
        self.sizes = components.sizes
        self._segmenter = Segmenter(components, config)
        self._max_objects = config.tracking.max_objects
        self._keep_corrections = config.memory.keep_corrections
        self._limits = MemoryLimits(config.memory.prompted, config.memory.recent, config.memory.pointers)
        self._banks: dict[int, MemoryBank] = {}
        self._step = 0
        self._last: _Last | None = None

    @classmethod
    def load(cls, model: str | Config = "nano", **overrides: Any) -> Tracker:
        """Build a tracker.

        Args:
            model: a model name (``sam2track models`` lists them), the path of a config file, or a ``Config``.
            overrides: ``weights=``, ``image_size=``, ``device=`` and what else ``Config.load`` takes.

        Raises:
            ConfigError: a setting that cannot be used.
            WeightsError: weights that are missing, damaged or of another model.
            BackendError: a component that cannot run where it is pinned.
        """
        config = Config.load(model, **overrides)
        return cls(backends.load(config), config)

    @property
    def timings(self) -> Timings:
        """Seconds by stage; assign another to have them counted there."""
        return self._segmenter.timings

    @timings.setter
    def timings(self, timings: Timings) -> None:
        self._segmenter.timings = timings

    @property
    def components(self) -> Components:
        """The network, each component timed under its name."""
        return self._segmenter.components

    @property
    def room(self) -> int:
        """How many more objects may be added."""
        return self._max_objects - len(self._banks)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the tracked objects, in the order they were added."""
        return tuple(self._banks)

    def encode(self, frame: Frame, image: Tensor | None = None) -> Encoded:
        """Resize and encode a frame; thread-safe, so that it can run ahead of ``step``.

        Args:
            frame: the frame.
            image: a normalised ``[1, 3, S, S]`` tensor to encode in place of the frame's own pixels.
        """
        return self._segmenter.encode(frame, image)

    def step(self, frame: Frame | Encoded, prompts: Mapping[int, Prompt] = NO_PROMPTS) -> FrameResult:
        """Track all objects into the next frame.

        Args:
            frame: the next frame of the stream, encoded already or not.
            prompts: object id -> prompt, in pixels of this frame. An id not seen before starts an object; a prompt
                for a tracked object corrects what was propagated and makes this frame one of its prompted frames.

        Returns:
            Every tracked object on this frame, visible or not.

        Raises:
            PromptError: an id or prompt that cannot be used; the tracker is as it was before.
        """
        picture = frame.frame if isinstance(frame, Encoded) else frame
        prompts = self._checked(prompts, picture)
        logits: dict[int, Tensor] = {}
        predictions: dict[int, Prediction] = {}
        if self._banks or prompts:
            frame = frame if isinstance(frame, Encoded) else self.encode(frame)
            with torch.inference_mode():
                masks = self._masks(frame, self._step + 1, tuple(self._banks), prompts, {})
                logits, predictions = self._commit(frame, self._step + 1, masks, prompts)
        self._step += 1
        self._last = _Last(frame, logits)
        return FrameResult(picture.index, picture.time, (picture.height, picture.width), predictions)

    def refine(self, prompts: Mapping[int, Prompt]) -> FrameResult:
        """Correct objects, or start new ones, on the frame that was stepped last.

        Each prompted object is segmented again from its prompt, its memory and its mask on that frame, which then
        replaces what the frame left in memory.

        Returns:
            The prompted objects on that frame.

        Raises:
            PromptError: there is no last frame, no prompt, or one that cannot be used.
        """
        if self._last is None:
            raise PromptError("no frame to refine; call step first")
        if not prompts:
            raise PromptError("no prompts to refine with; give at least one object id and prompt")
        frame = self._last.frame if isinstance(self._last.frame, Encoded) else self.encode(self._last.frame)
        prompts = self._checked(prompts, frame.frame)
        followed = [i for i in prompts if i in self._banks and self._banks[i].slots(self._step)]
        with torch.inference_mode():
            masks = self._masks(frame, self._step, followed, prompts, self._last.logits)
            logits, predictions = self._commit(frame, self._step, masks, prompts)
        self._last = _Last(frame, self._last.logits | logits)
        picture = frame.frame
        return FrameResult(picture.index, picture.time, (picture.height, picture.width), predictions)

    def remove(self, object_id: int) -> None:
        """Stop tracking an object and forget it. Raises ``PromptError`` when there is no such object."""
        if object_id not in self._banks:
            known = ", ".join(map(str, self._banks)) or "none"
            raise PromptError(f"object {object_id} is not tracked; tracked objects: {known}")
        del self._banks[object_id]
        if self._last is not None:
            self._last.logits.pop(object_id, None)

    def reset(self) -> None:
        """Forget every object and the last frame."""
        self._banks.clear()
        self._step = 0
        self._last = None

    def _masks(
        self,
        encoded: Encoded,
        step: int,
        tracked: Iterable[int],
        prompts: Mapping[int, Prompt],
        priors: Mapping[int, Tensor],
    ) -> dict[int, Segmentation]:
        """Object id -> its mask (batch 1): tracked objects propagated, then prompted ones segmented."""
        # A mask prompt says all there is to say: nothing to propagate.
        tracked = [i for i in tracked if i not in prompts or prompts[i].mask is None]
        masks: dict[int, Segmentation] = {}
        bases: dict[int, Tensor] = {}
        priors = dict(priors)
        if tracked:
            memory = view([self._banks[i] for i in tracked], step, self._limits, self.sizes.width)
            masks, bases = self._segmenter.follow(encoded, tracked, memory)
            for i in masks.keys() & prompts.keys():
                priors.setdefault(i, self._segmenter.filled(masks[i].logits))
        return masks | self._segmenter.segment(encoded, prompts, bases, priors)

    def _commit(
        self, encoded: Encoded, step: int, masks: dict[int, Segmentation], prompts: Mapping[int, Prompt]
    ) -> tuple[dict[int, Tensor], dict[int, Prediction]]:
        """Encode the memories, work out the predictions, and only then change the tracker."""
        ids = [i for i in self._banks if i in masks] + [i for i in masks if i not in self._banks]
        shown, tokens = self._segmenter.remember(encoded, {i: masks[i] for i in ids}, prompts)
        picture = encoded.frame
        predictions = self._segmenter.predictions(shown, picture.height, picture.width)
        for row, i in enumerate(ids):
            first = i not in self._banks or (i in prompts and not self._banks[i].slots(step))
            bank = self._banks.setdefault(i, MemoryBank(self._limits))
            keep_as_prompted = i in prompts and (first or self._keep_corrections)
            bank.keep(Memory(step, tokens[row].clone(), shown.pointer[row].clone()), keep_as_prompted)
        logits = {i: mask.logits for i, mask in zip(ids, rows(shown), strict=True)}
        return logits, dict(zip(ids, predictions, strict=True))

    def _checked(self, prompts: Mapping[int, Prompt], frame: Frame) -> dict[int, Prompt]:
        checked = {checked_id(i): prompt for i, prompt in prompts.items()}
        for prompt in checked.values():
            if not isinstance(prompt, Prompt):
                raise PromptError(f"{prompt!r} is not a Prompt; build one with Prompt(points=..., box=... or mask=...)")
            prompt.check_inside(frame.height, frame.width)
        new = [i for i in checked if i not in self._banks]
        most = self._max_objects
        if len(self._banks) + len(new) > most:
            raise PromptError(
                f"object {new[-1]} would be number {len(self._banks) + len(new)} of at most {most}; "
                "remove one or raise tracking.max_objects"
            )
        return checked
