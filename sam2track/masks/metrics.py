"""How well a mask agrees with the truth: the measures of DAVIS (Perazzi et al., CVPR 2016, section 4).

Of one frame: region similarity J and contour accuracy F. Of a sequence: their mean, recall and decay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2track.data import Mask

TOLERANCE = 0.008  # of the image diagonal, by which contours may miss each other


def iou(a: Mask, b: Mask) -> float:
    """Region similarity J of two bool masks ``[H, W]``: intersection over union, in [0, 1]; 1 when both are empty.

    Raises:
        ValueError: the masks differ in size.
    """
    _check_sizes(a, b)
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def contour_accuracy(truth: Mask, predicted: Mask, tolerance: float = TOLERANCE) -> float:
    """Contour accuracy F of two bool masks ``[H, W]``, in [0, 1]; 1 when neither has a contour.

    The F-measure of precision and recall of contour pixels. A pixel counts as matched when the other
    contour comes within ``tolerance`` of the image diagonal, rounded up to whole pixels: a dilation in
    place of the bipartite matching of the paper, as in the evaluation that DAVIS published.

    Raises:
        ValueError: the masks differ in size.
    """
    _check_sizes(truth, predicted)
    reach = math.ceil(tolerance * math.hypot(*truth.shape))
    window = _surroundings(truth | predicted)
    if window is None:
        return 1.0
    expected, found = contour(truth[window]), contour(predicted[window])
    precision, recall = _covered(found, expected, reach), _covered(expected, found, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: Mask) -> Mask:
    """The contour of a bool mask ``[H, W]``: pixels that differ from their right, lower or lower right neighbour."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def recall(values: Sequence[float], above: float = 0.5) -> float:
    """Share of frames whose value is higher than ``above``, in [0, 1]."""
    return float(np.mean(np.asarray(values) > above))


def decay(values: Sequence[float]) -> float:
    """Mean of the first quarter of the frames less that of the last: what is lost over time; below 0 if gained.

    Quarters meet on a frame that belongs to both, as in the evaluation that DAVIS published.
    """
    quarter = (len(values) - 1) / 4
    first, last = math.floor(quarter + 0.5), math.floor(3 * quarter + 0.5)
    return float(np.mean(values[: first + 1]) - np.mean(values[last:]))


def _check_sizes(a: Mask, b: Mask) -> None:
    if a.shape != b.shape:
        raise ValueError(f"masks of shape {list(a.shape)} and {list(b.shape)} cannot be compared; resize one")


def _surroundings(mask: Mask) -> tuple[slice, slice] | None:
    """Where the contour of anything in ``mask`` lies, a pixel around included; None when it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _covered(contour: Mask, other: Mask, reach: int) -> float:
    """Share of ``contour`` within ``reach`` pixels of ``other``; 1 when there is nothing to cover."""
    count = int(np.count_nonzero(contour))
    if not count:
        return 1.0
    near = cv2.dilate(other.view(np.uint8), _disk(reach)).view(np.bool_)
    return int(np.count_nonzero(contour & near)) / count


@lru_cache(maxsize=8)
def _disk(radius: int) -> NDArray[np.uint8]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk: NDArray[np.uint8] = (x * x + y * y <= radius * radius).astype(np.uint8)
    return disk
