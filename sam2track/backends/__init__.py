"""Backends: whatever turns a checkpoint into ``Components`` that run where the user pinned them."""

from __future__ import annotations

from importlib import import_module

from sam2track.backends.sources import Placed, Sources
from sam2track.config import Config
from sam2track.contracts import CONTRACTS, Components

# Engine -> its module, whose ``place(pins, sources)`` gives component -> ``Placed`` for the pins it is given.
_MODULES = {"torch": "pytorch", "onnx": "ort", "qnn": "qnn"}


def load(config: Config) -> Components:
    """Load the weights and place every component where ``config.components`` says.

    Raises:
        WeightsError: weights that are missing, damaged or of another model.
        BackendError: a component that cannot run where it is pinned.
    """
    pins = {name: config.components.pin(name) for name in CONTRACTS}  # type: ignore[arg-type]
    sources = Sources(config)
    placed: dict[str, Placed] = {}
    for engine, module in _MODULES.items():
        own = {name: pin for name, pin in pins.items() if pin.engine == engine}
        if own:
            placed |= import_module(f"{__name__}.{module}").place(own, sources)
    return Components(
        sizes=sources.sizes,
        placement={name: placed[name].placement for name in CONTRACTS},
        evidence={name: placed[name].evidence for name in CONTRACTS},
        **{name: placed[name].call for name in CONTRACTS},
    )
