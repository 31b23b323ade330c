"""One loaded model with its rules: what it makes of a frame, for several objects at once.

The ``Tracker`` and the ``Session`` share it. It remembers no object: memories come in as a batch and
go out as tokens, and who keeps them is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sam2track import backends, pixels, steps
from sam2track.config import Config
from sam2track.contracts import Components, ImageFeatures
from sam2track.data import Frame, Prediction, Prompt
from sam2track.errors import PromptError
from sam2track.masks.regions import bounding_box
from sam2track.memory import MemoryView
from sam2track.steps import Segmentation
from sam2track.timing import Timings


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A frame and its image features."""

    frame: Frame
    features: ImageFeatures


class Segmenter:
    """Masks of one frame: ``encode`` it, ``follow`` the tracked objects, ``segment`` the prompted, ``remember`` all.

    Masks travel as object id -> ``Segmentation`` of batch 1. Call it under ``torch.inference_mode``; ``encode``
    enters that by itself.
    """

    def __init__(self, components: Components, config: Config) -> None:
        self.config = config
        self.placement = components.placement
        self.sizes = components.sizes
        self.timings = Timings()
        self.components = self._timed(components)
        self._rules = config.tracking
        self._empty = steps.empty_prompt(components)

    @classmethod
    def load(cls, model: str | Config = "nano", **overrides: Any) -> Segmenter:
        """Load a model; arguments and errors are those of ``Tracker.load``."""
        config = Config.load(model, **overrides)
        return cls(backends.load(config), config)

    def encode(self, frame: Frame, image: Tensor | None = None) -> Encoded:
        """Resize and encode a frame; thread-safe. ``image`` [1, 3, S, S], normalised, replaces its pixels."""
        if image is None:
            with self.timings.measure("preprocess"):
                image = pixels.to_tensor(frame.image, self.sizes.image_size)
        with torch.inference_mode():
            return Encoded(frame, steps.encode(self.components, image))

    def follow(
        self, encoded: Encoded, ids: Iterable[int], memory: MemoryView
    ) -> tuple[dict[int, Segmentation], dict[int, Tensor]]:
        """Track objects into the frame by their memories, one row each: their masks, and the fused features of each."""
        fused, batch = steps.propagate(
            self.components, encoded.features, memory, self._empty, self._rules.visible_above
        )
        ids = tuple(ids)
        return dict(zip(ids, rows(batch), strict=True)), {i: fused[row : row + 1] for row, i in enumerate(ids)}

    def segment(
        self,
        encoded: Encoded,
        prompts: Mapping[int, Prompt],
        bases: Mapping[int, Tensor],
        priors: Mapping[int, Tensor],
    ) -> dict[int, Segmentation]:
        """Segment the prompted objects, in one batch for each number of points: padding would change the masks.

        Args:
            encoded: the frame.
            prompts: object id -> prompt, in its pixels.
            bases: object id -> fused features of those that are tracked on this frame.
            priors: object id -> logits [1, 1, S/4, S/4] of the mask they have on this frame.

        Raises:
            PromptError: a mask too small for the model to see.
        """
        features, size = encoded.features, self.sizes.image_size
        height, width = encoded.frame.height, encoded.frame.width
        points = {i: pixels.to_points(p, height, width, size) for i, p in prompts.items() if p.mask is None}
        masks: dict[int, Segmentation] = {}
        for count in sorted({len(labels) for _, labels in points.values()}):
            ids = [i for i, (_, labels) in points.items() if len(labels) == count]
            device = features.s16_alone.device
            base = torch.cat([bases.get(i, features.s16_alone).to(device) for i in ids])
            none = torch.zeros(1, 1, self.sizes.mask_size, self.sizes.mask_size)
            prior = torch.cat([priors[i].cpu() if i in priors else none for i in ids])
            flags = torch.tensor([float(i in priors) for i in ids])
            batch = steps.segment_points(
                self.components,
                features,
                base,
                pixels.pad_points([points[i] for i in ids]),
                (prior, flags),
                self._rules.visible_above,
            )
            masks |= zip(ids, rows(batch), strict=True)
        given = {i: p.mask for i, p in prompts.items() if p.mask is not None}
        if given:
            mask = torch.cat([pixels.to_mask_prompt(m, size) for m in given.values()])
            for (i, own), seen in zip(given.items(), mask, strict=True):
                if not seen.any():
                    raise PromptError(
                        f"mask of object {i} ({int(own.sum())} px of {width}x{height}) vanishes at image size {size}; "
                        "prompt it with a box or a click, or use a larger image_size"
                    )
            masks |= zip(given, rows(steps.segment_mask(self.components, features, mask)), strict=True)
        return masks

    def remember(
        self, encoded: Encoded, masks: Mapping[int, Segmentation], prompted: Collection[int]
    ) -> tuple[Segmentation, Tensor]:
        """What is shown and what is remembered of ``masks``: their batch with holes filled, and tokens [B, M, m]."""
        batch = joined(list(masks.values()))
        shown = batch._replace(logits=self.filled(batch.logits))
        given = torch.tensor([float(i in prompted) for i in masks], device=batch.logits.device)
        # A prompted mask is remembered as it was shown, a propagated one as the decoder gave it.
        seen = torch.where(given[:, None, None, None] > 0, shown.logits, batch.logits)
        tokens = steps.remember(
            self.components, encoded.features, batch._replace(logits=seen), given, self.sizes.image_size
        )
        return shown, tokens

    def filled(self, logits: Tensor) -> Tensor:
        """``logits`` [B, 1, S/4, S/4] with small holes filled."""
        with self.timings.measure("postprocess"):
            return pixels.fill_holes(logits, self._rules.fill_holes)

    def predictions(self, shown: Segmentation, height: int, width: int) -> list[Prediction]:
        """The batch ``shown`` on a frame of ``height`` x ``width``."""
        with self.timings.measure("postprocess"):
            masks = pixels.to_masks(shown.logits, height, width)
            visible = (shown.object_score[:, 0] > self._rules.visible_above).tolist()
            scores = shown.iou.float().clamp(0, 1).tolist()
            return [
                Prediction(mask, score if seen else 0.0, seen, bounding_box(mask))
                for mask, score, seen in zip(masks, scores, visible, strict=True)
            ]

    def _timed(self, components: Components) -> Components:
        """The same components, timed under their own names wherever ``self.timings`` points at the time."""

        def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def measured(*tensors: Tensor) -> Any:
                with self.timings.measure(stage):
                    return call(*tensors)

            return measured

        return replace(
            components,
            image_encoder=timed("image_encoder", components.image_encoder),
            memory_attention=timed("memory_attention", components.memory_attention),
            mask_decoder=timed("mask_decoder", components.mask_decoder),
            memory_encoder=timed("memory_encoder", components.memory_encoder),
        )


def rows(batch: Segmentation) -> list[Segmentation]:
    """A batch of B as B batches of one."""
    return [Segmentation(*(tensor[i : i + 1] for tensor in batch)) for i in range(batch.iou.shape[0])]


def joined(masks: Sequence[Segmentation]) -> Segmentation:
    """Batches as one."""
    return Segmentation(*(torch.cat(tensors) for tensors in zip(*masks, strict=True)))
