from fractions import Fraction

import numpy as np
import pytest

from sam2track.data import Frame, FrameResult, Prediction, Prompt
from sam2track.errors import PromptError


def test_frame_prints_its_shape_and_refuses_what_is_no_picture():
    frame = Frame(np.zeros((4, 6, 3), np.uint8), 2, Fraction(1001, 30000))
    assert (frame.height, frame.width) == (4, 6)
    assert repr(frame) == "Frame(6x4, index=2, time=0.033s)"
    for image in (np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.float32), np.zeros((0, 6, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
            Frame(image, 0, Fraction(0))


def test_prompt_normalises_points_and_labels():
    prompt = Prompt(points=np.array([[1, 2], [3, 4]]), labels=np.array([1, 0]), box=(0, 1, 5, 6))
    assert prompt.points == ((1.0, 2.0), (3.0, 4.0))
    assert prompt.labels == (1, 0)
    assert prompt.box == (0.0, 1.0, 5.0, 6.0)
    assert Prompt(points=[(1, 2)]).labels == (1,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "prompt is empty"),
        ({"points": [(1, 2)], "labels": [1, 0]}, "1 points but 2 labels"),
        ({"points": [(1, 2)], "labels": [3]}, "label 3 is neither 1"),
        ({"points": [(1, 2)], "labels": 1}, "labels 1 are not a list"),
        ({"points": [(10**400, 2)]}, "not 2 numbers"),
        ({"points": (1, 2)}, "wrap a single point"),
        ({"points": 7}, "not a list of"),
        ({"points": [(1, float("nan"))]}, "not 2 finite numbers"),
        ({"points": [(1, 2, 3)]}, "not 2 finite numbers"),
        ({"points": [("a", 2)]}, "not 2 numbers"),
        ({"box": (5, 5, 5, 9)}, "is empty; expected"),
        ({"box": (1, 2, 3)}, "not 4 finite numbers"),
        ({"mask": np.zeros((4, 4), bool)}, "mask is empty"),
        ({"mask": np.ones((4, 4), np.uint8)}, "mask is uint8; expected bool"),
        ({"mask": np.ones((4, 4, 1), bool)}, "expected .H, W."),
        ({"mask": np.ones((4, 4), bool), "points": [(1, 2)]}, "a mask stands alone"),
    ],
)
def test_prompt_refuses(given, message):
    with pytest.raises(PromptError, match=message):
        Prompt(**given)


def test_prompt_must_lie_inside_its_frame():
    Prompt(points=[(0, 0), (8, 4)]).check_inside(4, 8)
    with pytest.raises(
        PromptError, match=r"point \(9, 1\) lies outside the 8x4 frame; x goes from 0 to 8, y from 0 to 4"
    ):
        Prompt(points=[(9, 1)]).check_inside(4, 8)
    with pytest.raises(PromptError, match=r"box .* lies outside"):
        Prompt(box=(8, 0, 12, 3)).check_inside(4, 8)
    with pytest.raises(PromptError, match="mask is 4x4 but the frame is 8x4"):
        Prompt(mask=np.ones((4, 4), bool)).check_inside(4, 8)


def test_detections_hold_visible_objects_only():
    mask = np.zeros((4, 8), bool)
    mask[1:3, 2:5] = True
    result = FrameResult(
        0,
        Fraction(0),
        (4, 8),
        {
            7: Prediction(mask, 0.75, True, (2.0, 1.0, 5.0, 3.0)),
            9: Prediction(np.zeros((4, 8), bool), 0.0, False, None),
        },
    )
    detections = result.detections()
    assert detections.tracker_id.tolist() == [7]
    assert detections.xyxy.tolist() == [[2, 1, 5, 3]]
    assert detections.confidence.tolist() == [0.75]
    assert np.array_equal(detections.mask[0], mask)
    assert len(FrameResult(0, Fraction(0), (4, 8)).detections()) == 0
