import threading

import pytest

from sam2track.data import Prompt
from sam2track.engine import track
from sam2track.errors import PromptError
from tests.engine.fakes import CLICK, PATIENCE, FakeSource, FakeTracker, drain, make_frame


def test_prompts_are_given_on_their_frame(overlap):
    box = Prompt(box=(0, 0, 2, 2))
    tracker = FakeTracker()
    list(track(FakeSource(10), tracker, {5: {1: box}, 2: {1: CLICK, 2: box}}, overlap=overlap))
    assert tracker.log == [("step", 2, {1: CLICK, 2: box}), ("step", 5, {1: box})]


def test_prompts_for_skipped_frames_are_given_on_the_next_tracked_one(overlap):
    first, second, third, other = (Prompt(points=[(x, 0)]) for x in range(4))
    started, go = threading.Event(), threading.Event()

    def hold(index):
        if index == 0:
            started.set()
            assert go.wait(PATIENCE)

    # Frames 1 to 20 go by while frame 0 is tracked; all but the newest (and one on its way) are skipped.
    source = FakeSource(21, live=True, hooks={1: lambda: started.wait(PATIENCE)})
    tracker = FakeTracker(on_step=hold)
    prompts = {11: {1: third}, 8: {2: other}, 0: {1: CLICK}, 5: {1: first}, 9: {1: second}}
    run = track(source, tracker, prompts, overlap=overlap)
    threading.Thread(target=lambda: (source.ended.wait(PATIENCE), go.set()), daemon=True).start()
    indices = [frame.index for frame, _ in run]
    assert indices[-1] == 20
    assert not {5, 8, 9, 11} & set(indices)
    assert tracker.log == [
        ("step", 0, {1: CLICK}),
        ("step", 20, {1: first, 2: other}),
        ("refine", 20, {1: second}),
        ("refine", 20, {1: third}),
    ]


def test_a_prompt_past_the_end_is_an_error_after_the_last_frame(overlap):
    indices = []
    run = track(FakeSource(6), FakeTracker(), {index: {1: CLICK} for index in (0, 6, 9)}, overlap=overlap)
    with pytest.raises(PromptError, match=r"^prompts for frame 6, 9 .*frames 0 to 5$"):
        drain(run, indices)
    assert indices == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([CLICK], "prompts are a list; expected frame index -> object id -> Prompt"),
        ([], "prompts are a list"),
        ({1: CLICK}, r"prompts\[1\] is a Prompt; expected frame index -> object id -> Prompt, as in {0: {1: "),
        ({-1: {1: CLICK}}, "frame index -1; expected an integer, 0 or more"),
        ({"0": {1: CLICK}}, "frame index '0'"),
        ({True: {1: CLICK}}, "frame index True"),
        ({0: {"dog": CLICK}}, "object id 'dog'; expected an integer"),
        ({0: {1: (5, 5)}}, r"prompts\[0\] give object 1 a tuple; expected a Prompt"),
    ],
)
def test_prompts_of_another_shape_are_refused_at_once(prompts, message):
    with pytest.raises(PromptError, match=message):
        track(FakeSource(3), FakeTracker(), prompts)


def test_the_callers_prompts_are_left_alone():
    prompts = {0: {1: CLICK}, 2: {2: CLICK}}
    list(track(FakeSource(3), FakeTracker(), prompts))
    assert prompts == {0: {1: CLICK}, 2: {2: CLICK}}


def test_sent_prompts_are_given_on_the_next_tracked_frame(overlap):
    tracker = FakeTracker()
    with track(FakeSource(30), tracker, overlap=overlap) as run:
        for frame, result in run:
            if frame.index == 3:
                run.send({4: CLICK})
            if result.objects:
                break
    ((verb, index, prompts),) = tracker.log
    assert (verb, prompts) == ("step", {4: CLICK})
    assert 4 <= index <= 3 + 8
    assert frame.index == index


def test_prompts_sent_for_one_object_between_two_frames_all_count_in_order(overlap):
    more = Prompt(points=[(2, 2)], labels=[0])
    tracker = FakeTracker()
    run = track(FakeSource(3), tracker, overlap=overlap)
    run.send({1: CLICK})
    run.send({2: CLICK})
    run.send({1: more})
    run.send({})
    results = [result.objects for _, result in run]
    assert results == [{1: "refine", 2: "step"}, *[{1: "step", 2: "step"}] * 2]
    assert tracker.log == [("step", 0, {1: CLICK, 2: CLICK}), ("refine", 0, {1: more})]


def test_sending_something_else_is_refused_where_it_is_sent():
    with track(FakeSource(3), FakeTracker()) as run, pytest.raises(PromptError, match="sent prompts are a Prompt"):
        run.send(CLICK)


def test_a_removed_object_is_gone_from_the_next_tracked_frame_on(overlap):
    tracker = FakeTracker()
    present = []
    with track(FakeSource(30), tracker, {0: {1: CLICK, 2: CLICK}}, overlap=overlap) as run:
        for frame, result in run:
            if frame.index == 5:
                run.remove(1)
            present.append(1 in result.objects)
            assert 2 in result.objects
    gone = present.index(False)
    assert 6 <= gone <= 5 + 8
    assert not any(present[gone:])
    assert tracker.log[1:] == [("remove", 1)]


def test_a_scheduled_removal_comes_before_its_frame(overlap):
    tracker = FakeTracker()
    prompts = {0: {1: CLICK, 2: CLICK}, 8: {1: CLICK}}
    run = track(FakeSource(10), tracker, prompts, removals={5: [1, 2]}, overlap=overlap)
    assert [sorted(result.objects) for _, result in run] == [[1, 2]] * 5 + [[]] * 3 + [[1]] * 2
    assert tracker.log[1:3] == [("remove", 1), ("remove", 2)]


def test_what_skipped_frames_asked_for_is_done_in_their_order():
    """Frames 1 to 8 are damaged, say: an object that came and went among them is never seen."""
    anew = Prompt(points=[(2, 2)])
    frames = [make_frame(index) for index in (0, 9)]
    prompts = {0: {1: CLICK}, 2: {2: CLICK, 3: CLICK}, 4: {1: CLICK}, 7: {1: anew}}
    tracker = FakeTracker()
    run = track(frames, tracker, prompts, removals={3: [2], 6: [1]}, overlap=False)
    assert [sorted(result.objects) for _, result in run] == [[1], [1, 3]]
    assert tracker.log[1:] == [("remove", 1), ("step", 9, {3: CLICK, 1: anew})]


@pytest.mark.parametrize(
    ("removals", "message"),
    [
        ({3: [7]}, "object 7 was to be removed on frame 3, but is not tracked"),
        ({40: [1]}, r"removals for frame 40 were never given: the source has only frames 0 to 9"),
        ({0: 1}, "removals hold 0: 1; expected frame index -> object ids"),
        ([1], "removals are a list"),
    ],
)
def test_a_removal_that_cannot_be_is_an_error(removals, message):
    with pytest.raises(PromptError, match=message):
        list(track(FakeSource(10), FakeTracker(), {0: {1: CLICK}}, removals=removals))


def test_removing_drops_what_was_sent_and_sending_again_starts_anew():
    tracker = FakeTracker()
    tracker.object_ids = (1,)
    run = track(FakeSource(2), tracker)
    anew = Prompt(points=[(2, 2)])
    run.send({1: CLICK, 5: CLICK})
    run.remove(1)
    run.remove(5)
    run.send({1: anew})
    list(run)
    assert tracker.log == [("remove", 1), ("step", 0, {1: anew})]


def test_removing_an_unknown_object_is_refused_where_it_is_asked():
    tracker = FakeTracker()
    tracker.object_ids = (3, 2)
    with track(FakeSource(1), tracker) as run:
        with pytest.raises(PromptError, match=r"object 9 is not tracked.*tracked: 2, 3$"):
            run.remove(9)
        run.remove(2)
        with pytest.raises(PromptError, match=r"object 2 is not tracked.*tracked: 3$"):
            run.remove(2)


def test_after_the_last_object_is_removed_frames_are_no_longer_encoded():
    tracker = FakeTracker()
    with track(FakeSource(40), tracker, {0: {1: CLICK}}) as run:
        for frame, _ in run:
            if frame.index == 5:
                run.remove(1)
    assert tracker.encoded == list(range(len(tracker.encoded)))
    assert 6 <= len(tracker.encoded) <= 5 + 10
