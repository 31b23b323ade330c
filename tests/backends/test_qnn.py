"""Components on the emulator of a Snapdragon X Elite's NPU: whole, right, and refused in one clear line."""

import platform
import shutil
import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import sam2track as st
from sam2track import backends
from sam2track.backends import compiled, htp, rehearse
from sam2track.backends.export import difference
from sam2track.backends.manifest import Exported, Room
from sam2track.chips import CHIPS
from sam2track.config import Config
from sam2track.contracts import CONTRACTS
from sam2track.errors import BackendError, ConfigError

SIZE = 128
CHIP = CHIPS["x-elite"]
SHORT = {"memory.prompted": 1, "memory.recent": 1, "memory.pointers": 2}  # what the fixture ``short_nano`` has room for
ROOM = Room(slots=(2,), pointers=2, points=(2,))

emulated_only = pytest.mark.skipif(
    find_spec("onnxruntime_qnn") is None or platform.machine() != "x86_64" or sys.platform != "linux",
    reason="needs onnxruntime-qnn on x86-64 Linux, where it has an emulator",
)
pytestmark = [pytest.mark.npu, emulated_only]


def config(folder, default="qnn:emulator", **more):
    sets = SHORT | {"exported": str(folder), "qnn.soc": more.pop("soc", "x-elite")}
    return Config.load("nano", image_size=SIZE, pin={"default": default} | more, set=sets)


CLOSE = 0.97  # of masks: fp16 flips pixels of an edge that the weights are unsure of, 37 of 1,900 at most


@pytest.fixture(scope="session")
def folder(short_nano):
    return short_nano


@pytest.fixture(scope="session")
def traces():
    """What the runtime's trace of each session said: (refused nodes, all nodes)."""
    return []


@pytest.fixture(scope="session")
def emulated(folder, traces):
    """All five components on the emulator."""
    read = htp._refused

    def noted(path):
        traces.append(read(path))
        return traces[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(htp, "_refused", noted)
        return backends.load(config(folder))


@pytest.fixture(scope="session")
def reference():
    return backends.load(Config.load("nano", image_size=SIZE, device="cpu", set=SHORT))


@pytest.fixture(scope="session")
def ready(folder, tmp_path_factory):
    """A copy of the folder that is compiled for the chip."""
    path = tmp_path_factory.mktemp("ready") / "nano"
    shutil.copytree(folder, path)
    assert all(one.seconds > 0 for one in compiled.compile_graphs(Exported.read(path), [CHIP]))
    return path


@pytest.fixture
def copied(ready, tmp_path):
    """A compiled folder to spoil."""
    return Path(shutil.copytree(ready, tmp_path / "nano"))


def track(components, count=3):
    """Masks of a disc that is given as a box on the first of ``count`` frames."""
    tracker = st.Tracker(components, Config.load("nano", image_size=SIZE, set=SHORT))
    frames = [st.Frame(image, i, Fraction(i, 30)) for i, image in enumerate(rehearse.pictures(SIZE, count))]
    prompts = {0: {1: st.Prompt(box=(0.2 * SIZE, 0.3 * SIZE, 0.6 * SIZE, 0.7 * SIZE))}}
    with st.track(frames, tracker, prompts) as run:
        return [result.objects[1].mask for _, result in run]


def iou(a, b):
    assert a.any()
    assert b.any()
    return (a & b).sum() / (a | b).sum()


def rewrite(folder, **changes):
    """Change every compiled entry of the manifest."""
    exported = Exported.read(folder)
    graphs = tuple(g if g.soc is None else g.model_copy(update=changes) for g in exported.manifest.graphs)
    Exported(folder, exported.manifest.model_copy(update={"graphs": graphs})).write()


# right


def test_every_component_runs_whole(emulated, traces):
    assert emulated.placement == dict.fromkeys(CONTRACTS, "qnn:emulator:fp16")
    assert len(traces) == 5
    for refused, total in traces:
        assert refused == []
        assert total > 50
    for name in CONTRACTS:
        proof = emulated.evidence[name].proof
        assert proof.startswith("all ")
        assert proof.endswith(" nodes assigned to QNNExecutionProvider on the HTP emulator as x-elite")
        assert emulated.evidence[name].load_seconds > 0


def test_masks_are_those_of_torch(emulated, reference):
    for a, b in zip(track(emulated), track(reference), strict=True):
        assert iou(a, b) >= CLOSE


@torch.inference_mode()
def test_each_component_gives_what_torch_gives(emulated, reference):
    """On a mask prompt and on correction clicks too, and for every temporal code, which the chain above leaves out."""
    last = {}
    for call in rehearse.calls(reference, ROOM, rehearse.pictures(SIZE, 1)):
        last[call.component] = call
    xy = torch.tensor([[[31.0, 77.0]]])
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., 20:90, 30:70] = 1
    prompts = [
        (xy, torch.ones(1, 1), None, None, mask, torch.ones(1)),
        (xy, torch.ones(1, 1), torch.linspace(-9, 9, 1024).reshape(1, 1, 32, 32), torch.ones(1), None, None),
    ]
    inputs = last["memory_attention"].inputs
    slots = [(*inputs[:2], torch.tensor([slot]), *inputs[3:]) for slot in ([0, 6], [5, 4], [3, 2], [0, 1])]
    cases = [(name, call.inputs) for name, call in last.items()]
    cases += [("prompt_encoder", case) for case in prompts] + [("memory_attention", case) for case in slots]
    for name, case in cases:
        found, wanted = getattr(emulated, name)(*case), getattr(reference, name)(*case)
        pairs = [(found, wanted)] if isinstance(found, torch.Tensor) else zip(found, wanted, strict=True)
        for a, b in pairs:
            assert difference(a, b) < 0.02 or (a - b).abs().max() < 0.005, name


@pytest.mark.parametrize(
    "pins",
    [
        {"default": "qnn:emulator", "image_encoder": "torch:cpu", "memory_encoder": "onnx:cpu"},
        {"default": "onnx:cpu", "image_encoder": "qnn:emulator", "prompt_encoder": "torch:cpu"},
    ],
)
def test_mixed_pins_give_the_same_masks(ready, reference, pins):
    components = backends.load(config(ready, **pins))
    for name in CONTRACTS:
        assert components.placement[name].startswith(pins.get(name, pins["default"]))
    for a, b in zip(track(components), track(reference), strict=True):
        assert iou(a, b) >= CLOSE


# compiled


def test_a_compiled_graph_is_loaded_and_gives_the_same(ready, emulated):
    loaded = backends.load(config(ready, "torch:cpu", mask_decoder="qnn:emulator", prompt_encoder="qnn:emulator"))
    proof = "a compiled binary assigned to QNNExecutionProvider on the HTP emulator as x-elite"
    assert loaded.evidence["mask_decoder"].proof == proof
    given = torch.tensor([[[31.0, 77.0]]]), torch.ones(1, 1), None, None, None, None
    embeddings = emulated.prompt_encoder(*given)
    for a, b in zip(loaded.prompt_encoder(*given), embeddings, strict=True):
        assert torch.equal(a, b)
    features = torch.randn(1, 128, 8, 8), torch.randn(1, 16, 32, 32), torch.randn(1, 32, 16, 16)
    for a, b in zip(
        loaded.mask_decoder(*features, *embeddings), emulated.mask_decoder(*features, *embeddings), strict=True
    ):
        assert torch.equal(a, b)


def test_for_another_chip_the_plain_graph_is_loaded(ready):
    loaded = backends.load(config(ready, "torch:cpu", prompt_encoder="qnn:emulator", soc="8-gen-3"))
    assert loaded.evidence["prompt_encoder"].proof.startswith("all ")
    assert loaded.evidence["prompt_encoder"].proof.endswith("as 8-gen-3")


def test_what_is_compiled_is_not_compiled_again(copied):
    exported = Exported.read(copied)
    assert [one.seconds for one in compiled.compile_graphs(exported, [CHIP])] == [0.0] * 5
    (copied / compiled.find(exported, "prompt_encoder", "fp16", CHIP)[2].files[0].name).unlink()
    again = compiled.compile_graphs(exported, [CHIP])
    assert [one.graph.component for one in again if one.seconds] == ["prompt_encoder"]
    assert len(Exported.read(copied).manifest.graphs) == 10


def test_a_binary_of_an_older_graph_is_replaced(copied):
    rewrite(copied, runtime="2.6.0/2.40.0")
    before = compiled.find(Exported.read(copied), "prompt_encoder", "fp16", CHIP)[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(htp, "runtime_version", lambda: "2.8.0/2.60.0")
        made = compiled.compile_graphs(Exported.read(copied), [CHIP])
    after = compiled.find(Exported.read(copied), "prompt_encoder", "fp16", CHIP)[2]
    assert after.runtime == "2.8.0/2.60.0"
    assert not (copied / before.files[0].name).exists()
    assert all(one.path.is_file() for one in made)


def test_what_fails_half_way_leaves_nothing(folder, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(folder, tmp_path / "nano"))
    before = sorted(copy.iterdir())

    def half(path, component, target, out):
        out.write_bytes(b"half")
        raise BackendError("no more")

    monkeypatch.setattr(htp, "compile_graph", half)
    with pytest.raises(BackendError, match="no more"):
        compiled.compile_graphs(Exported.read(copy), [CHIP])
    assert sorted(copy.iterdir()) == before


def test_a_dlc_is_a_whole_container(folder, tmp_path):
    import zipfile

    copy = Path(shutil.copytree(folder, tmp_path / "nano"))
    made = compiled.dump_dlc(Exported.read(copy), CHIP)
    assert [one.path.name for one in made][-1] == "memory_encoder.fp16.dlc"
    assert all(zipfile.is_zipfile(one.path) for one in made)
    assert not [path for path in copy.iterdir() if path.name.startswith(".")]


# refused


def refuses(settings, match):
    with pytest.raises(BackendError, match=match) as caught:
        backends.load(settings)
    assert "\n" not in str(caught.value)


def test_a_damaged_binary(copied):
    path = copied / compiled.find(Exported.read(copied), "prompt_encoder", "fp16", CHIP)[2].files[0].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    refuses(config(copied, "torch:cpu", prompt_encoder="qnn:emulator"), "is not the file its manifest lists")


def test_a_binary_of_another_graph(copied):
    rewrite(copied, source="0" * 64)
    refuses(config(copied, "torch:cpu", prompt_encoder="qnn:emulator"), "was compiled from another graph")


def test_a_binary_of_another_runtime(copied):
    rewrite(copied, runtime="2.6.0/2.40.0")
    refuses(
        config(copied, "torch:cpu", prompt_encoder="qnn:emulator"),
        "compiled by QNN runtime 2.6.0/2.40.0, but .* is installed; .* or install onnxruntime-qnn==2.6.0",
    )


def test_a_binary_for_another_chip(copied):
    rewrite(copied, soc="8-gen-3")
    refuses(
        config(copied, "torch:cpu", prompt_encoder="qnn:emulator", soc="8-gen-3"),
        r"was compiled for soc_model 60, not for 8-gen-3 \(soc_model 57\)",
    )


def test_no_npu_here(folder):
    refuses(config(folder, "qnn:npu"), "there is no Qualcomm NPU on this machine .*x86_64 Linux.*qnn:emulator")
    refuses(config(folder, "qnn"), "there is no Qualcomm NPU on this machine")


def test_an_emulator_of_nothing(folder):
    settings = Config.load("nano", image_size=SIZE, pin={"default": "qnn:emulator"}, set={"exported": str(folder)})
    refuses(settings, 'which chip is it to be.*qnn.soc = "x-elite"')


def test_a_chip_without_floats(folder):
    refuses(config(folder, soc="qcs6490"), "qcs6490 .Hexagon v68. runs quantised graphs only; .*sam2track quantize")
    with pytest.raises(BackendError, match="quantised graphs only"):
        compiled.compile_graphs(Exported.read(folder), [CHIPS["qcs6490"]])


def test_a_precision_that_was_not_made(folder):
    refuses(config(folder, "qnn:emulator:w8a16"), "has no image_encoder in w8a16; it has fp32")
    with pytest.raises(BackendError, match="no graphs to compile in w8a16; make them with sam2track quantize"):
        compiled.compile_graphs(Exported.read(folder), [CHIP], "w8a16")


def test_a_machine_that_cannot_emulate(folder, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    refuses(config(folder), "qnn:emulator, which works on x86-64 only, not on aarch64 Linux")
    refuses(config(folder, "qnn:npu"), "no Qualcomm NPU on this machine .*; pin it to onnx:cpu")
    with pytest.raises(BackendError, match="compiling for x-elite, which works on x86-64 only"):
        compiled.compile_graphs(Exported.read(folder), [CHIP])


def test_a_missing_plugin(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)
    refuses(config(folder), r"onnxruntime_qnn is not installed; pip install 'sam2track\[npu\]'")


def test_a_node_that_the_npu_refuses(tmp_path):
    from onnx import TensorProto, helper, save

    nodes = [helper.make_node(op, [a], [b], name=f"node_{op}") for op, a, b in
             (("Relu", "x", "a"), ("Erf", "a", "b"), ("Det", "b", "y"))]  # fmt: skip
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in
             (("x", [1, 4, 4]), ("y", [1]))]  # fmt: skip
    graph = helper.make_graph(nodes, "refused", *ports)
    path = tmp_path / "refused.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    target = htp.emulator("this test", CHIP)
    said = r"mask_decoder cannot run whole on qnn:emulator: 2 of 3 nodes .* Erf node_Erf \(Operators of type `Erf`"
    with pytest.raises(BackendError, match=said):
        htp.session(path, "mask_decoder", target)
    with pytest.raises(BackendError, match=said):
        htp.compile_graph(path, "mask_decoder", target, tmp_path / "out.onnx")


def test_an_npu_and_the_emulator_are_never_confused(monkeypatch):
    def device(kind):
        return SimpleNamespace(device=SimpleNamespace(type=SimpleNamespace(name=kind)))

    npu, cpu = device("NPU"), device("CPU")
    monkeypatch.setattr(htp, "plugin_devices", lambda wanted: [cpu, npu])
    assert htp.npu("mask_decoder", None, "burst") == htp.Target("npu", npu, None, "burst")
    assert "soc_model" not in htp.npu("mask_decoder", CHIP, "burst").options  # it knows what it is
    assert htp.emulator("a test", CHIP).options["soc_model"] == "60"
    assert htp.emulator("a test", CHIP) == htp.Target("emulator", cpu, CHIP)
    monkeypatch.setattr(htp, "plugin_devices", lambda wanted: [npu])
    with pytest.raises(BackendError, match="has no emulator"):
        htp.emulator("a test", CHIP)


@pytest.mark.parametrize(
    ("providers", "word"), [(["QNNExecutionProvider", "CPUExecutionProvider"], "CPUExecutionProvider"), ([], "no prov")]
)
def test_a_part_that_would_run_elsewhere(providers, word):
    parts = [SimpleNamespace(ep_name=name) for name in providers]
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)
    with pytest.raises(BackendError, match=f"parts would run on {word}"):
        htp._check_assignment(session, "mask_decoder", htp.Target("npu", None, None))


def test_chips_that_do_not_exist():
    with pytest.raises(ConfigError, match="chip 'x-elit' is unknown; did you mean 'x-elite'"):
        config("nowhere", soc="x-elit")
