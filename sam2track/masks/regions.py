"""Where a mask is."""

from __future__ import annotations

import cv2
import numpy as np

from sam2track.data import Box, Mask, Point


def bounding_box(mask: Mask) -> Box | None:
    """Tight ``(x0, y0, x1, y1)`` around a bool mask, right and bottom exclusive; None when it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def interior_point(mask: Mask) -> Point:
    """The centre ``(x, y)`` of the pixel of a bool mask that lies farthest from its outline: a click nobody disputes.

    What lies outside the picture counts as background. The mask must not be empty.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column) + 0.5, float(row) + 0.5
