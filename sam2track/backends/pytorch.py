"""The torch backend: components as they are, each on its own device and in its own precision."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from sam2track.backends.rows import sharing_rows
from sam2track.backends.sources import Placed, Sources
from sam2track.contracts import CONTRACTS, Components, Evidence
from sam2track.errors import BackendError
from sam2track.network.variants import Network
from sam2track.pins import Pin

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchComponent:
    """One module on one device: takes tensors from any device, gives fp32 tensors on its own."""

    def __init__(self, name: str, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._module = module.to(device).eval()
        self._device = device
        self._dtype = dtype
        self._call = sharing_rows(name, self._run) if device.type == "cpu" else self._run

    def __call__(self, *tensors: Tensor | None) -> Any:
        """Run the module; half precisions run under autocast, which leaves norms and softmax in fp32."""
        inputs = [self._admit(tensor) for tensor in tensors]
        output = self._call(*inputs)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()  # so that the time of a stage is its own
        if isinstance(output, Tensor):
            return output.float()
        return type(output)(*(tensor.float() for tensor in output))

    def _run(self, *inputs: Tensor | None) -> Any:
        low = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=self._dtype if low else None, enabled=low):
            return self._module(*inputs)

    def _admit(self, tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        dtype = torch.float32 if tensor.is_floating_point() else None
        return tensor.to(device=self._device, dtype=dtype)


def place(pins: Mapping[str, Pin], sources: Sources) -> dict[str, Placed]:
    """Put each pinned component where its pin says.

    Raises:
        WeightsError: weights that are missing, damaged or of another model.
        BackendError: a device this machine does not have, or a precision it cannot do.
    """
    where = {name: _resolve(name, pin) for name, pin in pins.items()}
    return {name: _placed(sources.network, name, *place) for name, place in where.items()}


def components(network: Network, pin: Pin) -> Components:
    """All components of ``network`` in one place. Raises ``BackendError`` as ``place`` does."""
    placed = {name: _placed(network, name, *_resolve(name, pin)) for name in CONTRACTS}
    placement = {name: part.placement for name, part in placed.items()}
    return Components(sizes=network.sizes, placement=placement, **{name: part.call for name, part in placed.items()})


def _placed(network: Network, name: str, device: torch.device, precision: str) -> Placed:
    start = perf_counter()
    module = getattr(network, name)
    part = TorchComponent(name, module, device, DTYPES[precision])
    where = {str(parameter.device) for parameter in module.parameters()}
    evidence = Evidence(f"all parameters on {', '.join(sorted(where))}", perf_counter() - start)
    return Placed(part, f"torch:{device}:{precision}", evidence)


def _resolve(name: str, pin: Pin) -> tuple[torch.device, str]:
    """The device and precision of a pin, ``auto`` worked out: CUDA in bf16 where there is one, else CPU in fp32."""
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if pin.device == "auto" else pin.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError(f"component {name} is pinned to {pin.device}, but torch sees no CUDA device; pin it to cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"component {name} is pinned to {pin.device}; CUDA devices here: {torch.cuda.device_count()}"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BackendError(f"component {name} is pinned to mps, which this machine does not have; pin it to cpu")
    if pin.precision != "auto":
        return device, pin.precision
    if device.type != "cuda":
        return device, "fp32"
    return device, "bf16" if torch.cuda.is_bf16_supported() else "fp16"
