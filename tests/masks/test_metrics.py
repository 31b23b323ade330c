import numpy as np
import pytest

from sam2track.masks.metrics import iou


def test_iou():
    a = np.zeros((10, 10), bool)
    b = a.copy()
    assert iou(a, b) == 1.0
    a[:, :6] = True
    assert iou(a, b) == 0.0
    b[:, 3:] = True
    assert iou(a, b) == pytest.approx(0.3)
    assert iou(a, a) == 1.0


def test_iou_refuses_masks_of_two_sizes():
    with pytest.raises(ValueError, match="resize one"):
        iou(np.zeros((1, 4), bool), np.zeros((4, 4), bool))
