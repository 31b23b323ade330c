import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from fractions import Fraction

import numpy as np
import pytest
import torch

import sam2track.engine
from sam2track.backends import pytorch
from sam2track.config import Config
from sam2track.contracts import CONTRACTS
from sam2track.data import Frame, FrameResult, Prompt
from sam2track.engine import track
from sam2track.errors import ConfigError, PromptError, SourceError
from sam2track.network.variants import VARIANTS, Network
from sam2track.timing import Timings
from sam2track.tracker import Tracker
from tests.clips import index_of, numbered, write_clip

CLICK = Prompt(points=[(1, 1)])
APART = {"image_encoder": "fake:npu:fp16", "memory_attention": "fake:cpu:fp32"}
TOGETHER = {"image_encoder": "fake:cpu:fp32", "memory_attention": "fake:cpu:fp32"}
GPU = {"image_encoder": "torch:cuda:0:fp16", "memory_attention": "torch:cuda:0:fp16"}
PATIENCE = 20.0  # seconds until a wait that should end at once counts as hanging


def make_frame(index):
    return Frame(np.full((4, 6, 3), index % 256, np.uint8), index, Fraction(index, 30))


class FakeSource:
    """Frames from memory; ``period`` seconds apart, ``hooks`` run before the frame of that index."""

    def __init__(self, count, live=False, period=0.0, hooks=None):
        self.count, self.live, self.period, self.hooks = count, live, period, hooks or {}
        self.produced = 0
        self.ended = threading.Event()

    def __iter__(self):
        for index in range(self.count):
            if self.period:
                time.sleep(self.period)
            self.hooks.get(index, lambda: None)()
            self.produced += 1
            yield make_frame(index)
        self.ended.set()


class FakeEncoded:
    def __init__(self, frame):
        self.frame = frame


class FakeTracker:
    """Follows ids, not pixels; ``on_encode`` and ``on_step`` are called with the frame's index."""

    def __init__(self, placement=APART, on_encode=None, on_step=None):
        self.placement = placement
        self.timings = Timings()
        self.object_ids = ()
        self.on_encode, self.on_step = on_encode or (lambda index: None), on_step or (lambda index: None)
        self.encoded, self.given, self.log = [], {}, []

    def encode(self, frame):
        self.on_encode(frame.index)
        self.encoded.append(frame.index)
        return FakeEncoded(frame)

    def step(self, frame, prompts=None):
        frame = getattr(frame, "frame", frame)
        self.on_step(frame.index)
        self.frame = frame
        return self._give("step", prompts)

    def refine(self, prompts):
        return self._give("refine", prompts)

    def remove(self, object_id):
        self.log.append(("remove", object_id))
        self.object_ids = tuple(i for i in self.object_ids if i != object_id)

    def _give(self, verb, prompts):
        if prompts:
            self.log.append((verb, self.frame.index, dict(prompts)))
        self.object_ids = tuple(dict.fromkeys((*self.object_ids, *prompts)))
        ids = self.object_ids if verb == "step" else prompts  # like the real one
        return FrameResult(self.frame.index, self.frame.time, (4, 6), dict.fromkeys(ids, verb))


def engine_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sam2track")]


def drain(run, indices):
    """Iterate ``run``, noting the frames that came before it failed."""
    for frame, _ in run:
        indices.append(frame.index)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert engine_threads() == []


@pytest.fixture(params=[True, False], ids=["overlapped", "in turn"])
def overlap(request):
    return request.param


# ---------------------------------------------------------------- order and overlap


def test_every_frame_comes_once_in_order_with_its_own_result(overlap):
    pairs = list(track(FakeSource(50), FakeTracker(), {0: {1: CLICK}}, overlap=overlap))
    assert [frame.index for frame, _ in pairs] == list(range(50))
    assert all((result.index, result.time) == (frame.index, frame.time) for frame, result in pairs)
    assert all(list(result.objects) == [1] for _, result in pairs)


def test_the_four_stages_work_at_the_same_time():
    """Each stage waits for the others to have begun: in turn, they would wait for ever."""
    begun = {name: threading.Event() for name in ("decode 3", "encode 2", "caller 0")}

    def await_all(index):
        if index == 1:
            met.append(all(event.wait(PATIENCE) for event in begun.values()))

    met = []
    source = FakeSource(8, hooks={3: begun["decode 3"].set})
    tracker = FakeTracker(on_encode=lambda index: begun["encode 2"].set() if index == 2 else None, on_step=await_all)
    for frame, _ in track(source, tracker, {0: {1: CLICK}}):
        if frame.index == 0:
            begun["caller 0"].set()
            assert begun["encode 2"].wait(PATIENCE)
    assert met == [True]


def test_overlap_saves_time():
    def run(overlap):
        tracker = FakeTracker(on_encode=lambda index: time.sleep(0.02), on_step=lambda index: time.sleep(0.02))
        start = time.perf_counter()
        for _ in track(FakeSource(20, period=0.02), tracker, {0: {1: CLICK}}, overlap=overlap):
            time.sleep(0.02)
        return time.perf_counter() - start

    assert run(overlap=True) < 0.6 * 20 * 0.08  # in turn, it would take 1.6 s; overlapped, about 0.46 s


@pytest.mark.parametrize(
    ("live", "placement", "overlaps"),
    [(False, TOGETHER, True), (False, APART, True), (True, TOGETHER, False), (True, APART, True), (True, GPU, True)],
)
def test_by_default_only_live_frames_on_a_shared_cpu_are_encoded_and_tracked_in_turn(live, placement, overlaps):
    tracker = FakeTracker(placement)
    run = track(FakeSource(5, live=live, period=0.01), tracker, {0: {1: CLICK}})
    indices = [frame.index for frame, _ in run]
    assert tracker.encoded == (indices if overlaps else [])


def test_frames_with_nothing_to_track_are_not_encoded():
    tracker = FakeTracker()
    pairs = list(track(FakeSource(9), tracker, {4: {1: CLICK}}))
    assert tracker.encoded == [4, 5, 6, 7, 8]
    assert [len(result.objects) for _, result in pairs] == [0] * 4 + [1] * 5


def test_objects_the_tracker_had_before_the_run_are_encoded_from_the_start():
    tracker = FakeTracker()
    tracker.object_ids = (7,)
    list(track(FakeSource(3), tracker))
    assert tracker.encoded == [0, 1, 2]


@pytest.mark.parametrize("queue", [1, 3])
def test_a_slow_caller_holds_back_the_source(queue, overlap):
    source = FakeSource(60)
    ahead = []
    for frame, _ in track(source, FakeTracker(), {0: {1: CLICK}}, queue=queue, overlap=overlap):
        time.sleep(0.01)
        ahead.append(source.produced - frame.index)
    assert max(ahead) <= 2 * queue + 4
    assert max(ahead) >= 3  # and yet the stages run ahead


@pytest.fixture
def one_torch_thread():
    """Teams of two that wait for each other take minutes on a machine that is busy with other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_torch_thread")
def test_a_real_network_gives_the_same_masks_as_a_plain_loop(overlap):
    """Encoding runs beside tracking, on the same weights; nothing of one frame may leak into another."""
    torch.manual_seed(0)
    config = Config(model="nano", image_size=128)
    network = Network(VARIANTS["nano"], 128)
    tracker = Tracker(pytorch.place(network, {name: config.components.pin(name) for name in CONTRACTS}), config)
    noise = np.random.default_rng(0).integers(0, 255, (12, 60, 80, 3), np.uint8)
    frames = [Frame(image, index, Fraction(index, 30)) for index, image in enumerate(noise)]
    prompts = {0: {1: Prompt(box=(10, 10, 50, 40))}, 4: {2: Prompt(points=[(60, 30)]), 1: Prompt(points=[(30, 30)])}}
    expected = [tracker.step(frame, prompts.get(frame.index, {})) for frame in frames]
    tracker.reset()
    run = track(frames, tracker, prompts, overlap=overlap)
    results = [result for _, result in run]
    assert [list(result.objects) for result in results] == [[1]] * 4 + [[1, 2]] * 8
    for result, wanted in zip(results, expected, strict=True):
        for i, prediction in result.objects.items():
            assert np.array_equal(prediction.mask, wanted.objects[i].mask)
            assert prediction.score == pytest.approx(wanted.objects[i].score, abs=1e-5)
    assert any(prediction.mask.any() for prediction in results[-1].objects.values())
    assert run.timings.summary()["image_encoder"].count == 12


# ---------------------------------------------------------------- the newest policy


def test_newest_skips_what_the_tracker_cannot_follow_and_counts_it(overlap):
    tracker = FakeTracker(on_step=lambda index: time.sleep(0.03))
    run = track(FakeSource(80, live=True, period=0.005), tracker, {0: {1: CLICK}}, overlap=overlap)
    assert run.policy == "newest"
    indices = [frame.index for frame, _ in run]
    assert indices == sorted(set(indices))
    assert indices[-1] == 79
    assert run.skipped > 20
    assert run.skipped + run.delivered == 80


def test_newest_delivers_fresh_frames(overlap):
    """10 ms to encode, 30 ms to track: a frame never waits behind more than one other."""
    tracker = FakeTracker(on_encode=lambda index: time.sleep(0.01), on_step=lambda index: time.sleep(0.03))
    run = track(FakeSource(150, live=True, period=0.005), tracker, {0: {1: CLICK}}, overlap=overlap)
    for _ in run:
        time.sleep(0.005)
    assert run.latency.count == run.delivered
    assert run.latency.median < 0.08  # 2 x 0.03 at most; queues of one would make it 0.1 and more


def test_newest_never_holds_back_the_source(overlap):
    source = FakeSource(100, live=True)
    indices = []
    for frame, _ in track(source, FakeTracker(), {0: {1: CLICK}}, overlap=overlap):
        if not indices:
            assert source.ended.wait(PATIENCE)  # while the caller is busy with its first frame
        indices.append(frame.index)
    assert indices[-1] == 99
    assert len(indices) <= 4  # the first, at most two that were on their way, the newest


def test_the_policy_can_be_chosen_against_the_default():
    assert len(list(track(FakeSource(30, live=True), FakeTracker(), policy="lossless"))) == 30
    slow = FakeTracker(on_step=lambda index: time.sleep(0.02))
    run = track(FakeSource(30, period=0.001), slow, policy="newest")
    assert len(list(run)) + run.skipped == 30
    assert run.skipped > 0


# ---------------------------------------------------------------- prompts


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


# ---------------------------------------------------------------- errors and early ends


class BoomError(Exception):
    pass


def boom(at):
    def raise_boom(index=at):
        if index == at:
            raise error

    error = BoomError("boom")
    return error, raise_boom


@pytest.mark.parametrize("stage", ["source", "encode", "step"])
@pytest.mark.parametrize("policy", ["lossless", "newest"])
def test_an_exception_of_any_stage_reaches_the_caller_as_it_was(stage, policy):
    error, raise_boom = boom(5)
    source = FakeSource(10, period=0.01, hooks={5: raise_boom} if stage == "source" else None)
    tracker = FakeTracker(**({f"on_{stage}": raise_boom} if stage != "source" else {}))
    indices = []
    with pytest.raises(BoomError) as raised:
        drain(track(source, tracker, {0: {1: CLICK}}, policy=policy), indices)
    assert raised.value is error
    assert "raise_boom" in [entry.name for entry in traceback.extract_tb(error.__traceback__)]
    if policy == "lossless":
        assert indices == [0, 1, 2, 3, 4]  # what came before is delivered first


def test_a_stop_iteration_in_a_step_does_not_pass_for_the_end():
    def exhausted(index):
        if index == 2:
            next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        list(track(FakeSource(5), FakeTracker(on_step=exhausted)))
    assert isinstance(raised.value.__cause__, StopIteration)


def test_a_failure_stops_a_source_without_end(overlap):
    _, raise_boom = boom(5)
    with pytest.raises(BoomError):
        list(
            track(
                FakeSource(10**9, live=True),
                FakeTracker(on_step=lambda index: index >= 5 and raise_boom()),
                overlap=overlap,
            )
        )


def test_leaving_the_loop_ends_the_threads_at_once(overlap):
    for _ in track(FakeSource(10**9), FakeTracker(), {0: {1: CLICK}}, overlap=overlap):
        assert len(engine_threads()) == (3 if overlap else 2)
        break
    assert engine_threads() == []


def test_an_exception_in_the_loops_body_ends_the_threads(overlap):
    def fail_in_the_body(run):
        for _ in run:
            raise BoomError

    with pytest.raises(BoomError):
        fail_in_the_body(track(FakeSource(10**9), FakeTracker(), overlap=overlap))
    assert engine_threads() == []


def test_dropping_the_iterator_ends_the_threads():
    iterator = iter(track(FakeSource(10**9), FakeTracker()))
    next(iterator)
    del iterator
    assert engine_threads() == []


def test_closing_in_the_loop_ends_it():
    run = track(FakeSource(10**9), FakeTracker())
    for frame, _ in run:
        if frame.index == 3:
            run.close()
    assert frame.index == 3


def test_closing_from_another_thread_releases_a_waiting_caller():
    stuck = threading.Event()
    run = track(FakeSource(3, hooks={2: lambda: stuck.wait(PATIENCE)}), FakeTracker())
    timers = [threading.Timer(0.1, run.close), threading.Timer(0.4, stuck.set)]
    indices = []
    for frame, _ in run:
        indices.append(frame.index)
        if frame.index == 1:
            for timer in timers:
                timer.start()
    assert indices == [0, 1]
    for timer in timers:
        timer.join()


def test_closing_does_not_wait_long_for_a_blocked_source(monkeypatch):
    monkeypatch.setattr(sam2track.engine, "_READ_ENDS", 0.2)
    stuck = threading.Event()
    run = track(FakeSource(3, hooks={2: lambda: stuck.wait(PATIENCE)}), FakeTracker())
    iterator = iter(run)
    next(iterator)
    start = time.perf_counter()
    with pytest.warns(ResourceWarning, match=r"^sam2track decode: still busy .*; close the source"):
        run.close()
    assert time.perf_counter() - start < PATIENCE / 2
    stuck.set()
    monkeypatch.undo()
    run.close()


def test_a_step_in_progress_ends_before_the_run_is_closed():
    begun, ended = threading.Event(), threading.Event()

    def slow(index):
        if index == 1:
            begun.set()
            time.sleep(0.3)
            ended.set()

    for _ in track(FakeSource(5), FakeTracker(on_step=slow)):
        assert begun.wait(PATIENCE)
        break
    assert ended.is_set()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_while_waiting_for_a_frame_ends_the_threads():
    source = FakeSource(100, period=0.05)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    start = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(track(source, FakeTracker()))
    assert time.perf_counter() - start < 4.0  # of the 5 s that the source would take
    timer.join()


def test_a_run_that_is_never_closed_ends_with_the_interpreter():
    script = """
        import atexit
        from tests.test_engine import FakeSource, FakeTracker, engine_threads, track
        atexit.register(lambda: print("threads at exit:", engine_threads()))
        iterator = iter(track(FakeSource(10**9, period=0.001), FakeTracker()))
        next(iterator)
        print("threads in the run:", len(engine_threads()))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=os.getcwd())
    assert done.stdout == "threads in the run: 3\nthreads at exit: []\n", done.stderr
    assert done.returncode == 0


def test_a_run_is_iterated_once():
    run = track(FakeSource(3), FakeTracker())
    assert len(list(run)) == 3
    with pytest.raises(RuntimeError, match="call track again"):
        iter(run)
    with track(FakeSource(3), FakeTracker()) as closed:
        pass
    with pytest.raises(RuntimeError, match="call track again"):
        iter(closed)


def test_an_empty_source_gives_nothing():
    assert list(track([], FakeTracker())) == []
    with pytest.raises(PromptError, match=r"frame 0 were never given: the source has no frames$"):
        list(track([], FakeTracker(), {0: {1: CLICK}}))


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="policy 'fast' is unknown"):
        track([], FakeTracker(), policy="fast")
    with pytest.raises(ConfigError, match="queue is 0"):
        track([], FakeTracker(), queue=0)


# ---------------------------------------------------------------- a path for a source


@pytest.fixture
def opened(monkeypatch):
    """The sources that a run opens by itself."""
    sources = []

    def spy(source):
        sources.append(real(source))
        return sources[-1]

    real = sam2track.engine.open_source
    monkeypatch.setattr(sam2track.engine, "open_source", spy)
    return sources


def closed(source):
    """A closed source gives no frame."""
    try:
        return next(iter(source), None) is None
    except SourceError:
        return True


def test_a_path_is_opened_and_closed_by_the_run(tmp_path, opened):
    clip = write_clip(tmp_path / "clip.mp4", numbered(6))
    pairs = list(track(clip, FakeTracker(), {0: {1: CLICK}}))
    assert [index_of(frame.image) for frame, _ in pairs] == [0, 1, 2, 3, 4, 5]
    assert [frame.time for frame, _ in pairs] == sorted({frame.time for frame, _ in pairs})
    assert closed(opened[0])


@pytest.mark.parametrize("frames", [0, 1])
def test_a_path_is_closed_when_the_run_ends_early(tmp_path, opened, frames):
    with track(str(write_clip(tmp_path / "clip.mp4", numbered(6))), FakeTracker()) as run:
        for _ in zip(range(frames), run, strict=False):
            pass
    assert closed(opened[0])


def test_a_source_of_the_caller_stays_open(tmp_path):
    with sam2track.engine.open_source(write_clip(tmp_path / "clip.mp4", numbered(30))) as video:
        next(iter(track(video, FakeTracker())))
        assert not closed(video)


def test_a_path_that_is_missing_is_refused_at_once(tmp_path):
    with pytest.raises(SourceError, match=r"absent\.mp4"):
        track(tmp_path / "absent.mp4", FakeTracker())


# ---------------------------------------------------------------- timings


def test_timings_cover_every_stage_and_go_back_to_the_trackers_own():
    tracker = FakeTracker()
    own = tracker.timings
    shared = []
    tracker.on_step = lambda index: shared.append(tracker.timings)
    run = track(FakeSource(10, period=0.001), tracker, {0: {1: CLICK}})
    for _ in run:
        with run.timings.measure("render"):
            time.sleep(0.001)
    assert all(timings is run.timings for timings in shared)
    assert tracker.timings is own
    summary = run.timings.summary()
    assert list(summary) == ["decode", "render"]
    assert summary["decode"].count == summary["render"].count == 10
    assert summary["decode"].median >= 0.001


def test_latency_and_throughput_are_of_what_was_delivered():
    tracker = FakeTracker(on_step=lambda index: time.sleep(0.02))
    run = track(FakeSource(15), tracker, {0: {1: CLICK}})
    assert (run.latency.count, run.throughput, run.delivered) == (0, 0.0, 0)
    times = [time.perf_counter() for _ in run]
    assert (run.latency.count, run.delivered) == (15, 15)
    assert run.latency.p99 >= run.latency.median >= 0.02
    assert run.throughput == pytest.approx(14 / (times[-1] - times[0]), rel=0.2)
