import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sam2track as st
from sam2track import backends
from sam2track.cli import report


def test_models_are_listed(run, fails):
    code, out, _ = run("models")
    assert code == 0
    for word in ("nano", "sam2.1-base-plus", "80.85 M", "1024 px"):
        assert word in out
    listed = json.loads(run("models", "list", "--json")[1])["models"]
    assert [model["name"] for model in listed] == [
        model["name"] for model in json.loads(run("models", "--json")[1])["models"]
    ]
    assert listed[1]["parameters"] == 38_962_498
    assert json.loads(run("models", "--json", "list")[1])["models"] == listed
    code, line = fails("models", "--json", "download", "nano")
    assert (code, line) == (2, "--json is of models list; leave it out of models download")


def test_tables_show_names_as_they_are(capsys):
    report.say_table("", ["clip", "[x]"], [["fish[a] [bold]b[/bold] :smile:", "1"]])
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()] == [
        ["clip", "[x]"], ["fish[a]", "[bold]b[/bold]", ":smile:", "1"]
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is always text")
def test_a_clip_whose_name_is_not_utf_8(place):
    """In a process of its own: what is tested is what can be printed."""
    clip = os.fsdecode(b"cl\xefp.mp4")
    (place / "clip.mp4").rename(place / clip)
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [Path(sys.executable).with_name("sam2track"), "track", clip, "--point", "28,32"]
    flags = ["--image-size", "64", "--masklets", "m.jsonl", "--frames", "2"]
    done = subprocess.run([*command, *flags], env=environment, capture_output=True, check=False)
    assert (done.returncode, b"2 frames of cl\xefp.mp4" in done.stdout) == (0, True), done.stderr
    assert st.read_masklets("m.jsonl").header.source == "cl?p.mp4"


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
    code, out, err = run()
    assert (code, "Usage: sam2track" in out, err) == (2, True, "sam2track: no command given; see sam2track --help\n")


def test_a_number_out_of_range_is_repeated(place, fails):
    code, message = fails("track", "clip.mp4", "--point", "1,1", "--opacity", "7")
    assert code == 2
    assert "--opacity" in message
    assert "less than or equal to 1, not 7;" in message


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
