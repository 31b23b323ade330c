import json
import signal
import subprocess
import sys
import time
from fractions import Fraction

import pytest

import sam2track as st
from sam2track import backends, cli
from sam2track.backends import fake
from tests.clips import NTSC, solid, write_clip

COMPONENTS = ("image_encoder", "prompt_encoder", "memory_attention", "mask_decoder", "memory_encoder")
STAGES = {"decode", "preprocess", "image_encoder", "memory_attention", "mask_decoder", "memory_encoder"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with a clip of 12 frames; models are fake: what is bright is the object."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "load", lambda config: fake.components(config.image_size or 64))
    images = []
    for index in range(12):
        image = solid((20, 20, 20))
        if not 6 <= index < 9:  # gone for three frames
            image[20:44, 16 + 2 * index : 40 + 2 * index] = 250
        images.append(image)
    write_clip(tmp_path / "clip.mp4", images, NTSC)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs a command line; gives its exit code, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def fails(run):
    """Runs a command line that fails: gives the code and the one line it says."""

    def fails(*arguments):
        code, out, err = run(*arguments)
        lines = err.splitlines()
        assert lines, "an error says something"
        assert lines[-1].startswith("sam2track: ")
        assert "Traceback" not in err
        assert out == ""
        return code, lines[-1].removeprefix("sam2track: ")

    return fails


def times(path):
    with st.open_source(path) as source:
        return [frame.time for frame in source]


def files(folder):
    return {path.name for path in folder.iterdir()}


# track


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
        (["clip.mp4", "--point", "1,1", "--overlay", "x.abc"], 1, ["x.abc", ".mp4"]),
        (["clip.mp4", "--point", "1,1", "--start", "12"], 2, ["--start 12", "12 frames"]),
        (["clip.mp4", "--point", "1,1", "--start", "-1"], 2, ["--start"]),
        (["clip.mp4", "--point", "1,1@2", "--start", "5"], 2, ["frame 2", "frames 5 on"]),
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


SLOW = """
import time
from sam2track import backends, cli
from sam2track.backends import fake
from dataclasses import replace

def load(config):
    components = fake.components(64)
    def encode(image):
        time.sleep(0.05)
        return components.image_encoder(image)
    return replace(components, image_encoder=encode)

backends.load = load
cli.main()
"""


@pytest.mark.parametrize("command", ["track", "live"])
def test_ctrl_c_finishes_the_files_and_exits_with_130(place, command):
    write_clip(place / "long.mp4", [solid((20, 20, 20)), solid((250, 250, 250))] * 300, 30)
    flags = ["--point", "5,5", "--masklets", "m.jsonl", "--overlay", "o.mp4", "--json"]
    headless = ["--headless"] if command == "live" else []
    arguments = [sys.executable, "-c", SLOW, command, "long.mp4", *flags, *headless]
    process = subprocess.Popen(arguments, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    partial = place / "m.jsonl.partial"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not partial.exists() or partial.read_bytes().count(b"\n") < 6):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert report["interrupted"] is True
    assert 4 <= report["frames"] < 600  # the fifth may have been written and not yet counted
    assert len(list(st.read_masklets(place / "m.jsonl"))) in (report["frames"], report["frames"] + 1)
    assert len(times(place / "o.mp4")) in (report["frames"], report["frames"] + 1)
    assert files(place) == {"clip.mp4", "long.mp4", "m.jsonl", "o.mp4"}


# live


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


# render


def test_render_draws_what_track_drew(place, run):
    run("track", "clip.mp4", "--point", "28,32", "--start", "2", "--frames", "6")
    code, out, _ = run("render", "clip.mp4", "clip.jsonl", "-o", "again.mp4")
    assert code == 0
    assert "again.mp4" in out
    with st.open_source("clip_overlay.mp4") as drawn, st.open_source("again.mp4") as again:
        pairs = list(zip(drawn, again, strict=True))
    assert len(pairs) == 6
    for left, right in pairs:
        assert left.time == right.time
        assert (left.image == right.image).all()


def test_render_has_a_style(place, run):
    run("track", "clip.mp4", "--point", "28,32")
    plain = ("--opacity", "0", "--contour", "0", "--no-labels")
    assert run("render", "clip.mp4", "clip.jsonl", "-o", "plain.mp4", *plain)[0] == 0
    assert run("render", "clip.mp4", "clip.jsonl", "-o", "full.mp4", "--opacity", "1", "--trace", "5")[0] == 0
    with st.open_source("clip.mp4") as clip, st.open_source("plain.mp4") as plain, st.open_source("full.mp4") as full:
        original, bare, drawn = next(clip).image.astype(int), next(plain).image, next(full).image
    assert abs(original - bare).mean() < 3  # but for the codec, nothing was drawn
    assert abs(original - drawn).mean() > 10


def test_render_needs_no_torch(place):
    with st.open_source("clip.mp4") as source, st.MaskletWriter("m.jsonl", source) as writer:
        for frame in source:
            writer.write(st.FrameResult(frame.index, frame.time, (64, 96)))
    code = (
        "import sys; from sam2track import cli\n"
        "try: cli.main(['render', 'clip.mp4', 'm.jsonl', '-q'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["0", "False"]


def test_render_refuses_what_does_not_fit(place, run, fails):
    run("track", "clip.mp4", "--point", "28,32", "--masklets", "m.jsonl")
    write_clip(place / "short.mp4", [solid((0, 0, 0))] * 5, NTSC)
    write_clip(place / "small.mp4", [solid((0, 0, 0), (48, 64))] * 12, NTSC)
    before = files(place)
    for clip, word in (("short.mp4", "frame 5"), ("small.mp4", "96x64"), ("missing.mp4", "does not exist")):
        code, message = fails("render", clip, "m.jsonl", "-o", "o.mp4")
        assert code == 1
        assert word in message
    assert fails("render", "clip.mp4", "clip.mp4", "-o", "o.mp4")[0] == 1
    assert fails("render", "clip.mp4", "m.jsonl", "-o", "m.jsonl", "--force")[1].startswith("m.jsonl is an input")
    assert fails("render", "clip.mp4", "m.jsonl", "--trace", "1")[0] == 2
    assert files(place) == before


# models, doctor, bench, and the rest


def test_models_are_listed(run):
    code, out, _ = run("models")
    assert code == 0
    for word in ("nano", "sam2.1-base-plus", "80.85 M", "1024 px"):
        assert word in out
    listed = json.loads(run("models", "list", "--json")[1])["models"]
    assert [model["name"] for model in listed] == [
        model["name"] for model in json.loads(run("models", "--json")[1])["models"]
    ]
    assert listed[1]["parameters"] == 38_962_498


def test_models_download_prints_the_path(run, fails, monkeypatch, tmp_path):
    from sam2track import hub

    monkeypatch.setattr(hub, "find", lambda name: tmp_path / f"{name}.pt")
    assert run("models", "download", "sam2-tiny")[:2] == (0, f"{tmp_path / 'sam2-tiny.pt'}\n")
    monkeypatch.undo()
    assert "did you mean 'sam2-tiny'" in fails("models", "download", "sam2-tny")[1]


def test_doctor_says_what_runs_where(place, run, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, out, _ = run("doctor", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["healthy"] is True
    assert report["versions"]["torch"].startswith("2.")
    assert report["video"][".mp4"] == "ok"
    assert report["model"]["placement"]["mask_decoder"] == "fake:cpu:fp32"
    assert report["model"]["stages"]["frame"]["count"] == 5
    assert "DISPLAY" in report["window"]
    _, text, _ = run("doctor")
    for word in ("torch", ".webm", "mask_decoder", "median ms"):
        assert word in text


def test_doctor_reports_a_model_that_does_not_run(place, run, monkeypatch):
    def refuse(config):
        raise st.BackendError("no such device")

    monkeypatch.setattr(backends, "load", refuse)
    code, out, _ = run("doctor", "--json")
    assert code == 1
    assert json.loads(out)["healthy"] is False
    assert json.loads(out)["model"] == {"name": "nano", "problem": "no such device"}


def test_bench_times_each_number_of_objects(place, run):
    code, out, _ = run("bench", "--objects", "1,3", "--frames", "4", "--warmup", "2", "--size", "96x64", "--json")
    assert code == 0
    passes = json.loads(out)["passes"]
    assert [each["objects"] for each in passes] == [1, 3]
    for each in passes:
        assert each["stages"]["frame"]["count"] == 4
        assert each["stages"]["memory_attention"]["count"] == 4
        assert each["stages"]["frame"]["median_ms"] >= each["stages"]["image_encoder"]["median_ms"]
    assert "1 object:" in run("bench", "clip.mp4", "--objects", "1", "--frames", "3", "--warmup", "0")[1]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--objects", "1,x"], "'1,x'"),
        (["--objects", "17"], "16"),
        (["--size", "big"], "'big'"),
        (["--size", "5x5"], "16 to 8192"),
        (["clip.mp4", "--frames", "50"], "12 frames, but 58 are needed"),
    ],
)
def test_wrong_use_of_bench(place, fails, arguments, word):
    code, message = fails("bench", *arguments)
    assert code == 2
    assert word in message


def test_version_and_unknown_commands(run, fails):
    assert run("--version") == (0, f"sam2track {st.__version__}\n", "")
    code, message = fails("trak")
    assert code == 2
    assert "track" in message


def test_debug_shows_the_traceback(place, run):
    code, _, err = run("track", "missing.mp4", "--point", "1,1", "--debug")
    assert code == 1
    assert err.startswith("Traceback") or "Traceback" in err
    assert err.splitlines()[-1].startswith("sam2track: missing.mp4")


def test_help_is_quick_because_nothing_heavy_is_imported():
    code = (
        "import sys; from sam2track import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'av', 'cv2', 'numba', 'numpy', 'pydantic') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
    for command in ("track", "live", "render", "models", "doctor", "bench"):
        assert command in answer.stdout
