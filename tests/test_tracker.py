"""The tracker over fake components: what is bright is the object."""

from fractions import Fraction

import numpy as np
import pytest

from sam2track.backends import fake
from sam2track.config import Config
from sam2track.data import Frame, Prompt
from sam2track.errors import PromptError
from sam2track.segmenter import Encoded
from sam2track.tracker import Tracker

CLICK = Prompt(points=[(20, 20)])


def frame(index, x=16, bright=True):
    image = np.zeros((64, 96, 3), np.uint8)
    if bright:
        image[16:48, x : x + 32] = 255
    return Frame(image, index, Fraction(index, 30))


@pytest.fixture
def tracker():
    return Tracker(fake.components())


def test_follows_a_moving_square_through_occlusion(tracker):
    results = [tracker.step(frame(0), {1: CLICK})]
    results += [tracker.step(frame(t, 16 + t, bright=t not in (3, 4))) for t in range(1, 7)]
    assert [r.objects[1].visible for r in results] == [True, True, True, False, False, True, True]
    assert results[3].objects[1].box is None
    assert results[3].objects[1].score == 0
    assert not results[3].objects[1].mask.any()
    x0, y0, x1, y1 = results[6].objects[1].box
    assert (x0, y0, x1, y1) == pytest.approx((22, 16, 54, 48), abs=3)
    assert (results[6].index, results[6].time, results[6].size) == (6, Fraction(6, 30), (64, 96))


def test_scores_are_the_iou_of_the_chosen_mask(tracker):
    assert tracker.step(frame(0), {1: CLICK}).objects[1].score == pytest.approx(0.9)
    two = Prompt(points=[(20, 20), (30, 30)])
    assert tracker.step(frame(1), {2: two}).objects[2].score == pytest.approx(0.5), "two clicks: the single mask"
    mask = np.zeros((64, 96), bool)
    mask[10:20, 10:20] = True
    assert tracker.step(frame(2), {3: Prompt(mask=mask)}).objects[3].score == 1


def test_a_mask_prompt_is_the_answer_on_its_frame(tracker):
    mask = np.zeros((64, 96), bool)
    mask[8:56, 30:60] = True
    shown = tracker.step(frame(0), {4: Prompt(mask=mask)}).objects[4].mask
    assert (shown & mask).sum() / (shown | mask).sum() > 0.9


def test_a_mask_too_small_to_be_seen_is_refused_and_changes_nothing(tracker):
    tracker.step(frame(0), {1: CLICK})
    mask = np.zeros((640, 960), bool)
    mask[200:203, 200:203] = True
    large = Frame(np.zeros((640, 960, 3), np.uint8), 1, Fraction(1, 30))
    with pytest.raises(PromptError, match=r"mask of object 2 \(9 px of 960x640\) vanishes at image size \d+; prompt"):
        tracker.step(large, {2: Prompt(mask=mask)})
    assert tracker.object_ids == (1,)
    mask[200:230, 200:220] = True  # too small to be shown, but seen
    assert list(tracker.step(large, {2: Prompt(mask=mask)}).objects) == [1, 2]


def test_a_correction_where_memory_holds_no_pointer():
    limits = {"prompted": 1, "pointers": 1}
    tracker = Tracker(fake.components(), Config(memory=limits))
    tracker.step(frame(0), {1: CLICK})
    tracker.step(frame(1), {1: CLICK})
    again = tracker.refine({1: CLICK}).objects[1]
    assert again.visible
    assert again.mask[20, 20]


def test_objects_come_and_go_on_any_frame(tracker):
    assert tracker.step(frame(0)).objects == {}
    assert list(tracker.step(frame(1), {5: CLICK}).objects) == [5]
    assert list(tracker.step(frame(2), {2: CLICK, 9: Prompt(box=(10, 10, 50, 50))}).objects) == [5, 2, 9]
    tracker.remove(2)
    assert tracker.object_ids == (5, 9)
    assert list(tracker.step(frame(3)).objects) == [5, 9]
    tracker.reset()
    assert tracker.step(frame(4)).objects == {}


def test_refine_answers_for_the_prompted_objects_only(tracker):
    tracker.step(frame(0), {1: CLICK, 2: CLICK})
    tracker.step(frame(1))
    result = tracker.refine({2: CLICK, 3: CLICK})
    assert list(result.objects) == [2, 3]
    assert result.index == 1
    assert tracker.object_ids == (1, 2, 3)
    assert [slot for slot, _ in tracker._banks[2].slots(3)] == [0, 0], "the corrected frame is a prompted one"
    assert [slot for slot, _ in tracker._banks[1].slots(3)] == [0, 1]


def test_a_correction_may_stay_an_ordinary_frame():
    tracker = Tracker(fake.components(), Config(model="nano", memory={"keep_corrections": False}))
    tracker.step(frame(0), {1: CLICK})
    tracker.step(frame(1), {1: CLICK})
    assert [slot for slot, _ in tracker._banks[1].slots(3)] == [0, 1]
    tracker.refine({2: CLICK})
    tracker.refine({2: CLICK})
    assert [slot for slot, _ in tracker._banks[2].slots(3)] == [0], "a new object's first frame always counts"


def test_an_encoded_frame_gives_the_same_result(tracker):
    other = Tracker(fake.components())
    encoded = other.encode(frame(0))
    assert isinstance(encoded, Encoded)
    a, b = tracker.step(frame(0), {1: CLICK}), other.step(encoded, {1: CLICK})
    assert np.array_equal(a.objects[1].mask, b.objects[1].mask)
    assert set(tracker.timings.summary()) == {
        "preprocess", "image_encoder", "mask_decoder", "memory_encoder", "postprocess",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({1: Prompt(points=[(97, 3)])}, "outside the 96x64 frame"),
        ({"a": CLICK}, "object id 'a' is not an integer"),
        ({-1: CLICK}, "negative"),
        ({1: (3, 4)}, "is not a Prompt"),
        ({1: Prompt(mask=np.ones((3, 3), bool))}, "mask is 3x3 but the frame is 96x64"),
        (dict.fromkeys(range(17), CLICK), "number 17 of at most 16"),
    ],
)
def test_a_refused_prompt_changes_nothing(tracker, prompts, message):
    tracker.step(frame(0), {7: CLICK}) if len(prompts) == 1 else None
    before = tracker.object_ids
    with pytest.raises(PromptError, match=message):
        tracker.step(frame(1), prompts)
    assert tracker.object_ids == before
    tracker.step(frame(1))


def test_a_step_that_fails_half_way_leaves_the_tracker_as_it_was(tracker, monkeypatch):
    tracker.step(frame(0), {1: CLICK})
    tracker.step(frame(1))
    slots = [slot for slot, _ in tracker._banks[1].slots(3)]

    def broken(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("sam2track.steps.remember", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            tracker.step(frame(2), {2: CLICK})
    assert tracker.object_ids == (1,)
    assert [slot for slot, _ in tracker._banks[1].slots(3)] == slots
    assert tracker.refine({1: CLICK}).index == 1


def test_wrong_calls_are_named(tracker):
    with pytest.raises(PromptError, match="no frame to refine"):
        tracker.refine({1: CLICK})
    tracker.step(frame(0))
    with pytest.raises(PromptError, match="no prompts to refine with"):
        tracker.refine({})
    with pytest.raises(PromptError, match="object 3 is not tracked; tracked objects: none"):
        tracker.remove(3)
