import json
import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from sam2track.backends import compiled
from sam2track.backends.manifest import Exported

pytestmark = [
    pytest.mark.npu,
    pytest.mark.skipif(
        find_spec("onnxruntime_qnn") is None or platform.machine() != "x86_64" or sys.platform != "linux",
        reason="needs onnxruntime-qnn on x86-64 Linux, where it has an emulator",
    ),
]


@pytest.fixture
def folder(short_nano, tmp_path):
    return shutil.copytree(short_nano, tmp_path / "nano")


def test_compile_writes_json_and_nothing_else(folder):
    """In a process of its own, since the emulator greets on standard output once a process."""
    command = [sys.executable, "-c", "from sam2track.cli import main; main()", "compile", str(folder)]
    done = subprocess.run([*command, "--soc", "sc8380xp,8-gen-1", "--json"], capture_output=True, text=True, check=True)
    graphs = json.loads(done.stdout)["graphs"]
    assert [graph["soc"] for graph in graphs] == ["x-elite"] * 5 + ["8-gen-1"] * 5
    for graph in graphs:
        assert (folder / graph["file"]).stat().st_size == graph["bytes"]
        assert graph["seconds"] > 0
    assert len(Exported.read(folder).manifest.graphs) == 15


def test_compile_tells_how_far_it_is(folder, run, monkeypatch):
    whole = compiled._all_plain
    monkeypatch.setattr(compiled, "_all_plain", lambda *given: whole(*given)[1:2])
    code, out, err = run("compile", folder, "--soc", "x-elite", "--dlc")
    assert code == 0
    assert "1 graph for x-elite" in out
    assert "--set qnn.soc=x-elite --pin default=qnn:npu:fp16" in out
    lines = [line for line in err.splitlines() if line.startswith("1/1 ")]
    assert lines[0].startswith("1/1 prompt_encoder_2.fp16.x-elite.")
    assert lines[1].startswith("1/1 prompt_encoder_2.fp16.dlc: ")
    assert "there already" in run("compile", folder, "--soc", "x-elite")[2]
    assert run("compile", folder, "--soc", "x-elite", "--quiet")[:2] == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nowhere", "--soc", "x-elite"], 1, "no readable manifest.json"),
        (["nano", "--soc", "x-elit"], 2, "did you mean 'x-elite'"),
        (["nano", "--soc", "qcs6490"], 1, "quantised graphs only"),
        (["nano", "--soc", "x-elite", "--precision", "w8"], 2, "did you mean 'w8a8'"),
        (["nano", "--soc", "x-elite", "--precision", "w8a8"], 1, "no graphs to compile in w8a8"),
        (["nano"], 2, "--soc"),
    ],
)
def test_wrong_use_of_compile(folder, fails, monkeypatch, arguments, code, word):
    monkeypatch.chdir(folder.parent)
    assert fails("compile", *arguments)[0] == code
    assert word in fails("compile", *arguments)[1]


def test_doctor_tells_the_emulator_from_an_npu(folder, run):
    """The prompt encoder, since a step calls it least."""
    pins = ["--pin", "prompt_encoder=qnn:emulator", "--pin", "mask_decoder=onnx:cpu"]
    sets = [f"exported={folder}", "qnn.soc=60", "memory.prompted=1", "memory.recent=1", "memory.pointers=2"]
    flags = [*pins, *(part for text in sets for part in ("--set", text)), "--image-size", "128", "--device", "cpu"]
    code, out, _ = run("doctor", "--json", *flags)
    assert code == 0
    found = json.loads(out)["model"]["components"]
    assert (found["prompt_encoder"]["engine"], found["prompt_encoder"]["device"]) == ("qnn", "emulator")
    assert found["prompt_encoder"]["proof"].endswith("on the HTP emulator as x-elite")
    assert (found["mask_decoder"]["engine"], found["mask_decoder"]["device"]) == ("onnx", "cpu")
    assert found["image_encoder"]["proof"] == "gave tensors on cpu"
    for each in found.values():
        assert 0 < each["median_ms"] <= each["p99_ms"]
        assert each["load_s"] >= 0
    assert run("doctor", "--json", *flags, "--pin", "prompt_encoder=qnn:npu")[0] == 1
