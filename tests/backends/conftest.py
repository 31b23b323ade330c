"""Exported folders that several tests read; copy one before changing it."""

import pytest
import torch

from sam2track.backends.export import export
from sam2track.backends.manifest import Room
from sam2track.config import Config
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network

NANO_SIZE = 128


@pytest.fixture(scope="session")
def exported_nano(tmp_path_factory):
    """The bundled nano at 128 px, with room for what the default memory needs."""
    folder = tmp_path_factory.mktemp("exported") / "nano"
    return export(Config.load("nano", image_size=NANO_SIZE), folder, Room(slots=(1, 3, 10))).folder


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """The architecture of sam2.1-tiny at 256 px with seeded weights, and its exported folder."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    network = Network(VARIANTS["sam2.1-tiny"])
    for name, parameter in network.named_parameters():
        if parameter.max() == parameter.min() and "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    weights.save(network, folder / "seeded.safetensors")
    config = Config.load("sam2.1-tiny", weights=folder / "seeded.safetensors", image_size=256)
    export(config, folder / "graphs", Room(slots=(3,), pointers=4, points=(1, 3)))
    return Config.load(config, set={"exported": str(folder / "graphs"), "memory.prompted": 1, "memory.recent": 2,
                                    "memory.pointers": 4})  # fmt: skip
