"""Where a mask is."""

from __future__ import annotations

import cv2
import numpy as np

from sam2track.data import Mask, Point


def interior_point(mask: Mask) -> Point:
    """The centre ``(x, y)`` of the pixel of a bool mask that lies farthest from its outline: a click nobody disputes.

    What lies outside the picture counts as background. The mask must not be empty.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column) + 0.5, float(row) + 0.5
