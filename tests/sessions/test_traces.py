"""Traces under a budget."""

import torch

from sam2track.sessions.traces import Trace, Traces

BYTES = 100
BLOCK = 4


def trace() -> Trace:
    return Trace(torch.zeros(10, dtype=torch.bfloat16), torch.zeros(10), torch.zeros(10))


def fill(traces: Traces, frames: range, object_id: int = 1) -> None:
    for frame in frames:
        traces.keep(object_id, frame, trace(), pinned=False)


def kept(traces: Traces, count: int, object_id: int = 1) -> list[int]:
    return [frame for frame in range(count) if traces.get(object_id, frame) is not None]


def test_all_stay_while_they_fit() -> None:
    traces = Traces(40 * BYTES, BLOCK)
    fill(traces, range(40))
    assert (kept(traces, 40), traces.used) == (list(range(40)), 40 * BYTES)


def test_every_second_block_goes_then_every_second_of_the_rest() -> None:
    traces = Traces(24 * BYTES, BLOCK)
    fill(traces, range(30))
    assert kept(traces, 30) == [*range(4), *range(8, 12), *range(16, 20), *range(24, 30)]
    fill(traces, range(30, 80))
    assert kept(traces, 80)[:8] == [*range(4), *range(32, 36)]
    assert kept(traces, 80)[-8:] == list(range(72, 80)), "the block in work and the one beside it"
    assert traces.used <= 24 * BYTES


def test_used_never_exceeds_the_budget_by_more_than_is_in_work() -> None:
    traces = Traces(12 * BYTES, BLOCK)
    for frame in [*range(200), *range(199, 50, -1), *range(120, 160)]:
        traces.keep(1, frame, trace(), pinned=False)
        assert traces.used <= (3 * BLOCK + BLOCK) * BYTES
        assert traces.get(1, frame) is not None


def test_what_a_prompt_made_stays_until_it_is_replaced() -> None:
    traces = Traces(0, BLOCK)
    traces.keep(1, 5, trace(), pinned=True)
    fill(traces, range(20, 60))
    assert traces.get(1, 5) is not None
    traces.keep(1, 5, trace(), pinned=False)
    fill(traces, range(20, 40))
    assert traces.get(1, 5) is None


def test_objects_are_dropped_on_their_own() -> None:
    traces = Traces(10**6, BLOCK)
    fill(traces, range(10))
    fill(traces, range(10), object_id=2)
    traces.keep(2, 3, trace(), pinned=True)
    traces.drop_object(2)
    assert (kept(traces, 10, 1), kept(traces, 10, 2), traces.used) == (list(range(10)), [], 10 * BYTES)
    traces.drop(1, 4)
    traces.drop(1, 4)
    assert traces.used == 9 * BYTES


def test_what_is_held_stays_and_goes_afterwards() -> None:
    traces = Traces(8 * BYTES, BLOCK)
    fill(traces, range(40))
    with traces.held():
        fill(traces, range(8, 20))
        fill(traces, range(28, 36), object_id=2)
        assert kept(traces, 20)[-12:] == list(range(8, 20))
    assert kept(traces, 40, 2) == list(range(28, 36))
    assert 8 not in kept(traces, 40)
    assert traces.used == (2 * BLOCK + 12) * BYTES, "those of object 2 and what lies beside them"
