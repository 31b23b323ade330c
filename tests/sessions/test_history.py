"""What a frame reads, and what its lineage tells."""

import pytest
import torch

from sam2track.memory import MemoryLimits
from sam2track.sessions.history import Entry, History, Proposal, nearest, new_lineage
from sam2track.steps import Segmentation

NOTHING = Segmentation(*(torch.zeros(1) for _ in range(4)))


def entry(reverse: bool | None = None) -> Entry:
    return Entry(new_lineage(), "", 0.5, True, reverse)


def history(prompted: list[int], tracked: range, most: int = 99) -> History:
    made = History(MemoryLimits(most, 6, 16))
    made.prompted = {frame: entry() for frame in prompted}
    made.tracked = {frame: entry(False) for frame in tracked}
    return made


def test_forwards_and_in_reverse() -> None:
    known = history([5, 30], range(6, 30))
    forwards, reverse = known.reads(28, False), known.reads(8, True)
    assert forwards.slots == [(0, 5), (0, 30), *((ago, 28 - ago) for ago in range(6, 0, -1))]
    assert forwards.pointers == [(23, 5), *((ago, 28 - ago) for ago in range(1, 16))], "not the one to come"
    assert reverse.slots == [(0, 5), (0, 30), *((ago, 8 + ago) for ago in range(6, 0, -1))]
    assert reverse.pointers == [(22, 30), *((ago, 8 + ago) for ago in range(1, 16))]


def test_a_corrected_prompted_frame_reads_itself() -> None:
    assert history([5], range(0)).reads(5, False) == ([(0, 5)], [(0, 5)])


def test_prompted_frames_that_are_not_chosen_are_read_as_neighbours() -> None:
    reads = history([0, 9, 10, 20], range(0), most=2).reads(11, False)
    assert reads.slots == [(0, 10), (0, 20), (2, 9)]
    assert reads.pointers == [(1, 10), (2, 9), (11, 0)]
    assert reads.frames == {0, 9, 10, 20}


@pytest.mark.parametrize(
    ("most", "chosen"), [(1, [9]), (2, [9, 12]), (3, [9, 12, 13]), (4, [8, 9, 12, 13]), (5, [2, 8, 9, 12, 13])]
)
def test_nearest(most: int, chosen: list[int]) -> None:
    assert nearest([13, 2, 12, 8, 9], 11, most) == chosen


def test_lineage_changes_with_what_is_read_and_not_without() -> None:
    known = history([0], range(1, 20))

    def lineage(frame: int, reverse: bool = False) -> int:
        return known.lineage(frame, reverse, known.reads(frame, reverse))

    before = {frame: lineage(frame) for frame in range(1, 40)}
    assert len(set(before.values())) == len(before)
    assert lineage(8, True) != before[8]
    known.tracked[10] = entry(False)
    assert [frame for frame in before if lineage(frame) != before[frame]] == list(range(11, 26))
    known.prompted[0] = entry()
    assert all(lineage(frame) != before[frame] for frame in before)


def test_prompts_of_the_first_frames_are_told_apart() -> None:
    """hash(-1) == hash(-2): lineages of prompts must not be negative."""
    known = history([], range(0))
    seen = set()
    for number in range(-3, 4):
        known.prompted[0] = Entry(number, "", 0.5, True, None)
        seen.add(known.lineage(1, False, known.reads(1, False)))
    assert len(seen) == 6
    assert min(new_lineage(), new_lineage()) > 0


def test_settling_and_withdrawing() -> None:
    known = history([3], range(4, 9))
    known.proposed = {f: Proposal(NOTHING, entry(), joins) for f, joins in ((3, False), (5, True), (6, False))}
    proposed = {frame: known.at(frame) for frame in (3, 5, 6)}
    assert known.settle(3) is None, "no correction that stays ordinary replaces a prompted frame"
    assert known.settle(5) is proposed[5]
    assert known.settle(6) is proposed[6]
    assert (sorted(known.prompted), sorted(known.tracked), known.proposed) == ([3, 5], [4, 6, 7, 8], {})
    known.passed = {5: False, 6: False}
    known.withdraw(5)
    known.withdraw(6)
    assert (sorted(known.prompted), known.tracked[5], known.passed) == ([3], proposed[5], {6: False})
    assert known.frames == {3, 4, 5, 6, 7, 8}
