import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback

import pytest

import sam2track.engine
from sam2track.engine import track
from sam2track.errors import ConfigError, PromptError, SourceError
from tests.clips import index_of, numbered, write_clip
from tests.engine.fakes import (
    CLICK,
    PATIENCE,
    FakeSource,
    FakeTracker,
    drain,
    engine_threads,
)


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
        from sam2track.engine import track
        from tests.engine.fakes import FakeSource, FakeTracker, engine_threads
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
