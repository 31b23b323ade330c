"""Exported graphs on ONNX Runtime against torch: components, whole clips, mixed pins, and what is refused."""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import sam2track as st
from sam2track import backends
from sam2track.backends import ort, rows
from sam2track.backends.export import difference
from sam2track.backends.manifest import Exported
from sam2track.contracts import CONTRACTS
from tests.backends.conftest import NANO_SIZE

CLIP = Path(__file__).parents[2] / "samples" / "koi.mp4"
FRAMES = 12


def nano(folder, **overrides):
    values = {"exported": str(folder), **overrides.pop("set", {})}
    return st.Config.load("nano", image_size=NANO_SIZE, set=values, **overrides)


def inputs(sizes, slots, pointers, points, batch=2):
    """Random inputs of every component, for objects with different histories."""
    torch.manual_seed(1)
    s, d, m, g = sizes.image_size, sizes.width, sizes.memory_width, sizes.image_size // 16
    valid = torch.ones(batch, slots + pointers, dtype=torch.bool)
    valid[1, 1:slots] = False  # the second object has one memory and half the pointers
    valid[1, slots + pointers // 2 :] = False
    s16, s4, s8 = (
        torch.randn(1, d, g, g),
        torch.randn(1, d // 8, s // 4, s // 4),
        torch.randn(1, d // 4, s // 8, s // 8),
    )
    xy, label = torch.rand(batch, points, 2) * s, torch.randint(0, 4, (batch, points)).float()
    prior, flags = 4 * torch.randn(batch, 1, s // 4, s // 4), torch.tensor([1.0, 0.0])
    mask = (torch.rand(batch, 1, s, s) > 0.5).float()
    memory = torch.randn(batch, slots, g * g, m).bfloat16(), torch.tensor([[0, *range(1, slots)]] * batch)
    pointer = torch.randn(batch, pointers, d), torch.rand(batch, pointers)
    dense = torch.randn(1, d, g, g).expand(batch, -1, -1, -1)
    return {
        "image_encoder": [(torch.randn(1, 3, s, s),)],
        "prompt_encoder": [
            (xy, label, prior, flags, None, None),
            (xy[:1], -torch.ones(1, points), None, None, mask[:1], flags[:1]),
        ],
        "memory_attention": [
            (s16, *memory, *pointer, valid),
            (s16, *(tensor[:1] for tensor in (*memory, *pointer)), None),
        ],
        "mask_decoder": [
            (torch.randn(batch, d, g, g), s4, s8, torch.randn(batch, points + 1, d), dense),
            (s16, s4, s8, torch.randn(1, 2, d), dense[:1]),
        ],
        "memory_encoder": [(s16, 5 * torch.randn(batch, 1, s, s), torch.tensor([[2.0], [-2.0]]), flags)],
    }


@pytest.fixture(scope="module")
def pairs(exported_nano, tiny_config):
    """Model -> (onnx components, torch components, inputs by component)."""
    found = {}
    rooms = {"nano": (nano(exported_nano), (4, 7, 3)), "tiny": (tiny_config, (3, 4, 2))}
    for model, (config, room) in rooms.items():
        onnx, plain = (
            backends.load(st.Config.load(config, pin={"default": pin})) for pin in ("onnx:cpu", "torch:cpu:fp32")
        )
        found[model] = (onnx, plain, inputs(plain.sizes, *room))
    return found


@pytest.fixture(params=[0, 1], ids=["one thread", "two threads"])
def helpers(request):
    """Objects of a batch run one after the other, or shared by two threads."""
    rows.set_helpers(request.param)
    yield
    rows.set_helpers(0)


@pytest.mark.usefixtures("helpers")
@pytest.mark.parametrize("component", CONTRACTS)
@pytest.mark.parametrize("model", ["nano", "tiny"])
def test_every_component_gives_what_torch_gives(pairs, model, component):
    onnx, plain, given = pairs[model]
    assert onnx.placement[component] == "onnx:cpu:fp32"
    for call in given[component]:
        found, wanted = getattr(onnx, component)(*call), getattr(plain, component)(*(
            tensor.float() if tensor is not None and tensor.dtype == torch.bfloat16 else tensor for tensor in call
        ))  # fmt: skip
        pair = [(found, wanted)] if isinstance(found, torch.Tensor) else list(zip(found, wanted, strict=True))
        for y, truth in pair:
            assert y.shape == truth.shape
            assert y.dtype == torch.float32
            assert difference(y, truth) < 1e-4
            assert truth.abs().max() > 1e-3


def test_outputs_are_the_callers_to_keep(pairs):
    onnx, _, given = pairs["nano"]
    first = onnx.image_encoder(*given["image_encoder"][0]).s16
    kept = first.clone()
    assert not torch.equal(onnx.image_encoder(torch.zeros(1, 3, NANO_SIZE, NANO_SIZE)).s16, kept)
    assert torch.equal(first, kept)


def test_calls_from_several_threads_do_not_mix(pairs):
    onnx, _, given = pairs["nano"]
    calls = given["memory_attention"]
    wanted = [onnx.memory_attention(*call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: onnx.memory_attention(*calls[i % 2]), range(12)))
    assert all(torch.equal(fused, wanted[i % 2]) for i, fused in enumerate(found))


def masks(config):
    """Object id -> masks on every frame of a real clip: click, box, mask, an object added late, and corrections."""
    square = np.zeros((360, 640), bool)
    square[60:180, 60:200] = True
    prompts = {
        0: {1: st.Prompt(points=[(320, 180)]), 2: st.Prompt(box=(100, 100, 300, 300))},
        3: {3: st.Prompt(mask=square)},
        5: {1: st.Prompt(points=[(320, 180), (400, 200), (250, 90)], labels=[1, 0, 1])},
        8: {2: st.Prompt(box=(100, 100, 300, 300), points=[(200, 200)])},
    }
    tracker = st.Tracker.load(config)
    tracked = {}
    with st.open_source(CLIP) as source:
        assert (source.width, source.height) == (640, 360)
        for _, result in st.track(islice(source, FRAMES), tracker, prompts):
            for i, prediction in result.objects.items():
                tracked.setdefault(i, []).append(prediction.mask)
    return tracked


@pytest.fixture(scope="module")
def truth(exported_nano):
    tracked = masks(nano(exported_nano, pin={"default": "torch:cpu:fp32"}))
    assert {i: len(of) for i, of in tracked.items()} == {1: FRAMES, 2: FRAMES, 3: FRAMES - 3}
    assert all(sum(mask.any() for mask in of) > FRAMES // 2 for of in tracked.values())
    return tracked


@pytest.mark.parametrize(
    "pin",
    [
        {"default": "onnx:cpu"},
        {"default": "torch:cpu:fp32", "memory_attention": "onnx:cpu:fp32", "prompt_encoder": "onnx"},
        {"default": "onnx", "memory_attention": "torch:cpu", "memory_encoder": "torch:cpu"},
    ],
    ids=["onnx", "some onnx", "some torch"],
)
def test_a_whole_clip_gives_the_masks_of_torch(exported_nano, truth, pin):
    tracked = masks(nano(exported_nano, pin=pin))
    assert tracked.keys() == truth.keys()
    for i, of in truth.items():
        # rounding turns a few pixels of an edge that the network is unsure of
        assert max((found != wanted).mean() for found, wanted in zip(tracked[i], of, strict=True)) <= 1e-4


def refusal(config):
    with pytest.raises(st.BackendError) as caught:
        backends.load(st.Config.load(config, pin={"default": "onnx:cpu"}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_of_something_else_is_refused(exported_nano, tiny_config, tmp_path):
    assert "is of model nano, not sam2.1-tiny" in refusal(
        st.Config.load(tiny_config, set={"exported": str(exported_nano)})
    )
    assert "is for image_size 128, not 320" in refusal(st.Config.load("nano", set={"exported": str(exported_nano)}))
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"not these")
    assert "was made from nano.safetensors, which is not" in refusal(nano(exported_nano, weights=other))
    assert "no readable manifest.json" in refusal(nano(tmp_path / "nowhere"))


def test_too_little_room_is_named_at_load(exported_nano):
    assert "10 memory slots; memory.prompted + memory.recent is 11" in refusal(
        nano(exported_nano, set={"memory.prompted": 5})
    )
    assert "--pointers 23" in refusal(nano(exported_nano, set={"memory.pointers": 20}))


def test_a_prompt_of_too_many_points_changes_nothing(exported_nano):
    tracker = st.Tracker.load(nano(exported_nano, pin={"default": "onnx"}))
    frame = st.Frame(np.zeros((64, 64, 3), np.uint8), 0, 0)
    with pytest.raises(st.PromptError, match=r"9 points .* more than the 8 .* export with --points 9"):
        tracker.step(frame, {1: st.Prompt(points=[(5, 5)] * 9)})
    assert tracker.object_ids == ()


def test_pins_that_cannot_be_kept(exported_nano, monkeypatch):
    def load(pin):
        backends.load(nano(exported_nano, pin={"mask_decoder": pin}))

    with pytest.raises(st.BackendError, match="has no mask_decoder in w8a16; it has fp32"):
        load("onnx:cpu:w8a16")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(st.BackendError, match=r"mask_decoder is pinned to onnx:cuda:auto, but .* no CUDA here"):
        load("onnx:cuda")


def test_a_cuda_session_that_would_use_the_cpu_is_refused():
    class Part:
        def __init__(self, ep_name):
            self.ep_name = ep_name

    class Session:
        def get_provider_graph_assignment_info(self):
            return [Part("CUDAExecutionProvider"), Part("CPUExecutionProvider")]

    with pytest.raises(st.BackendError, match="pinned to onnx:cuda, but parts would run on CPUExecutionProvider"):
        ort._check_assignment(Session(), "mask_decoder", torch.device("cuda"))


@pytest.fixture
def copy(exported_nano, tmp_path):
    return Path(shutil.copytree(exported_nano, tmp_path / "copy"))


def edit(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_damaged_or_missing_graph_is_refused(copy):
    graph = copy / "memory_encoder.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    assert "memory_encoder.onnx is not the file its manifest lists" in refusal(nano(copy))
    graph.unlink()
    assert "memory_encoder.onnx is missing" in refusal(nano(copy))
    graph.symlink_to(copy / "image_encoder.onnx")
    assert "memory_encoder.onnx is missing" in refusal(nano(copy))


def listed_as(folder, component, content):
    """The folder's graph of ``component`` replaced, and listed properly."""

    def change(manifest):
        graph = next(graph for graph in manifest["graphs"] if graph["component"] == component)
        (folder / graph["files"][0]["name"]).write_bytes(content)
        graph["files"][0] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    edit(folder, change)


def test_a_graph_that_is_listed_but_wrong_is_refused(copy, exported_nano):
    listed_as(copy, "memory_encoder", (exported_nano / "image_encoder.onnx").read_bytes())
    assert "is no memory_encoder graph of this version: inputs" in refusal(nano(copy))
    listed_as(copy, "memory_encoder", b"no graph at all")
    assert "memory_encoder.onnx cannot run on cpu" in refusal(nano(copy))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(version=2), "damaged or of another version: version"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("room"), "room"),
        (lambda m: m["room"].update(slots=[3, 1]), "room.slots"),
        (lambda m: m["graphs"][0]["files"][0].update(name="../image_encoder.onnx"), "graphs.0.files.0.name"),
        (lambda m: m["graphs"][0]["files"][0].update(name="/etc/passwd"), "graphs.0.files.0.name"),
        (lambda m: m["graphs"][0]["files"][0].update(sha256="x"), "graphs.0.files.0.sha256"),
        (lambda m: m.update(graphs=[]), "has no image_encoder in fp32; it has none"),
        (lambda m: m["software"].update(junk="x" * 1_000_000), "larger than 1 MB"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(copy, change, words):
    edit(copy, change)
    assert words in refusal(nano(copy))


def test_a_manifest_that_is_no_json_is_refused(copy):
    (copy / "manifest.json").write_text("{")
    assert "damaged or of another version: the file" in refusal(nano(copy))


def test_graphs_alone_need_no_checkpoint(exported_nano, monkeypatch):
    """A device that holds only the folder runs it, where the weights are the published ones."""
    monkeypatch.setattr("sam2track.hub.is_cached", lambda name: False)
    monkeypatch.setattr("sam2track.hub.find", lambda name: pytest.fail("looked for weights"))
    parts = backends.load(nano(exported_nano, pin={"default": "onnx"}))
    assert parts.sizes == Exported.read(exported_nano).sizes
