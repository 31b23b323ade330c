import pytest
import torch

from sam2track.memory import Memory, MemoryBank, MemoryLimits, Readable, gather, view

TOKENS, WIDTH, MEMORY_WIDTH = 4, 6, 3


def memory(step):
    return Memory(step, torch.full((TOKENS, MEMORY_WIDTH), float(step)), torch.full((WIDTH,), float(step)))


def bank(prompted_steps, steps, limits=MemoryLimits()):  # noqa: B008 - a frozen value
    filled = MemoryBank(limits)
    for step in range(1, steps + 1):
        filled.keep(memory(step), step in prompted_steps)
    return filled


def test_reads_the_prompted_frame_the_six_latest_and_fifteen_pointers():
    filled = bank({1}, 40)
    assert [(slot, int(tokens[0, 0])) for slot, tokens in filled.slots(41)] == [
        (0, 1), (6, 35), (5, 36), (4, 37), (3, 38), (2, 39), (1, 40),
    ]  # fmt: skip
    ages = [age for age, _ in filled.pointers(41)]
    assert ages == [40, *range(15, 0, -1)]


def test_a_corrected_frame_leaves_a_gap_among_the_recent_ones():
    filled = bank({1, 8}, 9)
    assert [slot for slot, _ in filled.slots(10)] == [0, 0, 6, 5, 4, 3, 1]


def test_is_bounded_however_long_the_stream_and_keeps_the_first_prompt():
    limits = MemoryLimits(prompted=3, recent=2, pointers=5)
    filled = bank({1, *range(10, 1000, 10)}, 1000, limits)
    assert len(filled._tokens) <= 2 + 1  # the step just made, and what a refinement of it reads
    assert len(filled._pointers) <= 4 + 1
    assert sorted(filled._prompted) == [1, 980, 990]


def test_a_refinement_reads_what_the_step_itself_read():
    before, after = bank({1}, 19), bank({1}, 20)
    assert [slot for slot, _ in after.slots(20)] == [slot for slot, _ in before.slots(20)]
    assert [age for age, _ in after.pointers(20)] == [age for age, _ in before.pointers(20)]


def test_over_the_cap_a_prompted_frame_becomes_an_ordinary_one():
    filled = bank({1, 2, 3, 4}, 4, MemoryLimits(prompted=2))
    assert [(slot, int(t[0, 0])) for slot, t in filled.slots(5)] == [(0, 1), (0, 4), (3, 2), (2, 3)]


def test_keeping_a_step_again_replaces_it():
    filled = bank({1}, 3)
    filled.keep(Memory(3, torch.full((TOKENS, MEMORY_WIDTH), 30.0), torch.full((WIDTH,), 30.0)), prompted=True)
    assert [(slot, int(t[0, 0])) for slot, t in filled.slots(4)] == [(0, 1), (0, 30), (2, 2)]
    assert [slot for slot, _ in filled.slots(3)] == [0, 1], "a step never reads itself"


def test_view_pads_and_says_what_is_real():
    limits = MemoryLimits()
    seen = view([bank({1}, 3), bank({1}, 1)], 4, limits, WIDTH)
    assert seen.tokens.shape == (2, 3, TOKENS, MEMORY_WIDTH)
    assert seen.pointer.shape == (2, 3, WIDTH)
    assert seen.slot.tolist() == [[0, 2, 1], [0, 1, 1]]
    assert seen.valid.tolist() == [[True] * 6, [True, False, False, True, False, False]]
    assert seen.age[0].tolist() == pytest.approx([3 / 15, 2 / 15, 1 / 15])
    assert view([bank({1}, 3)] * 2, 4, limits, WIDTH).valid is None


def test_an_object_without_pointers_has_one_that_is_not_real():
    tokens = torch.ones(TOKENS, MEMORY_WIDTH)
    alone = gather([Readable([(0, tokens)], [])], 16, WIDTH)
    assert (alone.pointer.shape, alone.valid.tolist()) == ((1, 1, WIDTH), [[True, False]])
    both = gather([Readable([(0, tokens)], []), Readable([(0, tokens)], [(3, torch.ones(WIDTH))])], 16, WIDTH)
    assert both.valid.tolist() == [[True, False], [True, True]]
    assert both.age[1].tolist() == pytest.approx([3 / 15])
