"""The official layout, both ways: every tensor of the eight models has a place, none is invented."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network
from tests.parity import oracle

pytestmark = pytest.mark.parity

MILLIONS = {"tiny": 38.96, "small": 46.06, "base-plus": 80.85, "large": 224.45}  # as published for SAM 2.1
OFFICIAL = [name for name in VARIANTS if name != "nano"]


@functools.lru_cache
def on_meta(name: str) -> tuple[Any, Network]:
    """The official model and ours, all shapes and no numbers."""
    linspace = torch.linspace

    def real_linspace(*values: Any, **keywords: Any) -> torch.Tensor:
        return linspace(*values, **keywords | {"device": "cpu"})  # the official code reads these numbers

    with torch.device("meta"):
        with mock.patch("torch.linspace", real_linspace):
            predictor = oracle.construct(name, 1024)
        return predictor, Network(VARIANTS[name])


def test_there_are_eight() -> None:
    assert len(OFFICIAL) == 8


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_layout_loads_with_nothing_missing_and_nothing_left(name: str) -> None:
    predictor, network = on_meta(name)
    official = predictor.state_dict()
    assert weights.official_shapes(network) == {key: value.shape for key, value in official.items()}
    weights.load_official(network, official)


@pytest.mark.parametrize("name", OFFICIAL)
def test_parameter_counts(name: str) -> None:
    predictor, network = on_meta(name)
    ours, official = (sum(p.numel() for p in model.parameters()) for model in (network, predictor))
    assert ours == official
    if name.startswith("sam2.1"):
        assert round(ours / 1e6, 2) == MILLIONS[name.removeprefix("sam2.1-")]


def test_what_we_save_the_official_package_loads(tmp_path: Path) -> None:
    """Weights go to ours, to a file and back into a second official model, unchanged to the bit."""
    variant = VARIANTS["nano"]
    first, second = oracle.construct(variant, 256), oracle.construct(variant, 256)
    oracle.draw(first, seed=1)
    network = Network(variant)
    weights.load_official(network, first.state_dict())
    weights.save(network, tmp_path / "nano.safetensors")
    second.load_state_dict(load_file(tmp_path / "nano.safetensors"), strict=True)
    for (key, value), (_, back) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(value, back), key
