"""What engines build components from: the weights as a torch network, or as exported graphs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from sam2track import hub
from sam2track.backends.manifest import Exported
from sam2track.config import Config
from sam2track.contracts import Evidence, Sizes
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network


class Placed(NamedTuple):
    """One component where it runs, its placement as ``engine:device:precision``, and what speaks for that."""

    call: Any
    placement: str
    evidence: Evidence


class Sources:
    """Everything an engine may need of a config, made on first use: graphs alone need no checkpoint."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of the model the config asks for."""
        variant = VARIANTS[self.config.model]
        return Sizes(self.config.image_size or variant.image_size, variant.width, variant.memory_width)

    @cached_property
    def checkpoint(self) -> Path:
        """The file of the weights; downloaded if it has to be. Raises ``WeightsError``."""
        if self.config.weights is None:
            return hub.find(self.config.model)
        return weights.existing(Path(self.config.weights))

    @cached_property
    def network(self) -> Network:
        """The torch network with its weights. Raises ``WeightsError``."""
        network = Network(VARIANTS[self.config.model], self.config.image_size)
        weights.load(network, self.checkpoint)
        return network

    @cached_property
    def exported(self) -> Exported:
        """The exported graphs: the folder the config names, or one made once in the user's cache.

        Raises:
            BackendError: the folder is damaged or of another model, or nothing can be exported here.
        """
        if self.config.exported is None:
            from sam2track.backends import cache  # it exports, which imports this module

            return cache.exported(self)
        exported = Exported.read(Path(self.config.exported))
        exported.check_model(self.config, self.sizes)
        here = self.config.weights is not None or hub.is_cached(self.config.model)
        exported.check_weights(self.checkpoint if here else None)
        return exported
