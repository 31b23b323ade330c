"""How well a mask agrees with the truth."""

from __future__ import annotations

import numpy as np

from sam2track.data import Mask


def iou(a: Mask, b: Mask) -> float:
    """Region similarity J of two bool masks ``[H, W]``: intersection over union, in [0, 1]; 1 when both are empty.

    Raises:
        ValueError: the masks differ in size.
    """
    if a.shape != b.shape:
        raise ValueError(f"masks of shape {list(a.shape)} and {list(b.shape)} cannot be compared; resize one")
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
