"""``SAM2ImagePredictor``: the official stills interface over ``ImageSegmenter``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sam2track.compat.sam2.arrays import as_array
from sam2track.compat.sam2.build import build_sam2_hf
from sam2track.data import Prompt
from sam2track.errors import PromptError, SourceError
from sam2track.segmenter import Encoded, Segmenter
from sam2track.steps import PRIOR_LIMIT
from sam2track.stills import ImageSegmenter, MaskRules
from sam2track.video.picture import ImageLike

Arrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
_Lists = tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[NDArray[np.float32]]]
_RULES = ("mask_threshold", "max_hole_area", "max_sprinkle_area")


class SAM2ImagePredictor:
    """Call ``set_image``, then ``predict`` as often as wanted; or ``set_image_batch`` and ``predict_batch``.

    Args:
        sam_model: what ``build_sam2`` returns.
        mask_threshold: logits above it are inside.
        max_hole_area: holes of at most so many low-resolution pixels are filled.
        max_sprinkle_area: specks of at most so many low-resolution pixels are dropped.
    """

    def __init__(
        self,
        sam_model: Segmenter,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
    ) -> None:
        self.model = sam_model
        self.mask_threshold = mask_threshold
        rules = MaskRules(mask_threshold, max_hole_area, max_sprinkle_area)
        self._segmenter = ImageSegmenter(sam_model.components, sam_model.config, rules)
        self._encoded: list[Encoded] = []

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2ImagePredictor:
        """By repository, such as ``facebook/sam2.1-hiera-tiny``; with arguments of the class or of ``build_sam2``."""
        rules = {name: kwargs.pop(name) for name in _RULES if name in kwargs}
        return cls(build_sam2_hf(model_id, **kwargs), **rules)

    def set_image(self, image: ImageLike) -> None:
        """Encode a picture: RGB uint8 ``[H, W, 3]``, a PIL image, or what else ``video.picture.to_rgb`` takes."""
        self.reset_predictor()
        self._encoded = [self._segmenter.encode(image)]

    def set_image_batch(self, image_list: Sequence[ImageLike]) -> None:
        """Encode several pictures. Raises ``SourceError`` that names those that cannot be read; then none is set."""
        self.reset_predictor()
        batch = self._segmenter.encode_batch(image_list)
        if batch.errors:
            raise SourceError("; ".join(map(str, batch.errors.values())))
        self._encoded = [batch.encoded[n] for n in range(len(image_list))]

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Arrays:
        """Masks ``[C, H, W]`` (0 or 1, or logits), predicted IoU ``[C]`` and low-resolution logits ``[C, S/4, S/4]``.

        All are float32, and C is 3 with ``multimask_output``, else 1. B prompts at once, as boxes ``[B, 4]`` or points
        ``[B, P, 2]``, put B in front where it is more than 1. Coordinates are pixels, or shares of the picture
        without ``normalize_coords``.

        Raises:
            RuntimeError: no image is set.
            PromptError: no prompt, or one that cannot be used.
        """
        return self._predict(
            0, (point_coords, point_labels, box, mask_input), multimask_output, return_logits, normalize_coords
        )

    def predict_batch(
        self,
        point_coords_batch: Sequence[ArrayLike] | None = None,
        point_labels_batch: Sequence[ArrayLike] | None = None,
        box_batch: Sequence[ArrayLike] | None = None,
        mask_input_batch: Sequence[ArrayLike] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> _Lists:
        """``predict`` for each picture of ``set_image_batch``: lists of masks, predicted IoU and logits."""
        batches = (point_coords_batch, point_labels_batch, box_batch, mask_input_batch)
        results = [
            self._predict(
                n,
                tuple(None if batch is None else batch[n] for batch in batches),
                multimask_output,
                return_logits,
                normalize_coords,
            )
            for n in range(len(self._encoded))
        ]
        masks, iou, logits = (list(column) for column in zip(*results, strict=True)) if results else ([], [], [])
        return masks, iou, logits

    def get_image_embedding(self) -> Tensor:
        """The picture's features ``[B, d, S/16, S/16]``, no-memory embedding included; B pictures are set."""
        self._encoded_image(0)
        return torch.cat([encoded.features.s16_alone for encoded in self._encoded])

    @property
    def device(self) -> torch.device:
        """Where the image encoder runs, as torch knows it."""
        return self._segmenter.device

    def reset_predictor(self) -> None:
        """Forget the pictures."""
        self._encoded = []

    def _predict(
        self, n: int, given: tuple[Any, ...], multimask: bool, return_logits: bool, normalize_coords: bool
    ) -> Arrays:
        encoded = self._encoded_image(n)
        height, width = size = (encoded.frame.height, encoded.frame.width)
        prompts, drafts = _prompts(given, (1, 1) if normalize_coords else (width, height))
        said = self._segmenter.candidates(encoded, prompts, drafts, multimask=multimask)
        masks = [self._segmenter.enlarge(logits, size) for logits, _ in said]
        return (
            _joined([mask.cpu().numpy() if return_logits else self._segmenter.cut(mask) for mask in masks]),
            _joined([iou.cpu().numpy() for _, iou in said]),
            _joined([logits.clamp(-PRIOR_LIMIT, PRIOR_LIMIT).cpu().numpy() for logits, _ in said]),
        )

    def _encoded_image(self, n: int) -> Encoded:
        if not self._encoded:
            raise RuntimeError("no image is set; call set_image or set_image_batch first")
        return self._encoded[n]


def _prompts(given: tuple[Any, ...], scale: tuple[int, int]) -> tuple[list[Prompt | None], list[Any]]:
    """B prompts and drafts from points, labels, boxes and drafts with or without a leading B; a B of 1 is for all."""
    points, labels, boxes, drafts = given
    if points is not None and labels is None:
        raise PromptError("point_coords come without point_labels; give one label a point: 1 on the object, 0 not")
    columns = [
        _rows(points, 3, "point_coords"),
        _rows(labels if points is not None else None, 2, "point_labels"),
        _rows(boxes, 2, "box"),
        _rows(drafts, 4, "mask_input"),
    ]
    count = max((len(column) for column in columns if column is not None), default=1)
    rows = [_repeated(column, count) for column in columns]
    x, y = scale
    prompts = [
        None
        if xy is None and box is None
        else Prompt(
            points=[] if xy is None else [(px * x, py * y) for px, py in xy],
            labels=None if label is None else label.tolist(),
            box=None if box is None else tuple(box * (x, y, x, y)),
        )
        for xy, label, box in zip(*rows[:3], strict=True)
    ]
    return prompts, rows[3]


def _rows(values: Any, ndim: int, name: str) -> NDArray[Any] | None:
    """``values`` as an array of ``ndim`` dimensions, the first of which counts prompts."""
    if values is None:
        return None
    array = as_array(values)
    if array.ndim == ndim - 1:
        array = array[None]
    if array.ndim != ndim:
        raise PromptError(f"{name} have shape {list(array.shape)}; expected {ndim - 1} or {ndim} dimensions")
    return array


def _repeated(column: NDArray[Any] | None, count: int) -> list[Any]:
    if column is None:
        return [None] * count
    if len(column) not in (1, count):
        raise PromptError(f"prompts are for {len(column)} and for {count} objects at once; give as many of each kind")
    return [column[n if len(column) > 1 else 0] for n in range(count)]


def _joined(rows: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    return (rows[0] if len(rows) == 1 else np.stack(rows)).astype(np.float32)
