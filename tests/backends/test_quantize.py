"""Quantised graphs: how far each scheme is from fp32, what the manifest says, and what is refused."""

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import sam2track as st
from sam2track import backends, calibration, drift
from sam2track.backends import cache, ort, schemes
from sam2track.backends.manifest import Exported, Room
from sam2track.backends.quantize import COMPONENTS, quantize
from sam2track.backends.samples import Samples, for_bucket, graph_inputs
from sam2track.config import MemoryTable
from sam2track.errors import BackendError, PromptError, SinkError

SAMPLES = Path(__file__).parents[2] / "samples"
BOX = {0: {1: st.Prompt(box=(358, 196, 424, 353))}}  # the goldfish


@pytest.fixture(scope="module")
def goldfish():
    with st.open_source(SAMPLES / "goldfish.mp4") as source:
        return list(islice(source, 16))


@pytest.fixture(scope="module")
def samples(short_nano, goldfish, tmp_path_factory):
    return calibration.record(Exported.read(short_nano), goldfish, BOX, tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def quantised(short_nano, samples, tmp_path_factory):
    """A copy of the exported folder with graphs of every scheme."""
    folder = tmp_path_factory.mktemp("quantised") / "nano"
    shutil.copytree(short_nano, folder)
    exported = Exported.read(folder)
    for scheme in ("int8", "w8a16", "w8a8"):
        exported = quantize(exported, scheme, samples)
    return Exported.read(folder)


@pytest.fixture
def copy(short_nano, tmp_path):
    shutil.copytree(short_nano, tmp_path / "nano")
    return Exported.read(tmp_path / "nano")


def pinned(folder, precision):
    pins = dict.fromkeys(COMPONENTS, f"onnx:cpu:{precision}")
    memory = {"memory.prompted": 1, "memory.recent": 1, "memory.pointers": 2}  # what short_nano has room for
    settings = {"exported": str(folder), **memory}
    return st.Config.load("nano", image_size=128, pin={"default": "onnx:cpu", **pins}, set=settings)


def errors(exported, scheme):
    return {(g.component, g.bucket): g.error for g in exported.manifest.graphs if g.precision == scheme}


def test_samples_are_real_calls_and_some_are_held_back(samples):
    counts = {name: tuple(samples.count(name, held_back=held) for held in (False, True)) for name in COMPONENTS}
    # 16 frames, every second sampled, every fourth of those held back; then two grey ones
    assert counts["image_encoder"] == (8, 2)
    assert counts["memory_attention"] == (7, 2)  # nothing to attend to on the first frame
    slots = [inputs[1].shape[1] for inputs in samples.read("memory_attention", held_back=False)]
    assert set(slots) == {2}
    scores = [float(inputs[2]) for inputs in samples.read("memory_encoder", held_back=False)]
    assert min(scores) < 0 < max(scores)  # the grey frames show no object


def test_a_sample_fits_every_bucket_and_padding_is_among_what_is_calibrated_on(short_nano, samples):
    manifest = Exported.read(short_nano).manifest
    exported = Exported(short_nano, manifest.model_copy(update={"room": Room()}))
    inputs = list(samples.read("memory_attention", held_back=False))[-1]
    for bucket in exported.manifest.room.slots:
        arrays = graph_inputs("memory_attention", bucket, exported, for_bucket("memory_attention", bucket, inputs))
        assert arrays["tokens"].shape[1] == bucket
        valid = arrays["valid"][0]
        assert valid[:bucket].sum() == min(bucket, 2)
        assert valid[bucket:].sum() < len(valid) - bucket  # pointers that are not there yet
    decoded = next(iter(samples.read("mask_decoder", held_back=False)))  # of the box: two points
    assert for_bucket("mask_decoder", 1, decoded) is None
    assert for_bucket("mask_decoder", 8, decoded) is decoded


def test_finer_schemes_are_closer_and_all_are_close(quantised):
    int8, w8a16, w8a8 = (errors(quantised, scheme) for scheme in ("int8", "w8a16", "w8a8"))
    assert set(int8) == set(w8a16) == set(w8a8) == {k for k in errors(quantised, "fp32") if k[0] != "prompt_encoder"}
    for name in ("image_encoder", "memory_attention", "memory_encoder"):
        fine, coarse = (max(e for (n, _), e in found.items() if n == name) for found in (w8a16, w8a8))
        assert 0 < fine < 0.08, name
        assert fine < coarse < 0.3, name
    assert all(0 < error < 0.08 for error in int8.values())


@pytest.mark.parametrize(("precision", "mean"), [("int8", 0.98), ("w8a16", 0.98), ("w8a8", 0.92)])
def test_masks_of_the_whole_chain_stay_those_of_fp32(quantised, goldfish, precision, mean):
    found = drift.compare(goldfish, BOX, pinned(quantised.folder, precision), pinned(quantised.folder, "fp32"))
    assert found.placement["memory_attention"] == f"onnx:cpu:{precision}"
    assert found.masks[1].mean > mean
    assert found.masks[1].visibility == []


def test_the_graphs_are_what_their_scheme_says(quantised):
    def nodes(scheme, name):
        graph = next(iter(quantised.graphs(name, scheme).values()))
        return onnx.load(quantised.path(graph)).graph

    int8 = nodes("int8", "image_encoder")
    kinds = [node.op_type for node in int8.node]
    assert "MatMulInteger" in kinds
    assert "Softmax" in kinds
    assert "ConvInteger" not in kinds
    for scheme, norm_type in (("w8a16", onnx.TensorProto.UINT8), ("w8a8", onnx.TensorProto.UINT8)):
        graph = nodes(scheme, "memory_attention")
        made_by = {output: node for node in graph.node for output in node.output}
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "LayerNormalization":
                assert types[made_by[node.input[1]].input[0]] == norm_type
            if node.op_type == "Softmax":  # 16 bits on both sides, in either scheme
                assert types[made_by[node.input[0]].input[2]] == onnx.TensorProto.UINT16


def test_weights_keep_to_seven_bits_on_a_cpu_that_may_overflow(short_nano, tmp_path, monkeypatch):
    largest = {}
    for safe in (True, False):
        monkeypatch.setattr(schemes, "adds_in_32_bits", lambda safe=safe: safe)
        schemes.linear_int8(short_nano / "memory_encoder.onnx", tmp_path / "out.onnx")
        graph = onnx.load(tmp_path / "out.onnx").graph
        weights = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
        largest[safe] = max(int(abs(w.astype(int)).max()) for w in weights if w.ndim == 2)
    assert largest == {True: 127, False: 64}


def test_graphs_whose_sums_would_overflow_here_are_refused(copy, monkeypatch):
    monkeypatch.setattr(ort, "adds_in_32_bits", lambda: True)
    wide = quantize(copy, "int8", components=["memory_encoder"])
    assert ort.component("memory_encoder", wide, "int8")
    monkeypatch.setattr(ort, "adds_in_32_bits", lambda: False)  # the folder was taken to an older machine
    with pytest.raises(BackendError, match=r"sums overflow on this one, so make them here: .* --force"):
        ort.component("memory_encoder", Exported.read(copy.folder), "int8")
    narrow = quantize(wide, "int8", components=["memory_encoder"], force=True)
    assert ort.component("memory_encoder", narrow, "int8")


def test_quantising_twice_is_refused_and_force_gives_the_same_files(copy):
    first = quantize(copy, "int8", components=["memory_encoder"])
    with pytest.raises(SinkError, match="has memory_encoder in int8; --force replaces them"):
        quantize(first, "int8")
    again = quantize(first, "int8", components=["memory_encoder"], force=True)
    assert again.manifest == first.manifest
    assert Exported.read(copy.folder).manifest == again.manifest
    assert first.graphs("memory_encoder", "int8")[0].error is None  # nothing to measure it on
    assert not [path for path in copy.folder.iterdir() if "partial" in path.name]


def test_a_failure_leaves_the_folder_as_it_was(copy, monkeypatch):
    before = sorted(path.name for path in copy.folder.iterdir())
    calls = []

    def fails_on_the_second(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise RuntimeError("no such thing")
        target.write_bytes(b"graph")

    monkeypatch.setattr(schemes, "linear_int8", fails_on_the_second)
    with pytest.raises(BackendError, match=r"memory_attention_2.onnx cannot be quantised to int8: no such thing"):
        quantize(copy, "int8")
    assert sorted(path.name for path in copy.folder.iterdir()) == before
    assert Exported.read(copy.folder).manifest == copy.manifest


def test_what_another_process_added_meanwhile_stays_listed(copy):
    quantize(copy, "int8", components=["memory_encoder"])
    quantize(copy, "int8", components=["mask_decoder"])  # ``copy`` has not seen the first one
    listed = {graph.component for graph in Exported.read(copy.folder).manifest.graphs if graph.precision == "int8"}
    assert listed == {"memory_encoder", "mask_decoder"}


def test_graphs_that_give_no_numbers_are_not_added(copy, samples, monkeypatch):
    linear_int8 = schemes.linear_int8

    def spoilt(source, target):
        linear_int8(source, target)
        model = onnx.load(target)
        scales = [tensor for tensor in model.graph.initializer if tensor.name.endswith("_scale")]
        for tensor in scales:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32("nan"), tensor.name))
        assert scales
        onnx.save(model, target)

    monkeypatch.setattr(schemes, "linear_int8", spoilt)
    with pytest.raises(BackendError, match=r"memory_encoder.int8.onnx gives numbers that are not finite; leave"):
        quantize(copy, "int8", samples, components=["memory_encoder"])
    assert Exported.read(copy.folder).manifest == copy.manifest


def test_what_cannot_be_quantised_is_said(copy, tmp_path):
    with pytest.raises(BackendError, match="scheme 'w4a16' is unknown; did you mean 'w8a16'"):
        quantize(copy, "w4a16")
    with pytest.raises(BackendError, match="component 'prompt_encoder' cannot be quantised"):
        quantize(copy, "int8", components=["prompt_encoder"])
    with pytest.raises(BackendError, match="w8a16 needs samples to calibrate on"):
        quantize(copy, "w8a16")
    with pytest.raises(BackendError, match=r"no sample fits image_encoder.onnx; give a longer clip"):
        quantize(copy, "w8a16", Samples(tmp_path / "nothing"))


def test_a_pin_to_graphs_that_are_not_there_says_how_to_make_them(short_nano):
    with pytest.raises(BackendError, match=r"no image_encoder in int8; .* sam2track quantize .*nano --scheme int8$"):
        backends.load(pinned(short_nano, "int8"))
    with pytest.raises(BackendError, match=r"no image_encoder in w8a16; .* --scheme w8a16 --calibrate CLIP$"):
        backends.load(pinned(short_nano, "w8a16"))
    config = st.Config.load("nano", image_size=128, pin={"prompt_encoder": "onnx:cpu:int8"},
                            set={"exported": str(short_nano)})  # fmt: skip
    with pytest.raises(BackendError, match="no prompt_encoder in int8; it has fp32; it is never quantised: pin it to"):
        backends.load(config)


def test_without_a_folder_int8_is_made_once_in_the_cache(copy, monkeypatch):
    monkeypatch.setattr(cache, "exported", lambda sources: Exported.read(copy.folder))
    config = st.Config.load("nano", image_size=128, pin={"memory_encoder": "onnx:cpu:int8"})
    assert backends.load(config).placement["memory_encoder"] == "onnx:cpu:int8"
    made = Exported.read(copy.folder)
    assert list(errors(made, "int8")) == [("memory_encoder", 0)]
    monkeypatch.setattr(cache, "quantize", None)  # not called again
    backends.load(config)
    assert Exported.read(copy.folder).manifest == made.manifest


def test_a_clip_that_is_too_short_is_refused(short_nano, goldfish, tmp_path):
    exported = Exported.read(short_nano)
    with pytest.raises(PromptError, match="objects were tracked on 5 frames; calibration takes 8: give a longer clip"):
        calibration.record(exported, goldfish[:5], BOX, tmp_path)
    with pytest.raises(PromptError, match="prompts for frame 30 were never given"):
        calibration.record(exported, goldfish[:5], {30: BOX[0]}, tmp_path)


@pytest.mark.parametrize(
    ("room", "memory"),
    [
        (Room(), MemoryTable()),
        (Room(slots=(1,), pointers=1), MemoryTable(prompted=1, recent=0, pointers=1)),
        (Room(slots=(3, 7), pointers=16), MemoryTable(prompted=1, recent=6, pointers=16)),
    ],
)
def test_calibration_keeps_as_much_memory_as_there_is_room_for(room, memory):
    assert calibration.memory_for(room) == memory


def test_a_batch_is_kept_object_by_object(tmp_path):
    samples = Samples(tmp_path)
    samples.add("memory_encoder", [torch.zeros(1, 2), torch.tensor([[1.0], [2.0]]), None], held_back=True)
    read = list(samples.read("memory_encoder", held_back=True))
    assert [(float(a[1]), a[0].shape, a[2]) for a in read] == [(1.0, (1, 2), None), (2.0, (1, 2), None)]
    assert samples.count("memory_encoder", held_back=False) == 0
