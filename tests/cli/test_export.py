import json

import pytest

from sam2track.backends import export as exporting
from sam2track.backends.manifest import Exported


@pytest.fixture
def quick(monkeypatch):
    """Export without the exporter, which takes seconds: a file a graph."""

    def write(sources, folder, name, bucket, room, opset, tell):
        path = folder / f"{name}_{bucket}.onnx"
        path.write_bytes(b"graph")
        tell(f"{path.name}: written")
        return exporting.Graph(component=name, bucket=bucket, files=(exporting.describe(path),))

    monkeypatch.setattr(exporting, "_write_graph", write)
    monkeypatch.setattr(exporting, "_checked", lambda sources, exported, images, tell: exported)


def test_export_makes_the_folder_and_says_how_to_use_it(tmp_path, run, quick):
    folder = tmp_path / "graphs"
    flags = ("--image-size", 64, "--slots", "1,4", "--pointers", 5, "--points", 3, "--opset", 20)
    code, out, err = run("export", "--output", folder, *flags)
    assert code == 0
    assert f"nano at 64 px, 7 graphs, 0 MB; run it with --set exported={folder} --pin default=onnx:cpu" in out
    assert err.splitlines()[-1] == "memory_encoder_0.onnx: written"
    manifest = Exported.read(folder).manifest
    assert (manifest.room.slots, manifest.room.pointers, manifest.room.points) == ((1, 4), 5, (1, 3))
    assert (manifest.opset, manifest.sizes.image_size) == (20, 64)
    code, out, err = run("export", "-o", folder, "--force", "--json")
    assert (code, err.count("written")) == (0, 9)
    report = json.loads(out)
    assert (report["folder"], report["sizes"]["image_size"]) == (str(folder), 320)
    assert run("export", "-o", tmp_path / "quiet", "--quiet") == (0, "", "")


def test_export_refuses_what_it_cannot_do(tmp_path, fails, quick):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").touch()
    for flags, code, words in (
        (("-o", tmp_path / "full", "--force"), 1, "exists and is no exported folder"),
        (("-o", tmp_path / "new", "--slots", "1;3"), 2, "--slots '1;3' is not a list of numbers"),
        (("-o", tmp_path / "new", "--slots", "3,1"), 2, "slots is (3, 1); expected numbers from 1 on that ascend"),
        (("-o", tmp_path / "new", "--points", "0"), 2, "points is 0"),
        (("-o", tmp_path / "new", "--opset", "11"), 2, "opset is 11; expected 18 to 22"),
        (("-o", tmp_path / "new", "--model", "sam2.1-tny"), 2, "did you mean 'sam2.1-tiny'"),
        ((), 2, "Missing option"),
    ):
        found, line = fails("export", *flags)
        assert found == code
        assert words in line
    assert not (tmp_path / "new").exists()
