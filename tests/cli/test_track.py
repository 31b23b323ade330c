import json

import numpy as np
import pytest

import sam2track as st
from sam2track import backends
from sam2track.backends import fake
from sam2track.cli.outputs import Paths
from sam2track.video.picture import write_picture
from tests.cli.outputs import files, times
from tests.clips import NTSC

COMPONENTS = ("image_encoder", "prompt_encoder", "memory_attention", "mask_decoder", "memory_encoder")
STAGES = {"decode", "preprocess", "image_encoder", "memory_attention", "mask_decoder", "memory_encoder"}


def test_track_writes_masklets_and_an_overlay_named_after_the_clip(place, run):
    code, out, err = run("track", "clip.mp4", "--point", "28,32")
    assert code == 0
    assert "12 frames of clip.mp4" in out
    assert "object 1: visible on 9 frames" in out
    assert "nano" in err  # says which model this is, and names better ones
    assert "sam2.1-tiny" in err
    assert files(place) == {"clip.mp4", "clip.jsonl", "clip_overlay.mp4"}
    reader = st.read_masklets("clip.jsonl")
    results = list(reader)
    assert (reader.header.source, reader.header.model, reader.header.rate) == ("clip.mp4", "nano", NTSC)
    assert [result.objects[1].visible for result in results] == [not 6 <= i < 9 for i in range(12)]
    x0, y0, x1, y1 = results[2].objects[1].box
    assert abs(x0 - 20) < 4
    assert abs(x1 - 44) < 4
    assert abs(y0 - 20) < 4
    assert abs(y1 - 44) < 4
    assert times("clip_overlay.mp4") == [index / NTSC for index in range(12)]


def test_track_writes_only_what_is_asked_for(place, run):
    code, out, _ = run("track", "clip.mp4", "--point", "28,32", "--masklets", "only.jsonl", "--quiet")
    assert (code, out) == (0, "")
    assert files(place) == {"clip.mp4", "only.jsonl"}


def test_track_reports_in_json(place, run):
    code, out, err = run(
        "track", "clip.mp4", "--box", "2:16,20,40,44", "--point", "3:28,32@4", "--json", "--model", "nano"
    )
    assert code == 0
    assert err == ""
    report = json.loads(out)
    assert report["frames"] == 12
    assert report["objects"] == {"2": {"visible_frames": 9}, "3": {"visible_frames": 5}}
    assert report["outputs"] == {"masklets": "clip.jsonl", "overlay": "clip_overlay.mp4"}
    assert set(report["stages"]) == STAGES | {"postprocess", "render", "write"}
    assert report["stages"]["write"]["count"] == 12
    assert report["placement"] == dict.fromkeys(COMPONENTS, "fake:cpu:fp32")
    assert report["interrupted"] is False
    assert report["fps"] > 0


def test_track_part_of_a_clip(place, run):
    code, _, _ = run("track", "clip.mp4", "--point", "36,32", "--start", "4", "--frames", "5", "--quiet")
    assert code == 0
    results = list(st.read_masklets("clip.jsonl"))
    assert [result.index for result in results] == [4, 5, 6, 7, 8]
    assert results[0].objects[1].visible  # a prompt without a frame is for the first one tracked
    assert results[0].time == 4 / NTSC  # masklets keep the clip's own times
    assert times("clip_overlay.mp4") == [index / NTSC for index in range(5)]


def test_track_removes_an_object(place, run):
    prompts = ["--point", "28,32", "--point", "2:28,32"]
    assert run("track", "clip.mp4", *prompts, "--remove", "2@4", "--masklets", "m.jsonl")[0] == 0
    assert [sorted(result.objects) for result in st.read_masklets("m.jsonl")] == [[1, 2]] * 4 + [[1]] * 8


def test_a_removal_past_the_end_is_refused_at_once(place, fails):
    for frames, reach in (([], "12 frames"), (["--frames", "5"], "frames 0 to 4")):
        code, line = fails(
            "track", "clip.mp4", "--point", "28,32", "--remove", "1@400", "--masklets", "m.jsonl", *frames
        )
        assert (code, "a removal is for frame 400" in line, reach in line) == (2, True, True), line
    assert files(place) == {"clip.mp4"}


def test_track_draws_in_the_style_asked_for(place, run, fails):
    plain = ["--opacity", "0", "--contour", "0", "--no-labels"]
    for name, flags in (("plain.mp4", plain), ("full.mp4", ["--opacity", "1", "--trace", "5"])):
        assert run("track", "clip.mp4", "--point", "28,32", "--overlay", name, *flags)[0] == 0
    with st.open_source("clip.mp4") as clip, st.open_source("plain.mp4") as plain, st.open_source("full.mp4") as full:
        original, bare, drawn = next(clip).image.astype(int), next(plain).image, next(full).image
    assert abs(original - bare).mean() < 3  # but for the codec, nothing was drawn
    assert abs(original - drawn).mean() > 10
    assert "--trace 1 is too short" in fails("track", "clip.mp4", "--point", "28,32", "--trace", "1")[1]


def test_track_shows_the_stages_when_asked(place, run):
    _, out, _ = run("track", "clip.mp4", "--point", "28,32", "--timings")
    for word in (*STAGES, "median ms", "p99 ms"):
        assert word in out


def test_settings_reach_the_backend(place, run, monkeypatch):
    seen = []

    def load(config):
        seen.append(config)
        return fake.components(config.image_size)

    monkeypatch.setattr(backends, "load", load)
    place.joinpath("mine.toml").write_text("image_size = 96\n[memory]\nrecent = 2\n")
    flags = "--image-size 64 --set memory.pointers=3 --set tracking.visible_above=0.5 --model sam2.1-tiny"
    flags += " --pin mask_decoder=torch:cpu:fp32 --device cuda:1 --weights w.pt"
    assert run("track", "clip.mp4", "--point", "28,32", "--config", "mine.toml", *flags.split())[0] == 0
    (config,) = seen
    assert (config.model, config.weights, config.image_size) == ("sam2.1-tiny", "w.pt", 64)
    assert (config.memory.recent, config.memory.pointers, config.tracking.visible_above) == (2, 3, 0.5)
    assert str(config.components.pin("mask_decoder")) == "torch:cpu:fp32"
    assert str(config.components.pin("image_encoder")) == "torch:cuda:1:auto"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["clip.mp4"], 2, ["no prompt", "--point", "--prompts"]),
        (["missing.mp4", "--point", "1,1"], 1, ["missing.mp4", "does not exist"]),
        (["clip.mp4", "--point", "999,1"], 2, ["(999, 1)", "96x64"]),
        (["clip.mp4", "--point", "1,1@400"], 2, ["frame 400", "12 frames"]),
        (["clip.mp4", "--point", "1"], 2, ["--point '1'"]),
        (["clip.mp4", "--point", "1,1", "--set", "memory.recnt=3"], 2, ["memory.recnt", "did you mean 'recent'"]),
        (["clip.mp4", "--point", "1,1", "--set", "memory.recent"], 2, ["--set 'memory.recent'", "memory.recent=4"]),
        (["clip.mp4", "--point", "1,1", "--pin", "mask_decoder=tensorrt"], 2, ["'tensorrt'", "torch"]),
        (["clip.mp4", "--point", "1,1", "--config", "missing.toml"], 2, ["missing.toml", "cannot be read"]),
        (["clip.mp4", "--point", "1,1", "--model", "sam3"], 2, ["'sam3'", "nano"]),
        (["clip.mp4", "--point", "1,1", "--overlay", "no/x.mp4"], 2, ["folder no", "make it first"]),
        (["clip.mp4", "--point", "1,1", "--overlay", "clip.mp4", "--force"], 2, ["clip.mp4 is an input"]),
        (["clip.mp4", "--point", "1,1", "--overlay", "./clip.mp4", "--force"], 2, ["clip.mp4 is an input"]),
        (["clip.mp4", "--point", "1,1", "--overlay", "x", "--masklets", "x"], 2, ["both x"]),
        (["clip.mp4", "--point", "1,1", "--overlay", "."], 2, ["is a folder"]),
        (["clip.mp4", "--point", "1,1", "--overlay", "x.abc"], 2, ["x.abc", ".mp4"]),
        (["clip.mp4", "--point", "1,1", "--start", "12"], 2, ["--start 12", "12 frames"]),
        (["clip.mp4", "--point", "1,1", "--start", "-1"], 2, ["--start"]),
        (["clip.mp4", "--point", "1,1@2", "--start", "5"], 2, ["frame 2", "frames 5 on"]),
        (["clip.mp4", "--point", "1,1", "--remove", "2"], 2, ["--remove '2'", "--remove 2@120"]),
        (["clip.mp4", "--point", "1,1", "--wrong"], 2, ["--wrong", "track --help"]),
        ([], 2, ["CLIP", "track --help"]),
    ],
)
def test_wrong_use_of_track_is_one_line_and_leaves_nothing(place, fails, arguments, code, words):
    found, message = fails("track", *arguments)
    assert found == code
    for word in words:
        assert word in message
    assert files(place) == {"clip.mp4"}


def test_nothing_is_overwritten_without_force(place, run, fails):
    place.joinpath("clip.jsonl").write_text("mine")
    code, message = fails("track", "clip.mp4", "--point", "28,32")
    assert (code, "--force" in message, "clip.jsonl exists" in message) == (2, True, True)
    assert place.joinpath("clip.jsonl").read_text() == "mine"
    assert run("track", "clip.mp4", "--point", "28,32", "--force")[0] == 0
    assert len(list(st.read_masklets("clip.jsonl"))) == 12


@pytest.mark.parametrize("command", ["track", "live"])
@pytest.mark.parametrize("name", ["prompts.toml", "mask.png", "mine.toml", "w.pt"])
def test_no_input_is_overwritten(place, fails, command, name):
    mask = np.zeros((64, 96), np.uint8)
    mask[20:44, 16:40] = 255
    write_picture(place / "mask.png", mask)
    place.joinpath("prompts.toml").write_text('[[prompts]]\nobject = 2\nmask = "mask.png"')
    place.joinpath("mine.toml").write_text('weights = "w.pt"')
    place.joinpath("w.pt").write_text("weights")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    flags = ["--headless"] if command == "live" else []
    flags += ["--prompts", "prompts.toml", "--config", "mine.toml", "--masklets", name, "--force"]
    assert fails(command, "clip.mp4", *flags) == (2, f"{name} is an input; give the output another name")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize("checked", [True, False])
def test_an_overlay_that_cannot_be_written_costs_no_earlier_masklets(place, fails, monkeypatch, checked):
    if not checked:  # the folder changed in the meantime
        monkeypatch.setattr(Paths, "check", lambda *_, **__: None)
    place.joinpath("m.jsonl.partial").write_text("of an earlier run")
    code, _ = fails("track", "clip.mp4", "--point", "28,32", "--masklets", "m.jsonl", "--overlay", "x.abc", "-q")
    assert code == (2 if checked else 1)
    assert place.joinpath("m.jsonl.partial").read_text() == "of an earlier run"
    assert files(place) == {"clip.mp4", "m.jsonl.partial"}


def test_a_failure_on_the_way_keeps_the_masklets_aside_and_says_so(place, run, monkeypatch):
    original = st.Tracker.step

    def step(self, frame, prompts=()):
        result = original(self, frame, dict(prompts))
        if result.index == 5:
            raise RuntimeError("lost the device")
        return result

    monkeypatch.setattr(st.Tracker, "step", step)
    place.joinpath("clip.jsonl").write_text("earlier")
    code, out, err = run("track", "clip.mp4", "--point", "28,32", "--force")
    assert (code, out) == (1, "")
    assert err.splitlines()[-2:] == [
        "the 5 frames before the error are in clip.jsonl.partial",
        "sam2track: unexpected RuntimeError: lost the device; --debug shows where",
    ]
    assert place.joinpath("clip.jsonl").read_text() == "earlier"
    assert len(list(st.read_masklets("clip.jsonl.partial"))) == 5
    assert files(place) == {"clip.mp4", "clip.jsonl", "clip.jsonl.partial"}
