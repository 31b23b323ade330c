"""New objects in a video: what is bright is the object, so what turns bright is discovered."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

import sam2track as st
from sam2track.backends import fake
from sam2track.errors import ConfigError
from tests.clips import solid

RULES = st.DiscoveryRules(points_per_side=4, pred_iou_thresh=0.5, stability_score_thresh=0.3)


def frame(index: int, *squares: tuple[int, int, int, int]) -> st.Frame:
    image = solid((20, 20, 20))
    for x0, y0, x1, y1 in squares:
        image[y0:y1, x0:x1] = 240
    return st.Frame(image, index, Fraction(index, 30))


LEFT, RIGHT = (8, 8, 40, 40), (56, 16, 88, 56)


@pytest.fixture
def tracker() -> st.Tracker:
    return st.Tracker(fake.components(64))


def result(shown: st.Frame, *masks: NDArray[np.bool_]) -> st.FrameResult:
    predictions = {i: st.Prediction(mask, 0.9, True, None) for i, mask in enumerate(masks, 1)}
    return st.FrameResult(shown.index, shown.time, (64, 96), predictions)


def around(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    mask = np.zeros((64, 96), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_due_on_the_first_frame_and_every_so_many(tracker: st.Tracker) -> None:
    discoverer = st.Discoverer(tracker, every=10, rules=RULES)
    due = []
    for index in (3, 4, 12, 13, 14, 29, 30, 39):
        shown = frame(index)
        if discoverer.due(index):
            due.append(index)
            discoverer.find(tracker.encode(shown), result(shown), 5)
    assert due == [3, 13, 29, 39]  # a frame that was skipped is made up for by the next
    once = st.Discoverer(tracker, every=0, rules=RULES)
    once.find(tracker.encode(frame(0)), result(frame(0)), 5)
    assert not once.due(10**9)


def test_only_what_is_large_enough_and_hardly_covered(tracker: st.Tracker) -> None:
    shown = frame(0, LEFT)
    encoded = tracker.encode(shown)

    def found(*masks: NDArray[np.bool_], room: int = 5, **limits: float) -> list[st.Prompt]:
        return st.Discoverer(tracker, rules=RULES, **limits).find(encoded, result(shown, *masks), room)

    (prompt,) = found()
    assert prompt.mask is not None
    assert prompt.mask[12:36, 12:36].all()
    assert found(room=0) == []
    assert found(min_area=0.5) == []
    corner = around(8, 8, 24, 24)  # a quarter of it
    assert found(corner, max_covered=0.1) == []
    assert len(found(corner, max_covered=0.5)) == 1
    assert found(around(0, 0, 96, 64)) == []


def test_it_remembers_that_there_was_no_room(tracker: st.Tracker) -> None:
    shown = frame(0, LEFT)
    encoded = tracker.encode(shown)
    discoverer = st.Discoverer(tracker, rules=RULES)
    assert len(discoverer.find(encoded, result(shown), 1)) == 1
    assert not discoverer.full
    assert discoverer.find(encoded, result(shown), 0) == []
    assert discoverer.full


def test_a_clip_without_a_prompt(tracker: st.Tracker) -> None:
    """An object that appears is found at the next discovery; one that is tracked is not found again."""
    clip = [frame(index, *((LEFT,) if index >= 4 else ())) for index in range(12)]
    run = st.track(clip, tracker, prompter=st.Discoverer(tracker, every=3, rules=RULES))
    objects = [list(seen.objects) for _, seen in run]
    assert objects == [[]] * 6 + [[1]] * 6
    assert run.timings.summary()["discover"].count == 4


def test_bad_limits_are_named(tracker: st.Tracker) -> None:
    with pytest.raises(ConfigError, match="every is -1"):
        st.Discoverer(tracker, every=-1)
    with pytest.raises(ConfigError, match="max_covered is 2; expected a share"):
        st.Discoverer(tracker, max_covered=2)


def test_what_the_tracker_cannot_see_is_left_out(tracker: st.Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = frame(0, LEFT)
    speck = np.zeros((6400, 9600), bool)
    speck[10:12, 10:12] = True
    square = around(*LEFT)
    found = [SimpleNamespace(mask=mask, area=int(mask.sum()), score=0.9) for mask in (speck, square)]
    monkeypatch.setattr("sam2track.discovery.video.discover", lambda *_, **__: found[:1])
    discoverer = st.Discoverer(tracker, rules=RULES, min_area=0)
    large = replace(result(shown), size=speck.shape)
    assert discoverer.find(tracker.encode(shown), large, 5) == []
    monkeypatch.setattr("sam2track.discovery.video.discover", lambda *_, **__: found[1:])
    (prompt,) = discoverer.find(tracker.encode(shown), result(shown), 5)
    assert prompt.mask is square


def test_another_clip_is_looked_at_from_its_beginning(tracker: st.Tracker) -> None:
    discoverer = st.Discoverer(tracker, every=30, rules=RULES)
    for length in (6, 3, 40):
        tracker.reset()
        clip = [frame(index, LEFT) for index in range(length)]
        run = st.track(clip, tracker, prompter=discoverer)
        assert [list(seen.objects) for _, seen in run] == [[1]] * length
        assert run.timings.summary()["discover"].count == (2 if length > 30 else 1)


def test_a_lack_of_room_is_of_one_clip(tracker: st.Tracker) -> None:
    first = frame(0, LEFT)
    discoverer = st.Discoverer(tracker, every=2, rules=RULES)
    discoverer.find(tracker.encode(first), result(first), 0)
    discoverer.find(tracker.encode(frame(2)), result(frame(2)), 1)
    assert discoverer.full
    discoverer.find(tracker.encode(first), result(first), 1)
    assert not discoverer.full
