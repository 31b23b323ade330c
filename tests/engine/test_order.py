import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from sam2track.backends import pytorch
from sam2track.config import Config
from sam2track.data import Frame, Prompt
from sam2track.engine import track
from sam2track.network.variants import VARIANTS, Network
from sam2track.tracker import Tracker
from tests.engine.fakes import APART, CLICK, GPU, PATIENCE, TOGETHER, FakeSource, FakeTracker


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
    tracker = Tracker(pytorch.components(network, config.components.default), config)
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
