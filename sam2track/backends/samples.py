"""Real inputs of the components, kept on disk: what quantised graphs are calibrated and measured on.

Each sample is one call of a component for one object, as the contracts have it. Some are held back: no
graph is calibrated on them, and errors are measured on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam2track.backends.manifest import Exported
from sam2track.backends.static import StaticComponent

Inputs = tuple[Tensor | None, ...]


class Samples:
    """Samples in a folder, which stays the caller's to remove. ``add`` them, then read them as often as needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, component: str, inputs: Sequence[Tensor | None], *, held_back: bool) -> None:
        """Keep one call, each object of its batch as a sample of its own."""
        own = self._folder / component / _part(held_back)
        own.mkdir(parents=True, exist_ok=True)
        count = len(list(own.iterdir()))
        batch = max(tensor.shape[0] for tensor in inputs if tensor is not None)
        for row in range(batch):
            rows = [None if t is None else (t[row : row + 1] if t.shape[0] > 1 else t).cpu().clone() for t in inputs]
            torch.save(rows, own / f"{count + row:06d}.pt")

    def read(self, component: str, *, held_back: bool) -> Iterator[Inputs]:
        """The samples of a component, one at a time."""
        for path in sorted((self._folder / component / _part(held_back)).glob("*.pt")):
            yield tuple(torch.load(path, weights_only=True))

    def count(self, component: str, *, held_back: bool) -> int:
        """How many there are."""
        return len(list((self._folder / component / _part(held_back)).glob("*.pt")))


def for_bucket(component: str, bucket: int, inputs: Inputs) -> Inputs | None:
    """A sample as the graph of ``bucket`` takes it; None where it does not fit.

    A longer memory than the graph has slots for is cut after its first ones, the prompted frames.
    """
    if component == "mask_decoder":
        sparse = inputs[3]
        assert sparse is not None
        return inputs if sparse.shape[1] - 1 <= bucket else None
    if component != "memory_attention":
        return inputs
    s16, tokens, slot, pointer, age, valid = inputs
    assert tokens is not None
    assert slot is not None
    if tokens.shape[1] <= bucket:
        return inputs
    if valid is not None:
        valid = torch.cat([valid[:, :bucket], valid[:, tokens.shape[1] :]], dim=1)
    return s16, tokens[:, :bucket], slot[:, :bucket], pointer, age, valid


def graph_inputs(component: str, bucket: int, exported: Exported, inputs: Inputs) -> dict[str, Any]:
    """The arrays that the graph of ``bucket`` is run on for a sample: padded as they are in use."""
    taker = _Taker()
    StaticComponent(component, {bucket: taker}, exported.sizes, exported.manifest.room)(*inputs)
    return {name: tensor.numpy() for name, tensor in taker.inputs.items()}


class _Taker:
    """A ``static.Runner`` that keeps what it is given and runs nothing."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.inputs: Mapping[str, Tensor] = {}

    def __call__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        self.inputs = inputs


def _part(held_back: bool) -> str:
    return "held_back" if held_back else "calibrate"
