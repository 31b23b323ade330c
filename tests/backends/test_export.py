"""What an exported folder holds, and that it is whole or not there."""

import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch

import sam2track as st
from sam2track.backends import cache, export, rehearse
from sam2track.backends.manifest import Exported, Room, hash_of
from sam2track.backends.sources import Sources
from sam2track.backends.static import GRAPHS, letters
from sam2track.contracts import CONTRACTS, shape
from sam2track.errors import ConfigError, SinkError
from tests.backends.conftest import NANO_SIZE

CONFIG = st.Config.load("nano", image_size=NANO_SIZE)


def test_the_manifest_lists_every_file_and_what_it_is(exported_nano):
    exported = Exported.read(exported_nano)
    manifest = exported.manifest
    assert (manifest.model, manifest.opset, manifest.weights.published) == ("nano", 18, True)
    assert manifest.weights.sha256 == hash_of(Sources(CONFIG).checkpoint)
    assert exported.sizes == Sources(CONFIG).sizes
    assert manifest.software["torch"] == torch.__version__
    files = [file.name for graph in manifest.graphs for file in graph.files]
    assert sorted([*files, "manifest.json"]) == sorted(path.name for path in exported_nano.iterdir())
    assert {name: list(exported.graphs(name, "fp32")) for name in CONTRACTS} == {
        "image_encoder": [0],
        "prompt_encoder": [8],
        "memory_attention": [1, 3, 10],
        "mask_decoder": [1, 8],
        "memory_encoder": [0],
    }
    assert all(graph.error is not None and graph.error < 2e-5 for graph in manifest.graphs)


def test_graphs_are_static_named_by_the_contract_and_tell_nothing_of_this_machine(exported_nano):
    exported = Exported.read(exported_nano)
    home = str(Path(st.__file__).parent).encode()
    for graph in exported.manifest.graphs:
        path = exported.path(graph)
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        known = letters(graph.component, graph.bucket, exported.sizes, exported.manifest.room)
        for side, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            assert {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values} == {
                port.name: shape(port, known) for port in getattr(GRAPHS[graph.component], side)
            }
        assert [(part.domain, part.version) for part in model.opset_import] == [("", 18)]
        assert max(len(tensor.dims) for tensor in model.graph.initializer) <= 4
        assert home not in path.read_bytes()


def test_the_rehearsal_reaches_every_bucket_with_real_and_partly_filled_memories():
    network = Sources(st.Config.load("nano", image_size=64)).network
    room = Room(slots=(1, 3, 10))
    parts = export.pytorch.components(network, st.config.Pin("torch", "cpu", "fp32"))
    with torch.inference_mode():
        calls = rehearse.calls(parts, room, rehearse.pictures(64))
    slots = [call.inputs[1].shape[1] for call in calls if call.component == "memory_attention"]
    assert slots == [1, 2, 3, 4, 10]
    assert {call.inputs[3].shape[1] - 1 for call in calls if call.component == "mask_decoder"} == {1, 8}
    assert {call.component for call in calls} == set(CONTRACTS)
    memories = [call.outputs[0] for call in calls if call.component == "memory_encoder"]
    assert all(memory.std() > 0.01 for memory in memories)


def no_leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith((".partial", ".old"))] == []


@pytest.fixture
def quick(monkeypatch):
    """Export without the exporter, which takes seconds: a file a graph."""

    def write(sources, folder, name, bucket, *_):
        path = folder / f"{name}_{bucket}.onnx"
        path.write_bytes(b"graph")
        return export.Graph(component=name, bucket=bucket, files=(export.describe(path),))

    monkeypatch.setattr(export, "_write_graph", write)
    monkeypatch.setattr(export, "_checked", lambda sources, exported, images, tell: exported)


def test_a_folder_takes_its_name_when_it_is_whole(tmp_path, quick, monkeypatch):
    target = tmp_path / "new"
    exported = export.export(CONFIG, target)
    assert Exported.read(target) == exported
    assert no_leftovers(tmp_path)
    with pytest.raises(SinkError, match="new exists; give another name, or --force to replace it"):
        export.export(CONFIG, target)
    (target / "old").touch()

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(export, "_checked", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export.export(CONFIG, target, force=True)
    assert (target / "old").exists()
    assert no_leftovers(tmp_path)
    export.export(CONFIG, target, force=True)
    assert not (target / "old").exists()
    assert no_leftovers(tmp_path)


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_write_graph", lambda *_: pytest.fail("worked"))
    with pytest.raises(SinkError, match=r"folder .*nowhere for new does not exist"):
        export.export(CONFIG, tmp_path / "nowhere" / "new")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(SinkError, match="mine exists and is no exported folder"):
        export.export(CONFIG, tmp_path / "mine", force=True)
    with pytest.raises(ConfigError, match="opset is 17; expected 18 to 22"):
        export.export(CONFIG, tmp_path / "new", opset=17)
    monkeypatch.setitem(sys.modules, "onnxslim", None)
    with pytest.raises(st.BackendError, match=r"onnxslim: pip install sam2track\[export\]; or export elsewhere"):
        export.export(CONFIG, tmp_path / "new")


def test_a_graph_that_differs_from_torch_is_not_exported(exported_nano, tmp_path, monkeypatch):
    def write(sources, folder, name, bucket, *_):
        graph = Exported.read(exported_nano).graphs(name, "fp32")[bucket]
        shutil.copy(exported_nano / graph.files[0].name, folder)
        return graph

    monkeypatch.setattr(export, "_write_graph", write)
    room = Room(slots=(1, 3, 10))
    lines = []
    exported = export.export(CONFIG, tmp_path / "same", room, tell=lines.append)
    assert [graph.error for graph in exported.manifest.graphs] == [
        graph.error for graph in Exported.read(exported_nano).manifest.graphs
    ]
    assert len(lines) == len(CONTRACTS)

    sources = Sources(CONFIG)
    with torch.no_grad():
        sources.network.mask_decoder.iou_token += 0.01
    with pytest.raises(st.BackendError, match="mask_decoder exported differs from torch by"):
        export.export(sources, tmp_path / "other", room)
    assert not (tmp_path / "other").exists()
    assert no_leftovers(tmp_path)


def test_what_is_not_a_number_differs_without_bound():
    one, none = torch.ones(4), torch.full((4,), torch.nan)
    assert export.difference(one + 1e-3, one) == pytest.approx(1e-3, rel=1e-3)
    assert export.difference(none, one) == export.difference(one, none) == float("inf")


def test_room_follows_from_the_memory():
    assert Room.of(CONFIG.memory) == Room(slots=(1, 3, 7, 10), pointers=19, points=(1, 8))
    short = st.Config.load("nano", set={"memory.prompted": 1, "memory.recent": 2, "memory.pointers": 8}).memory
    assert Room.of(short, points=1) == Room(slots=(1, 3), pointers=8, points=(1,))
    for wrong in ({"slots": (3, 1)}, {"slots": (0, 1)}, {"pointers": 0}, {"points": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is .*; expected"):
            Room.of(short, **wrong)


def test_graphs_are_made_once_in_the_cache_and_told_of(tmp_path, quick, monkeypatch, caplog):
    monkeypatch.setenv("SAM2TRACK_CACHE", str(tmp_path))
    first = Sources(CONFIG).exported
    assert first.folder.parent == tmp_path / "exported"
    assert [record.getMessage() for record in caplog.records] == [f"exporting nano at 128 px, once, to {first.folder}"]
    assert Sources(CONFIG).exported == first
    assert len(caplog.records) == 1
    others = [{"set": {"memory.recent": 2}}, {"image_size": 64}]
    folders = {Sources(st.Config.load(CONFIG, **other)).exported.folder for other in others}
    assert len({first.folder, *folders}) == 3


def test_another_process_may_be_quicker(tmp_path, quick, monkeypatch):
    monkeypatch.setenv("SAM2TRACK_CACHE", str(tmp_path))

    def lose_the_race(sources, folder, room):
        export.export(sources, folder, room)
        return export.export(sources, folder, room)

    monkeypatch.setattr(cache, "export", lose_the_race)
    assert Sources(CONFIG).exported.manifest.model == "nano"


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAM2TRACK_CACHE", str(tmp_path / "file"))
    with pytest.raises(st.BackendError, match="set SAM2TRACK_CACHE"):
        _ = Sources(CONFIG).exported
