import cv2
import numpy as np
import pytest
from skimage import data
from vos_benchmark.evaluator import Evaluator

from sam2track.masks.metrics import contour, contour_accuracy, decay, iou, recall


def benchmark(truth, predicted):
    """J and F of one frame as the vos-benchmark package has them."""
    evaluator = Evaluator()
    evaluator.feed_frame(predicted.astype(np.uint8), truth.astype(np.uint8))
    j, f = evaluator.conclude()
    return j[1] / 100, f[1] / 100


def scores(truth, predicted):
    return iou(truth, predicted), contour_accuracy(truth, predicted)


def blob(random, size):
    """Ellipses, some over the edge, with a little noise now and then."""
    height, width = size
    mask = np.zeros(size, np.uint8)
    for _ in range(random.integers(1, 4)):
        centre = (int(random.integers(-10, width + 10)), int(random.integers(-10, height + 10)))
        axes = (int(random.integers(1, width // 2 + 2)), int(random.integers(1, height // 2 + 2)))
        cv2.ellipse(mask, centre, axes, float(random.integers(180)), 0, 360, 1, -1)
    noise = random.random(size) < random.choice([0, 0, 0.02])
    return (mask > 0) ^ noise


def test_iou():
    a = np.zeros((10, 10), bool)
    b = a.copy()
    assert iou(a, b) == 1.0
    a[:, :6] = True
    assert iou(a, b) == 0.0
    b[:, 3:] = True
    assert iou(a, b) == pytest.approx(0.3)
    assert iou(a, a) == 1.0


@pytest.mark.parametrize("measure", [iou, contour_accuracy])
def test_masks_of_two_sizes_are_refused(measure):
    with pytest.raises(ValueError, match="resize one"):
        measure(np.zeros((1, 4), bool), np.zeros((4, 4), bool))


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (7, 5), (60, 90), (240, 427), (480, 854)])
def test_j_and_f_of_random_shapes_equal_vos_benchmark(size):
    random = np.random.default_rng(size[0])
    compared = 0
    for _ in range(6 if size[0] > 200 else 30):
        truth = blob(random, size)
        predicted = np.roll(truth, random.integers(-6, 7), axis=(0, 1)) if random.random() < 0.6 else blob(random, size)
        if truth.any():
            compared += 1
            assert scores(truth, predicted) == pytest.approx(benchmark(truth, predicted), abs=1e-12)
    assert compared > 3


def test_j_and_f_of_a_real_shape_equal_vos_benchmark():
    horse = ~data.horse()  # a silhouette of 328 x 400
    for change in (cv2.erode, cv2.dilate):
        predicted = change(horse.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert scores(horse, predicted) == pytest.approx(benchmark(horse, predicted), abs=1e-12)
    assert 0 < contour_accuracy(horse, np.roll(horse, 7, axis=1)) < 1


def test_f_of_empty_masks():
    empty, full = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    full[5:20, 5:20] = True
    assert contour_accuracy(empty, empty) == 1
    assert contour_accuracy(full, empty) == 0
    assert contour_accuracy(empty, full) == 0


def test_f_forgives_a_shift_within_the_tolerance_and_no_more():
    truth = np.zeros((300, 400), bool)  # a diagonal of 500: 4 px
    truth[100:200, 100:200] = True
    assert contour_accuracy(truth, np.roll(truth, 4, axis=1)) == 1
    assert contour_accuracy(truth, np.roll(truth, 5, axis=1)) < 0.7
    assert contour_accuracy(truth, np.roll(truth, 5, axis=1), tolerance=0.01) == 1


def test_a_contour_lies_on_the_pixels_before_a_change():
    mask = np.zeros((5, 6), bool)
    mask[2:4, 2:4] = True
    assert contour(mask).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 0, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_recall_counts_what_is_above_one_half():
    assert recall([0.5, 0.51, 0.9, 0.1]) == 0.5


def test_decay_is_the_first_quarter_less_the_last():
    assert decay([1.0, 1.0, 0.7, 0.6, 0.6, 0.5, 0.2, 0.2, 0.2]) == pytest.approx((1 + 1 + 0.7) / 3 - 0.2)
    assert decay([0.3] * 7) == pytest.approx(0)
    assert decay([0.0, 1.0]) == -1
    assert decay([0.4]) == 0
