"""Backends: whatever turns a checkpoint into ``Components`` that run where the user pinned them."""

from __future__ import annotations

from pathlib import Path

from sam2track import hub
from sam2track.backends import pytorch
from sam2track.config import Config
from sam2track.contracts import CONTRACTS, Components
from sam2track.errors import BackendError
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network


def load(config: Config) -> Components:
    """Load the weights and place every component where ``config.components`` says.

    Raises:
        WeightsError: weights that are missing, damaged or of another model.
        BackendError: a component that cannot run where it is pinned.
    """
    pins = {name: config.components.pin(name) for name in CONTRACTS}  # type: ignore[arg-type]
    for name, pin in pins.items():
        if pin.engine != "torch":
            raise BackendError(
                f"component {name} is pinned to {pin}, but this version runs torch only; pin it to torch"
            )
    network = Network(VARIANTS[config.model], config.image_size)
    weights.load(network, Path(config.weights) if config.weights else hub.find(config.model))
    return pytorch.place(network, pins)
