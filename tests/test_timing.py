import threading
import time

import pytest

from sam2track.timing import STAGES, WINDOW, Timings


def test_summary_gives_count_median_p99_and_total():
    timings = Timings()
    for milliseconds in range(1, 101):
        timings.add("decode", milliseconds / 1000)
    decode = timings.summary()["decode"]
    assert decode.count == 100
    assert decode.total == pytest.approx(5.05)
    assert decode.median == pytest.approx(0.0505)
    assert decode.p99 == pytest.approx(0.09901)


def test_stages_come_in_the_order_of_the_path_and_others_after_them():
    timings = Timings()
    for stage in ("upload", "write", "audio", *reversed(STAGES)):
        timings.add(stage, 1.0)
    assert tuple(timings.summary()) == (*STAGES, "upload", "audio")


def test_nothing_measured_is_an_empty_summary():
    assert Timings().summary() == {}


def test_measure_takes_wall_time():
    timings = Timings()
    with timings.measure("render"):
        time.sleep(0.02)
    assert 0.02 <= timings.summary()["render"].total < 1.0


def test_a_block_that_raises_is_not_counted_and_its_error_passes():
    timings = Timings()
    with pytest.raises(KeyError), timings.measure("render"):
        raise KeyError
    assert timings.summary() == {}


def test_nested_measures_of_one_stage_do_not_disturb_each_other():
    timings = Timings()
    with timings.measure("write"):
        time.sleep(0.01)
        with timings.measure("write"):
            time.sleep(0.01)
    write = timings.summary()["write"]
    assert write.count == 2
    assert write.total >= 0.03


def test_memory_is_bounded_while_count_and_total_stay_exact():
    timings = Timings()
    for _ in range(WINDOW):
        timings.add("decode", 100.0)
    for _ in range(WINDOW):  # pushes every one of the slow samples out of the window
        timings.add("decode", 1.0)
    decode = timings.summary()["decode"]
    assert (decode.count, decode.total) == (2 * WINDOW, 101.0 * WINDOW)
    assert (decode.median, decode.p99) == (1.0, 1.0)


def test_threads_lose_no_sample():
    timings = Timings()

    def work():
        for _ in range(2000):
            with timings.measure("decode"):
                pass
            timings.add("write", 1.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        timings.summary()
    summary = timings.summary()
    assert summary["decode"].count == 8000
    assert (summary["write"].count, summary["write"].total) == (8000, 8000.0)


def test_a_measure_is_cheap():
    timings = Timings()
    best = float("inf")
    for _ in range(5):  # the best of five: the machine may be busy
        start = time.perf_counter()
        for _ in range(2000):
            with timings.measure("decode"):
                pass
        best = min(best, (time.perf_counter() - start) / 2000)
    assert best < 10e-6
