"""What was discovered: masks as RLE, and the rules by which one mask makes another superfluous."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sam2track.data import Box, Mask, Point
from sam2track.masks import rle
from sam2track.masks.rle import Rle

if TYPE_CHECKING:
    import supervision

NEAR = 20  # pixels: a box that close to the edge of a crop was probably cut by it


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DiscoveredMask:
    """One mask that a click of the grid gave.

    Attributes:
        rle: the mask, of the picture's size, as COCO RLE.
        area: pixels of the mask.
        box: tight ``(x0, y0, x1, y1)`` around it, right and bottom exclusive.
        score: the model's own estimate of the mask's IoU with the truth, in [0, 1].
        stability: IoU of the mask cut a little higher with the mask cut a little lower, in [0, 1].
        point: the click ``(x, y)``.
        crop: ``(x0, y0, x1, y1)`` of the crop it was found in.
    """

    rle: Rle
    area: int
    box: Box
    score: float
    stability: float
    point: Point
    crop: tuple[int, int, int, int]

    @property
    def mask(self) -> Mask:
        """The mask, bool ``[H, W]``."""
        return rle.decode(self.rle)

    def record(self, *, as_mask: bool = False) -> dict[str, Any]:
        """The mask with the official package's keys, boxes as COCO has them: x, y, width, height."""
        return {
            "segmentation": self.mask if as_mask else self.rle,
            "area": self.area,
            "bbox": _xywh(self.box),
            "predicted_iou": self.score,
            "point_coords": [list(self.point)],
            "stability_score": self.stability,
            "crop_box": _xywh(self.crop),
        }

    def __repr__(self) -> str:
        return f"DiscoveredMask({self.area} px, score={self.score:.2f}, box={self.box})"


@dataclass(frozen=True, slots=True, eq=False)
class DiscoveredMasks:
    """All masks of one picture, best first; a sequence of ``DiscoveredMask``.

    Attributes:
        size: ``(height, width)`` of the picture and of every mask.
        masks: the masks.
    """

    size: tuple[int, int]
    masks: tuple[DiscoveredMask, ...]

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[DiscoveredMask]:
        return iter(self.masks)

    def __getitem__(self, index: int) -> DiscoveredMask:
        return self.masks[index]

    def records(self, *, as_masks: bool = False) -> list[dict[str, Any]]:
        """Each mask as a dict with the official package's keys; ``segmentation`` is COCO RLE, or bool ``[H, W]``."""
        return [mask.record(as_mask=as_masks) for mask in self.masks]

    def detections(self) -> supervision.Detections:
        """The masks as ``supervision.Detections``; ``confidence`` is the score, ``class_id`` 0."""
        import supervision

        if not self.masks:
            return supervision.Detections.empty()
        return supervision.Detections(
            xyxy=np.array([mask.box for mask in self.masks], dtype=np.float32),
            mask=np.stack([mask.mask for mask in self.masks]),
            confidence=np.array([mask.score for mask in self.masks], dtype=np.float32),
            class_id=np.zeros(len(self.masks), dtype=int),
        )


def suppress(masks: Sequence[DiscoveredMask], ranks: Sequence[float], threshold: float) -> list[DiscoveredMask]:
    """``masks`` by falling rank, without those whose box has an IoU above ``threshold`` with one that is kept.

    Of equal ranks the earlier comes first. As in SAM, a box here ends at the centre of its last pixel. OpenCV's
    suppression would take all boxes without an area for the same, and supervision's turns ties round.
    """
    order = np.argsort(-np.asarray(ranks, dtype=np.float64), kind="stable")
    boxes = np.array([mask.box for mask in masks], dtype=np.float64).reshape(-1, 4) - (0, 0, 1, 1)
    kept: list[DiscoveredMask] = []
    while order.size:
        first, order = order[0], order[1:]
        kept.append(masks[first])
        order = order[~(_iou(boxes[first], boxes[order]) > threshold)]
    return kept


def cut_by_crop(box: Box, crop: tuple[int, int, int, int], height: int, width: int) -> bool:
    """Whether ``box`` comes close to an edge of ``crop`` that is no edge of the picture."""
    x0, y0, x1, y1 = box
    ends = (x0, y0, x1 - 1, y1 - 1)
    picture = (0, 0, width, height)
    return any(abs(e - c) <= NEAR and abs(e - p) > NEAR for e, c, p in zip(ends, crop, picture, strict=True))


def _iou(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU ``[N]`` of a box with ``others`` [N, 4]; NaN where neither has an area."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    with np.errstate(invalid="ignore"):
        return np.asarray(shared / union, dtype=np.float64)


def _xywh(box: Sequence[float]) -> list[float]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]
