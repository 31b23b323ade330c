import json
import shutil

import pytest

import sam2track as st
from sam2track import backends
from sam2track.backends import fake
from sam2track.backends.manifest import Exported, Manifest
from tests.datasets import made


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Two sequences in the current folder; models are fake."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "load", lambda config: fake.components(config.image_size or 64))
    return made.davis(tmp_path / "davis")


def test_eval_prints_a_table_and_writes_what_is_asked_for(dataset, run, tmp_path):
    code, out, _ = run("eval", "davis", "--sequences", "one,two", "--save-masks", "out", "--report", "scores.json")
    assert code == 0
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert lines[0][:5] == ["sequence", "object", "J&F", "J", "F"]
    assert [line[:2] for line in lines[1:]] == [["one", "1"], ["two", "1"], ["mean", "2"]]
    report = json.loads((tmp_path / "scores.json").read_text())
    assert (report["model"], report["prompt"], report["interrupted"]) == ("nano", "mask", False)
    assert report["sequences"]["one"]["frames"] == 7
    assert report["sequences"]["one"]["objects"]["1"]["j"] > 0.8
    assert f"{report['mean']['jf']:.3f}" == lines[3][2]
    assert len(list((tmp_path / "out" / "two").iterdir())) == 9
    code, out, _ = run("eval", "davis", "--sequences", "one,two", "--predictions", "out", "--json")
    assert code == 0
    again = json.loads(out)
    assert (again["mean"], again["sequences"]) == (report["mean"], report["sequences"])


def test_eval_goes_on_where_it_was_interrupted(dataset, run, monkeypatch):
    kept = st.evaluate

    def interrupted(*arguments, **options):
        yield next(kept(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(st, "evaluate", interrupted)
    command = ("eval", "davis", "--sequences", "one,two", "--save-masks", "out", "--json")
    code, out, err = run(*command)
    assert code == 130
    assert err.splitlines()[-1] == "interrupted after 1 of 2 sequences"
    assert list(json.loads(out)["sequences"]) == ["one"]
    monkeypatch.setattr(st, "evaluate", kept)
    code, out, _ = run(*command)
    assert code == 0
    assert list(json.loads(out)["sequences"]) == ["one", "two"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none",), 1, "none is not a folder"),
        (("davis", "--split", "test"), 2, "split 'test'"),
        (("davis", "--sequences", "three"), 2, "sequence 'three'"),
        (("davis", "--prompt", "clik"), 2, "did you mean 'click'"),
        (("davis", "--layout", "cocoa"), 2, "layout 'cocoa'"),
        (("davis", "--predictions", "out", "--model", "nano"), 2, "leave out"),
        (("davis", "--predictions", "out"), 1, "out/two is missing"),
        (("davis", "--report", "none/a.json"), 2, "folder none for a.json does not exist; make it first"),
        (("davis", "--report", "davis"), 2, "davis is a folder; give the name of a file in it"),
        (("davis", "--model", "nona"), 2, "did you mean 'nano'"),
    ],
)
def test_eval_says_what_is_wrong(dataset, fails, arguments, code, message):
    got, line = fails("eval", *arguments)
    assert got == code
    assert message in line


def test_eval_does_not_mix_masks_of_two_settings(dataset, run, fails, tmp_path):
    assert run("eval", "davis", "--save-masks", "out", "--quiet")[0] == 0
    code, line = fails("eval", "davis", "--save-masks", "out", "--prompt", "box")
    assert code == 2
    assert "other settings" in line
    (tmp_path / "out" / "settings.json").write_text("{cut")
    assert "other settings" in fails("eval", "davis", "--save-masks", "out")[1]
    (tmp_path / "scores.json").write_text("mine")
    code, line = fails("eval", "davis", "--report", "scores.json")
    assert (code, (tmp_path / "scores.json").read_text()) == (2, "mine")
    assert "--force" in line


def test_eval_does_not_go_on_with_masks_of_other_weights(dataset, run, fails, tmp_path):
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"one")
    code, line = fails("eval", "davis", "--weights", "w.pt", "--report", "w.pt", "--force")
    assert (code, line, weights.read_bytes()) == (2, "w.pt is an input; give the output another name", b"one")
    command = ("eval", "davis", "--weights", "w.pt", "--save-masks", "out", "--quiet")
    assert run(*command)[0] == run(*command)[0] == 0
    weights.write_bytes(b"two")
    code, line = fails(*command)
    assert (code, "other settings or weights" in line) == (2, True)


def test_eval_does_not_go_on_with_masks_of_another_dataset(dataset, run, fails, tmp_path):
    shutil.copytree("davis", "other")
    assert run("eval", "davis", "--save-masks", "out", "--quiet")[0] == 0
    assert run("eval", tmp_path / "davis", "--save-masks", "out", "--quiet")[0] == 0, "the same by another name"
    code, line = fails("eval", "other", "--save-masks", "out")
    assert (code, "of another dataset" in line) == (2, True)


def test_eval_does_not_go_on_with_masks_of_other_graphs(dataset, run, fails, tmp_path):
    (tmp_path / "graphs").mkdir()

    def export(content, *more):
        files = [{"name": "graph.onnx", "sha256": content * 64, "bytes": 1}]
        graphs = [{"component": "image_encoder", "precision": kind, "files": files} for kind in ("fp32", *more)]
        Exported(tmp_path / "graphs", Manifest.model_validate({
            "model": "nano", "opset": 18, "software": {}, "graphs": graphs, "room": {},
            "weights": {"file": "gone.pt", "sha256": "0" * 64, "published": False},
            "sizes": {"image_size": 64, "width": 8, "memory_width": 8, "recent": 6},
        })).write()  # fmt: skip

    export("1")
    command = ("eval", "davis", "--set", "exported=graphs", "--pin", "default=onnx:cpu", "--save-masks", "out")
    assert run(*command)[0] == run(*command)[0] == 0, "without the checkpoint"
    export("1", "int8")
    assert run(*command)[0] == 0, "quantised graphs were added, which do not run here"
    export("2")
    assert fails(*command)[0] == 2
