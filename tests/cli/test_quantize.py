import json
import shutil
from pathlib import Path

import pytest

from sam2track.backends.manifest import Exported

CLIP = Path(__file__).parents[2] / "samples" / "goldfish.mp4"
BOX = ("--box", "358,196,424,353")


@pytest.fixture
def folder(short_nano, tmp_path):
    return Path(shutil.copytree(short_nano, tmp_path / "nano"))


def test_quantize_adds_graphs_and_tells_their_errors(folder, run):
    flags = (
        "--scheme",
        "int8",
        "--components",
        "memory_encoder,image_encoder",
        "--calibrate",
        CLIP,
        *BOX,
        "--frames",
        9,
    )
    code, out, err = run("quantize", folder, *flags, "--json")
    assert code == 0, err
    graphs = {graph["file"]: graph for graph in json.loads(out)["graphs"]}
    assert set(graphs) == {"memory_encoder.int8.onnx", "image_encoder.int8.onnx"}
    assert all(0 < graph["relative_error"] < 0.1 for graph in graphs.values())
    assert all((folder / name).stat().st_size == graph["bytes"] for name, graph in graphs.items())
    assert len([g for g in Exported.read(folder).manifest.graphs if g.precision == "int8"]) == 2
    code, out, err = run("quantize", folder, "--scheme", "int8", "--components", "memory_encoder", "--force")
    assert code == 0
    assert "memory_encoder.int8.onnx" in out
    assert "memory_encoder.int8.onnx: " in err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--scheme", "w4"], 1, "scheme 'w4' is unknown; valid: int8, w8a16, w8a8"),
        (["--scheme", "w8a16"], 2, "w8a16 needs a clip and prompts: --calibrate clip.mp4 --box"),
        (["--scheme", "w8a16", "--calibrate", CLIP], 2, "no prompt: say what to track"),
        (["--scheme", "w8a16", "--calibrate", "nowhere.mp4", *BOX], 1, "nowhere.mp4"),
        (["--scheme", "w8a16", "--calibrate", CLIP, "--box", "358,196,424,353@50"], 2, "a prompt is for frame 50"),
        (["--scheme", "int8", "--components", "prompt_encoder"], 1, "component 'prompt_encoder' cannot be quantised"),
        (["--scheme", "int8", "--components", "decoder"], 1, "did you mean 'mask_decoder'"),
    ],
)
def test_quantize_refuses(folder, fails, flags, code, message):
    got, line = fails("quantize", folder, *flags)
    assert message in line
    assert got == code


def test_quantize_wants_an_exported_folder(tmp_path, fails):
    code, line = fails("quantize", tmp_path, "--scheme", "int8")
    assert code == 1
    assert "has no readable manifest.json" in line
    assert "sam2track export" in line
