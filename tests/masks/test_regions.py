import numpy as np
import pytest

from sam2track.masks.regions import bounding_box, interior_point


def test_bounding_box_is_tight_and_exclusive():
    mask = np.zeros((10, 12), bool)
    assert bounding_box(mask) is None
    mask[3, 2] = mask[7, 9] = True
    assert bounding_box(mask) == (2, 3, 10, 8)


def test_interior_point_is_deepest_and_inside():
    mask = np.zeros((40, 60), bool)
    mask[10:21, 5:16] = True
    mask[15, 16:50] = True  # a long thin arm does not pull it away
    assert interior_point(mask) == (10.5, 15.5)


def test_interior_point_of_a_ring_is_not_in_its_hole():
    y, x = np.mgrid[0:41, 0:41]
    distance = np.hypot(x - 20, y - 20)
    mask = (distance > 8) & (distance < 18)
    column, row = interior_point(mask)
    assert mask[int(row), int(column)]
    assert np.hypot(column - 20.5, row - 20.5) == pytest.approx(13, abs=1.5)


def test_interior_point_counts_the_picture_s_edge_as_outline():
    assert interior_point(np.ones((5, 9), bool)) == (2.5, 2.5)
