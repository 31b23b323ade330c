"""Stills: masks of one picture from prompts, without memory.

    segmenter = ImageSegmenter.load("sam2.1-tiny")
    photo = segmenter.encode("photo.jpg")                                    # once
    first = segmenter.segment(photo, Prompt(points=[(510, 320)]), multimask=True)
    again = segmenter.segment(photo, Prompt(box=(420, 180, 640, 520)), logits=first.logits[first.best])

SAM (arXiv:2304.02643, section 3) with SAM 2's weights (arXiv:2408.00714): the features of a picture without memory
carry the learned no-memory embedding, as on the first frame of a video.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam2track import backends, pixels, steps
from sam2track.config import Config
from sam2track.contracts import Components, ImageFeatures
from sam2track.data import Frame, Mask, Prompt
from sam2track.errors import ConfigError, PromptError, SourceError
from sam2track.masks import rle
from sam2track.masks.regions import bounding_box
from sam2track.segmenter import Encoded
from sam2track.video.picture import ImageLike, to_rgb

if TYPE_CHECKING:
    import supervision

Logits = NDArray[np.float32]

_ALWAYS_VISIBLE = -math.inf  # a still is asked where the object is, not whether it is there


@dataclass(frozen=True, slots=True)
class MaskRules:
    """How low-resolution logits become masks.

    Attributes:
        threshold: logits above it are inside.
        max_hole_area: holes of at most this many low-resolution pixels are filled.
        max_sprinkle_area: specks of at most this many low-resolution pixels are dropped.
        stable: a single mask that changes much with the threshold gives way to the best of the three others.

    Raises:
        ConfigError: a threshold that is not finite, a negative area.
    """

    threshold: float = 0.0
    max_hole_area: float = 0
    max_sprinkle_area: float = 0
    stable: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ConfigError(f"mask threshold is {self.threshold}; expected a finite number")
        for name in ("max_hole_area", "max_sprinkle_area"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected low-resolution pixels, 0 or more")


class Candidates(NamedTuple):
    """What the decoder says to one prompt: N is 1, or 3 with ``multimask``."""

    logits: Tensor  # [N, S/4, S/4], as they come
    iou: Tensor  # [N], predicted, in [0, 1]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StillResult:
    """The masks for one prompt on a still; N is 1, or 3 with ``multimask``.

    Attributes:
        masks: bool ``[N, H, W]`` of the picture's size.
        scores: float32 ``[N]``, the model's own estimate of each mask's IoU with the truth, in [0, 1].
        logits: float32 ``[N, S/4, S/4]`` within +-32; one of them can be given with the next prompt.
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    logits: Logits

    @property
    def best(self) -> int:
        """Index of the mask with the best score."""
        return int(self.scores.argmax())

    def detections(self) -> supervision.Detections:
        """The masks that are not empty as ``supervision.Detections``; ``confidence`` is the score, ``class_id`` 0."""
        import supervision

        boxes = [bounding_box(mask) for mask in self.masks]
        kept = [n for n, box in enumerate(boxes) if box is not None]
        if not kept:
            return supervision.Detections.empty()
        return supervision.Detections(
            xyxy=np.array([boxes[n] for n in kept], dtype=np.float32),
            mask=self.masks[kept],
            confidence=self.scores[kept],
            class_id=np.zeros(len(kept), dtype=int),
        )

    def records(self) -> list[dict[str, Any]]:
        """Each mask as COCO has it, ``segmentation`` as RLE; ``bbox`` is x, y, width, height, all 0 when empty."""
        records = []
        for mask, score in zip(self.masks, self.scores.tolist(), strict=True):
            x0, y0, x1, y1 = bounding_box(mask) or (0.0, 0.0, 0.0, 0.0)
            bbox = [x0, y0, x1 - x0, y1 - y0]
            records.append(
                {"segmentation": rle.encode(mask), "area": int(mask.sum()), "bbox": bbox, "predicted_iou": score}
            )
        return records

    def __repr__(self) -> str:
        n, height, width = self.masks.shape
        scores = ", ".join(f"{score:.2f}" for score in self.scores)
        return f"StillResult({n} masks of {width}x{height}, scores=[{scores}])"


class EncodedBatch(NamedTuple):
    """Several pictures: those that could be encoded, and why the others could not, by position."""

    encoded: dict[int, Encoded]
    errors: dict[int, SourceError]


class ImageSegmenter:
    """Masks of stills: ``encode`` a picture once, then ``segment`` it with as many prompts as wanted.

    Keeps nothing of a picture, so it may be shared by threads.
    """

    def __init__(self, components: Components, config: Config | None = None, rules: MaskRules | None = None) -> None:
        self.components = components
        self.config = config or Config()
        self.sizes = components.sizes
        self.rules = rules or MaskRules()

    @classmethod
    def load(cls, model: str | Config = "nano", *, rules: MaskRules | None = None, **overrides: Any) -> ImageSegmenter:
        """Build a segmenter; ``model``, ``overrides`` and errors are those of ``Tracker.load``."""
        config = Config.load(model, **overrides)
        return cls(backends.load(config), config, rules)

    @property
    def device(self) -> torch.device:
        """Where the features are: the image encoder's device, as torch knows it."""
        engine, *device, _ = self.components.placement["image_encoder"].split(":")
        return torch.device(":".join(device) if engine == "torch" else "cpu")

    def with_rules(self, rules: MaskRules) -> ImageSegmenter:
        """The same model with other rules."""
        return ImageSegmenter(self.components, self.config, rules)

    def encode(self, image: ImageLike) -> Encoded:
        """Encode one picture: what ``video.picture.to_rgb`` takes. Raises ``SourceError`` if it is none."""
        frame = Frame(to_rgb(image), 0, Fraction(0))
        pixels_in = pixels.still_to_tensor(frame.image, self.sizes.image_size)
        with torch.inference_mode():
            return Encoded(frame, steps.encode(self.components, pixels_in))

    def encode_batch(self, images: Iterable[ImageLike]) -> EncodedBatch:
        """Encode several pictures, of any sizes; one that cannot be read does not stop the others."""
        batch = EncodedBatch({}, {})
        for position, image in enumerate(images):
            try:
                batch.encoded[position] = self.encode(image)
            except SourceError as error:
                batch.errors[position] = SourceError(f"image {position}: {error}")
        return batch

    def segment(
        self,
        image: ImageLike | Encoded,
        prompt: Prompt | None = None,
        *,
        logits: Logits | None = None,
        multimask: bool = False,
    ) -> StillResult:
        """Segment what one prompt means.

        Args:
            image: a picture, encoded already or not.
            prompt: in pixels of the picture. A mask prompt is taken as a draft, which the model redraws
                within its box.
            logits: ``[S/4, S/4]`` of an earlier mask, which the prompt refines; with it, the prompt may be None.
            multimask: three masks for an ambiguous prompt, such as a single click, in place of one.

        Raises:
            PromptError: a prompt or logits that cannot be used.
            SourceError: ``image`` is no picture.
        """
        return self.segment_batch(image, [prompt], [logits], multimask=multimask)[0]

    def segment_batch(
        self,
        image: ImageLike | Encoded,
        prompts: Sequence[Prompt | None],
        logits: Sequence[Logits | None] | None = None,
        *,
        multimask: bool = False,
    ) -> list[StillResult]:
        """Segment what each of several prompts means; prompts of equally many points are decoded as one batch."""
        encoded = image if isinstance(image, Encoded) else self.encode(image)
        candidates = self.candidates(encoded, prompts, logits, multimask=multimask)
        size = (encoded.frame.height, encoded.frame.width)
        return [
            StillResult(
                masks=self.cut(self.enlarge(logits, size)),
                scores=iou.float().cpu().numpy(),
                logits=logits.clamp(-steps.PRIOR_LIMIT, steps.PRIOR_LIMIT).cpu().numpy(),
            )
            for logits, iou in candidates
        ]

    def candidates(
        self,
        encoded: Encoded,
        prompts: Sequence[Prompt | None],
        logits: Sequence[Logits | None] | None = None,
        *,
        multimask: bool = False,
    ) -> list[Candidates]:
        """As ``segment_batch``, but logits and scores as the decoder gives them."""
        size, frame = self.sizes.image_size, encoded.frame
        given = [None] * len(prompts) if logits is None else list(logits)
        if len(given) != len(prompts):
            raise PromptError(f"{len(prompts)} prompts but {len(given)} logits; give one for each, or None")
        priors = [self._prior(n, p, x, frame) for n, (p, x) in enumerate(zip(prompts, given, strict=True))]
        clicks = [_clicks(prompt) for prompt in prompts]
        points = [pixels.to_points(p, frame.height, frame.width, size) if p else ([], []) for p in clicks]
        found: dict[int, Candidates] = {}
        for count in sorted({len(labels) for _, labels in points}):
            rows = [n for n, (_, labels) in enumerate(points) if len(labels) == count]
            xy, label = pixels.pad_points([points[n] for n in rows])
            batch = self.decode(
                encoded.features,
                (xy.reshape(len(rows), count, 2), label),
                _stacked([priors[n] for n in rows]),
                multimask,
            )
            found |= zip(rows, map(Candidates, *batch), strict=True)
        return [found[n] for n in range(len(prompts))]

    def decode(
        self,
        features: ImageFeatures,
        points: tuple[Tensor, Tensor],
        prior: tuple[Tensor | None, Tensor | None] = (None, None),
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Logits ``[B, N, S/4, S/4]`` and predicted IoU ``[B, N]`` for B prompts as ``steps.decode`` takes them."""
        with torch.inference_mode():
            base = features.s16_alone.expand(len(points[1]), -1, -1, -1)
            said = steps.decode(self.components, features, base, points, prior)
            if multimask:
                return said.logits[:, 1:].float(), said.iou[:, 1:]
            if not self.rules.stable:
                return said.logits[:, :1].float(), said.iou[:, :1]
            chosen = steps.single_mask(said, _ALWAYS_VISIBLE)
            return chosen.logits, chosen.iou[:, None]

    def enlarge(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits ``[N, S/4, S/4]``, holes and specks removed, at ``size`` (height, width)."""
        rules = self.rules
        clean = pixels.clean_still(logits[:, None], rules.threshold, rules.max_hole_area, rules.max_sprinkle_area)
        return pixels.resize_logits(clean, size)[:, 0]

    def cut(self, logits: Tensor) -> Mask:
        """Logits of any shape as bool masks."""
        return (logits > self.rules.threshold).cpu().numpy()

    def _prior(self, n: int, prompt: Prompt | None, logits: Logits | None, frame: Frame) -> Tensor | None:
        """The earlier mask of a prompt as logits ``[1, S/4, S/4]``; checks both."""
        if prompt is not None and not isinstance(prompt, Prompt):
            raise PromptError(f"prompt {n} is a {type(prompt).__name__}; build one with Prompt(points=..., box=...)")
        if prompt is None and logits is None:
            raise PromptError(f"prompt {n} is None and has no logits; give points, a box, a mask or logits")
        if prompt is not None:
            prompt.check_inside(frame.height, frame.width)
            if prompt.mask is not None:
                if logits is not None:
                    raise PromptError(f"prompt {n} has a mask and logits; give one of them")
                return pixels.mask_to_logits(pixels.to_mask_prompt(prompt.mask, self.sizes.image_size))[0]
        return None if logits is None else self._checked_logits(n, logits)

    def _checked_logits(self, n: int, logits: Logits) -> Tensor:
        array = np.array(logits, dtype=np.float32)
        side = self.sizes.mask_size
        if array.shape not in ((side, side), (1, side, side)):
            raise PromptError(f"logits {n} have shape {list(array.shape)}; this model takes [{side}, {side}]")
        if not np.isfinite(array).all():
            raise PromptError(f"logits {n} are not all finite; give those of a result")
        return torch.from_numpy(array).reshape(1, side, side)


def segment(
    image: ImageLike,
    prompt: Prompt | None = None,
    model: str | Config | ImageSegmenter = "nano",
    *,
    logits: Logits | None = None,
    multimask: bool = False,
) -> StillResult:
    """Segment one picture; for more than one, or several prompts, load an ``ImageSegmenter`` once and give it.

    Arguments and errors are those of ``ImageSegmenter.segment`` and, for ``model``, of ``Tracker.load``.
    """
    segmenter = model if isinstance(model, ImageSegmenter) else ImageSegmenter.load(model)
    return segmenter.segment(image, prompt, logits=logits, multimask=multimask)


def _clicks(prompt: Prompt | None) -> Prompt | None:
    """The prompt as points and a box; a draft alone says too little, so its box goes with it."""
    if prompt is None or prompt.mask is None:
        return prompt
    return Prompt(box=bounding_box(prompt.mask))


def _stacked(priors: Sequence[Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
    """Earlier masks as a batch, and 1 for the prompts that have one."""
    known = [prior for prior in priors if prior is not None]
    if not known:
        return None, None
    none = torch.zeros_like(known[0])
    flags = torch.tensor([float(prior is not None) for prior in priors])
    return torch.stack([none if prior is None else prior for prior in priors]), flags
