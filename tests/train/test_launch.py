"""Whole runs: from nothing, and from trained weights on annotated clips."""

from dataclasses import replace

import pytest
import torch

from sam2track.errors import BackendError, ConfigError
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network
from sam2track.train.initialise import initialise
from sam2track.train.launch import Material, launch, processors
from sam2track.train.loop import WEIGHTS, Run
from sam2track.train.recipe import RECIPES, adapted


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Random weights of the architecture of tiny at a small width, which the test calls sam2.1-tiny."""
    small = replace(
        VARIANTS["sam2.1-tiny"], embed=16, stages=(1, 1, 2, 1), global_blocks=(3,), width=64, memory_hidden=64
    )
    monkeypatch.setitem(VARIANTS, "sam2.1-tiny", small)
    network = Network(small, 64)
    initialise(network, 0)
    path = tmp_path / "official.safetensors"
    weights.save(network, path)
    return path


def finetuned(checkpoint, davis, out, **changes):
    recipe = adapted(RECIPES["finetune"], length=0.002, clips=1, size=64, frames=3, rate=1e-3)
    run = replace(Run("sam2.1-tiny", recipe, out, weights=checkpoint, log_every=1), **changes)
    launch(run, Material(clips=davis), device="cpu", say=lambda line: None)
    return weights.read(checkpoint), weights.read(out / WEIGHTS)


@pytest.mark.parametrize("frozen", [("image_encoder",), ("memory_encoder", "prompt_encoder")])
def test_what_is_frozen_stays_and_the_rest_learns(checkpoint, davis, tmp_path, frozen):
    before, after = finetuned(checkpoint, davis, tmp_path / "out", frozen=frozen)
    network = Network(VARIANTS["sam2.1-tiny"], 64)
    moved = {}
    for component, module in network.named_children():
        names = [f"{component}.{name}" for name, _ in module.named_parameters()]
        ours = [weights.to_ours(each) for each in (before, after)]
        moved[component] = any(not torch.equal(ours[0][name], ours[1][name]) for name in names)
    assert moved == {component: component not in frozen for component in moved}


def test_annotated_clips_score_a_run(checkpoint, davis, tmp_path):
    recipe = adapted(RECIPES["finetune"], length=0.001, clips=1, size=64, frames=2)
    lines = []
    run = Run("sam2.1-tiny", recipe, tmp_path / "out", weights=checkpoint)
    launch(run, Material(clips=davis, validate=davis), device="cpu", say=lines.append)
    assert 0 <= float(lines[-1].split("footage_jf ")[1].split()[0]) <= 1


def test_more_gpus_than_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("lightning_fabric.accelerators.cuda.num_cuda_devices", lambda: 1)
    monkeypatch.setattr("lightning_fabric.accelerators.cuda._get_all_visible_cuda_devices", lambda: [0])
    for device, count in (("cuda:5", 1), ("cuda", 2)):
        with pytest.raises(BackendError, match=f"device '{device}' x {count} is not here"):
            processors(device, count, "fp32")


@pytest.mark.parametrize(
    ("changes", "material", "device", "message"),
    [
        ({}, {}, "cpu", "nothing to learn from"),
        ({"model": "nanno"}, {"clips": "x"}, "cpu", "model 'nanno' is unknown; did you mean 'nano'"),
        ({"frozen": ("encoder",)}, {"clips": "x"}, "cpu", "component 'encoder' cannot be frozen"),
        ({"precision": "fp16"}, {"clips": "x"}, "cpu", "precision 'fp16' is unknown"),
        ({}, {"clips": "x"}, "npu", "device 'npu' cannot train"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, changes, material, device, message):
    run = replace(Run("nano", RECIPES["smoke"], tmp_path), **changes)
    with pytest.raises(ConfigError, match=message):
        launch(run, Material(**material), device=device)
