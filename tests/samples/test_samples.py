"""The examples run, and the sample clips are what their maker makes."""

import runpy
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import sam2track as st

SAMPLES = Path(__file__).parents[2] / "samples"
SHORT = 6


def load(name):
    return runpy.run_path(str(SAMPLES / f"{name}.py"))


def run(name, *arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(SAMPLES / f"{name}.py"), run_name="__main__")


def blocks(image):
    """Means of 8 x 8 pixels."""
    return image.reshape(45, 8, 80, 8, 3).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The first frames of every scene, rendered now."""
    folder = tmp_path_factory.mktemp("samples")
    make = load("make")
    for name, scene in make["SCENES"].items():
        make["render"](name, scene(), folder, SHORT)
    return folder


@pytest.mark.parametrize("name", ["goldfish", "ball", "koi", "coffee"])
def test_committed_clips_are_what_the_script_makes(name, short):
    clip = SAMPLES / f"{name}.mp4"
    assert clip.stat().st_size < 1_000_000
    with st.open_source(clip) as video, st.open_source(short / clip.name) as again:
        assert (video.width, video.height, video.rate) == (640, 360, Fraction(30000, 1001))
        for frame, other in zip(video, again, strict=False):  # the codec spends its bits otherwise on a shorter clip
            assert np.abs(blocks(frame.image) - blocks(other.image)).mean() < 2
    truth = list(st.read_masklets(SAMPLES / f"{name}.masklets.jsonl"))
    assert len(truth) == 100
    for result, other in zip(truth, st.read_masklets(short / f"{name}.masklets.jsonl"), strict=False):
        for i, prediction in result.objects.items():
            assert np.count_nonzero(prediction.mask ^ other.objects[i].mask) < 20


@pytest.mark.parametrize("name", ["goldfish", "ball", "koi", "coffee"])
def test_committed_prompts_are_boxes_around_their_objects(name):
    first = next(iter(st.read_masklets(SAMPLES / f"{name}.masklets.jsonl")))
    entries = tomllib.loads((SAMPLES / f"{name}.toml").read_text())["prompts"]
    assert {entry["object"] for entry in entries} == set(first.objects)
    for entry in entries:
        assert tuple(entry["box"]) == first.objects[entry["object"]].box


def test_the_ball_is_hidden_and_leaves_and_comes_back():
    area = [int(result.objects[1].mask.sum()) for result in st.read_masklets(SAMPLES / "ball.masklets.jsonl")]
    visible = [value > 0 for value in area]
    assert visible[0]
    assert visible[-1]
    assert not all(visible)
    assert min(value for value in area[:50] if value) < 0.5 * area[0]  # behind the post


@pytest.mark.parametrize("name", ["track_file", "track_live", "render_masklets"])
def test_examples_are_short(name):
    assert len((SAMPLES / f"{name}.py").read_text().splitlines()) <= 25


def test_track_file(short, tmp_path, monkeypatch, capsys):
    run("track_file", short / "ball.mp4", 110, 222, tmp_path / "out", monkeypatch=monkeypatch)
    overlay = tmp_path / "out" / "ball_overlay.mp4"
    assert capsys.readouterr().out.strip() == str(overlay)
    with st.open_source(overlay) as video:
        assert [frame.index for frame in video] == list(range(SHORT))
    results = list(st.read_masklets(tmp_path / "out" / "ball.masklets.jsonl"))
    assert [result.index for result in results] == list(range(SHORT))
    assert list(results[-1].objects) == [1]


def test_track_live_with_a_click_in_the_window(short, monkeypatch):
    shown = []

    class Window:
        """Clicks the ball on the first frame and closes itself on the fourth."""

        closed = False

        def __init__(self, title):
            self.title = title

        def __enter__(self):
            return self

        def __exit__(self, *error):
            shown.append("left")

        def show(self, frame):
            shown.append(frame.index)
            self.closed = len(shown) == 4
            return {1: st.Prompt(points=[(110, 222)])} if len(shown) == 1 else {}

    monkeypatch.setattr(st, "Window", Window)
    run("track_live", short / "ball.mp4", monkeypatch=monkeypatch)
    assert shown == [0, 1, 2, 3, "left"]


def test_render_masklets(short, tmp_path, monkeypatch):
    out = tmp_path / "koi.mp4"
    run("render_masklets", short / "koi.mp4", short / "koi.masklets.jsonl", out, monkeypatch=monkeypatch)
    first = next(iter(st.read_masklets(short / "koi.masklets.jsonl")))
    with st.open_source(out) as drawn, st.open_source(short / "koi.mp4") as plain:
        change = np.abs(next(drawn).image.astype(int) - next(plain).image).sum(axis=2)
    assert change[first.objects[1].mask].mean() > 5 * change[340:, :40].mean()


def test_demo_reports_what_it_measured(short, tmp_path, capsys):
    demo = load("demo")
    demo["main"].__globals__["SAMPLES"] = short
    means = demo["main"]("goldfish", tmp_path)
    assert set(means) == {1}
    assert means[1] > 0.6, "the bundled model follows its object"
    printed = capsys.readouterr().out
    assert f"IoU with the truth {means[1]:.3f}" in printed
    assert str(tmp_path / "goldfish_overlay.mp4") in printed
    assert len(list(st.read_masklets(tmp_path / "goldfish.masklets.jsonl"))) == SHORT


def test_demo_of_an_unknown_clip_names_the_known_ones(tmp_path):
    with pytest.raises(SystemExit, match="'dog' does not exist; expected one of ball, coffee, goldfish, koi"):
        load("demo")["main"]("dog", tmp_path)
