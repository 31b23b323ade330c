"""Prompts that are found on the way: asked for on their frame, given there, under ids of their own."""

from fractions import Fraction

import numpy as np
import pytest

import sam2track as st
from sam2track.backends import fake
from tests.clips import moving_square

CLICK = st.Prompt(points=[(10, 25)])


def frames(count):
    return [st.Frame(image, index, Fraction(index, 30)) for index, image in enumerate(moving_square(count))]


class Finds:
    """A prompter that finds ``what[index]`` objects on frame ``index``."""

    def __init__(self, what):
        self.what, self.asked = what, []

    def due(self, index):
        return index in self.what

    def find(self, encoded, result, room):
        self.asked.append((encoded.frame.index, result.index, tuple(result.objects), room))
        return [CLICK] * min(self.what[encoded.frame.index], room)


@pytest.fixture
def tracker():
    return st.Tracker(fake.components(64), st.Config(tracking={"max_objects": 5}))


def ids(run):
    return [list(result.objects) for _, result in run]


def test_found_objects_are_there_from_their_frame_on(tracker, overlap):
    prompter = Finds({0: 2, 3: 1})
    assert ids(st.track(frames(6), tracker, prompter=prompter, overlap=overlap)) == [[1, 2]] * 3 + [[1, 2, 3]] * 3
    assert prompter.asked == [(0, 0, (), 5), (3, 3, (1, 2), 3)]


def test_no_more_than_the_tracker_takes(tracker, overlap):
    prompter = Finds({0: 9, 2: 9})
    assert ids(st.track(frames(4), tracker, prompter=prompter, overlap=overlap)) == [[1, 2, 3, 4, 5]] * 4
    assert prompter.asked[1][3] == 0


def test_room_is_left_for_prompts_that_are_still_to_come(tracker, overlap):
    prompter = Finds({0: 9, 3: 9})
    prompts = {2: {7: CLICK}, 4: {7: CLICK, 8: CLICK}}
    found = ids(st.track(frames(6), tracker, prompts, prompter=prompter, overlap=overlap))
    assert (found[0], found[-1]) == ([9, 10, 11], [9, 10, 11, 7, 8])
    assert [room for *_, room in prompter.asked] == [3, 0]


def test_ids_are_above_all_others_and_never_used_again(tracker):
    tracker.step(frames(1)[0], {7: CLICK})
    run = st.track(frames(8), tracker, {5: {9: CLICK}}, prompter=Finds({0: 1, 3: 1}), overlap=False)
    seen = []
    for frame, result in run:
        seen.append(list(result.objects))
        if frame.index == 0:
            run.remove(10)
    assert seen[0] == [7, 10]
    assert seen[-1] == [7, 11, 9]


def test_a_frame_that_is_due_is_encoded_once(tracker, overlap):
    run = st.track(frames(4), tracker, prompter=Finds({0: 1, 2: 1}), overlap=overlap)
    list(run)
    assert run.timings.summary()["image_encoder"].count == 4
    assert run.timings.summary()["discover"].count == 2


def test_an_error_of_the_prompter_reaches_the_caller(tracker, overlap):
    class Fails(Finds):
        def find(self, encoded, result, room):
            raise RuntimeError("no idea")

    with pytest.raises(RuntimeError, match="no idea"):
        list(st.track(frames(4), tracker, prompter=Fails({1: 1}), overlap=overlap))


def test_found_masks_are_prompts_like_others(tracker):
    mask = np.zeros((64, 96), bool)
    mask[20:40, 30:60] = True

    class Mask(Finds):
        def find(self, encoded, result, room):
            return [st.Prompt(mask=mask)]

    (_, result), *_ = st.track(frames(2), tracker, prompter=Mask({0: 1}))
    assert (result.objects[1].mask ^ mask).sum() < 0.2 * mask.sum()
