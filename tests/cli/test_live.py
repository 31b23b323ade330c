import json
from fractions import Fraction

import sam2track as st
from tests.cli.outputs import times


def test_live_headless_tracks_a_file_at_its_own_speed(place, run):
    flags = ("--headless", "--point", "28,32", "--masklets", "m.jsonl", "--overlay", "o.mp4", "--json")
    code, out, _ = run("live", "clip.mp4", *flags)
    assert code == 0
    report = json.loads(out)
    assert report["policy"] == "newest"
    assert report["frames"] + report["skipped"] == 12
    results = list(st.read_masklets("m.jsonl"))
    assert len(results) == report["frames"]
    assert results[0].objects[1].visible
    assert times("o.mp4")[-1] == results[-1].time - results[0].time


def test_live_stops_after_so_many_frames_or_seconds(place, run):
    flags = ("--headless", "--point", "28,32", "--masklets", "m.jsonl", "--json", "--force")
    assert json.loads(run("live", "clip.mp4", *flags, "--frames", "2")[1])["frames"] == 2
    assert json.loads(run("live", "clip.mp4", *flags, "--seconds", "0.1")[1])["frames"] <= 3
    assert list(st.read_masklets("m.jsonl"))[-1].time < Fraction(1, 10)


def test_live_without_a_window_needs_prompts_and_outputs(place, fails, monkeypatch):
    for extra in ([], ["--point", "1,1"], ["--masklets", "m.jsonl"]):
        code, message = fails("live", "clip.mp4", "--headless", *extra)
        assert code == 2
        assert "prompt" in message
        assert "output" in message
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, message = fails("live", "clip.mp4")
    assert code == 1
    assert "--headless" in message


class FakeWindow:
    """A window whose user clicks on the first frame and leaves after five."""

    closed = False
    shown = 0

    def __init__(self, title):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        FakeWindow.left = True

    def show(self, frame):
        self.shown += 1
        self.closed = self.shown == 5
        return {1: st.Prompt(points=[(28, 32)])} if self.shown == 1 else {}


def test_live_in_a_window_takes_clicks_and_ends_with_it(place, run, monkeypatch):
    monkeypatch.setattr(st, "Window", FakeWindow, raising=False)
    code, out, err = run("live", "clip.mp4", "--masklets", "m.jsonl", "--json")
    assert code == 0
    assert "q: quit" in err
    assert FakeWindow.left
    report = json.loads(out)
    assert report["frames"] == 5
    results = list(st.read_masklets("m.jsonl"))
    assert results[0].objects == {}
    assert 1 in results[-1].objects  # the click reached the tracker
