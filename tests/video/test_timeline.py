from __future__ import annotations

from fractions import Fraction

import numpy as np

from sam2track.video.decode import Picture
from sam2track.video.timeline import Timeline

IMAGE = np.zeros((2, 2, 3), np.uint8)
MS = Fraction(1, 1000)


def places(timeline: Timeline, times: list[int | None], lost: dict[int, int] | None = None) -> list[tuple[int, int]]:
    """(index, milliseconds) that the timeline gives pictures at ``times`` (ms)."""
    lost = lost or {}
    frames = [
        timeline.frame(Picture(IMAGE, None if time is None else time * MS, lost.get(at, 0)))
        for at, time in enumerate(times)
    ]
    return [(frame.index, int(frame.time / MS)) for frame in frames]


def test_the_clock_is_followed_exactly_from_zero() -> None:
    assert places(Timeline(Fraction(10), MS), [5000, 5033, 5900, 7000]) == [(0, 0), (1, 33), (2, 900), (3, 2000)]


def test_missing_times_advance_by_a_frame() -> None:
    assert places(Timeline(Fraction(10), MS), [None, None, 300, 400]) == [(0, 0), (1, 100), (2, 200), (3, 300)]
    assert places(Timeline(Fraction(10), MS), [50, None, 250]) == [(0, 0), (1, 100), (2, 200)]


def test_a_repeated_time_is_moved_by_one_tick_and_nothing_drifts() -> None:
    assert places(Timeline(Fraction(10), MS), [0, 100, 100, 90, 200]) == [
        (0, 0),
        (1, 100),
        (2, 101),
        (3, 102),
        (4, 200),
    ]


def test_a_jump_back_is_a_new_clock() -> None:
    assert places(Timeline(Fraction(10), MS), [9000, 9100, 0, 100]) == [(0, 0), (1, 100), (2, 200), (3, 300)]


def test_lost_pictures_keep_their_place_except_before_the_first() -> None:
    assert places(Timeline(Fraction(10), MS), [0, 300], lost={0: 3, 1: 2}) == [(0, 0), (3, 300)]


def test_after_a_restart_time_goes_on_by_the_pause() -> None:
    timeline = Timeline(Fraction(10), MS)
    places(timeline, [0, 100])
    timeline.restart(2.5)
    assert places(timeline, [777_000, 777_040]) == [(2, 2700), (3, 2740)]
    assert timeline.count == 4


def test_unknown_rate() -> None:
    assert places(Timeline(None, MS), [0, None]) == [(0, 0), (1, 40)]
