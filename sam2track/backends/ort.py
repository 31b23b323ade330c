"""The onnx backend: exported graphs on ONNX Runtime, on the CPU or on CUDA.

A session gets one provider and no other to fall back to. Tensors are bound by address: the runtime reads
torch's memory and writes into it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2track.backends.manifest import Exported
from sam2track.backends.rows import sharing_rows
from sam2track.backends.sources import Placed, Sources
from sam2track.backends.static import GRAPHS, StaticComponent, letters
from sam2track.contracts import Evidence, shape
from sam2track.errors import BackendError
from sam2track.pins import Pin

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NUMPY = {torch.float32: np.float32, torch.int64: np.int64}


class Session:
    """One loaded graph, a ``static.Runner``."""

    def __init__(self, session: Any, device: torch.device) -> None:
        self._session = session
        self.device = device

    def __call__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Run once. Raises ``BackendError`` if the runtime fails."""
        binding = self._session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(name, *self._place(tensor))
        for name, tensor in outputs.items():
            binding.bind_output(name, *self._place(tensor))
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # the runtime has a stream of its own
        try:
            self._session.run_with_iobinding(binding)
        except errors() as error:
            raise BackendError(f"ONNX Runtime failed in a step: {first_line(error)}") from error

    def _place(self, tensor: Tensor) -> tuple[str, int, Any, tuple[int, ...], int]:
        """What binds a tensor: device type and number, element type, shape, address."""
        number = self.device.index or 0
        return self.device.type, number, _NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr()


def place(pins: Mapping[str, Pin], sources: Sources) -> dict[str, Placed]:
    """Load the graphs of each pinned component.

    Raises:
        WeightsError: weights to export from that are missing or damaged.
        BackendError: ONNX Runtime or its CUDA provider is missing, or the exported graphs are damaged, of
            another model, or have too little room.
    """
    runtime()
    devices = {name: _device(name, pin) for name, pin in pins.items()}
    exported = sources.exported
    int8 = [name for name, pin in pins.items() if pin.precision == "int8" and name != "prompt_encoder"]
    if int8 and sources.config.exported is None:
        from sam2track.backends import cache  # it exports, which checks with this module

        exported = cache.with_int8(exported, int8)
    if "memory_attention" in pins:
        exported.check_memory(sources.config.memory)
    return {name: _placed(name, pin, devices[name], exported) for name, pin in pins.items()}


def component(
    name: str, exported: Exported, precision: str = "fp32", device: torch.device | None = None
) -> StaticComponent:
    """The graphs of one component, loaded; on the CPU where no device is given."""
    device = device or torch.device("cpu")
    graphs = exported.graphs(name, precision)
    if precision == "int8" and any(graph.weight_bits != 7 for graph in graphs.values()) and not adds_in_32_bits():
        raise BackendError(
            f"the int8 graphs of {name} in {exported.folder} are for a CPU with VNNI or an Arm one; sums overflow on "
            f"this one, so make them here: sam2track quantize {exported.folder} --scheme int8 --force"
        )
    runners = {bucket: _load(name, bucket, exported, exported.path(graph), device) for bucket, graph in graphs.items()}
    concurrent = device.type == "cpu"  # on CUDA, threads would share torch's stream
    return StaticComponent(name, runners, exported.sizes, exported.manifest.room, concurrent=concurrent)


def adds_in_32_bits() -> bool:
    """Whether this CPU is known to add products of 8 bits in 32 (VNNI, Arm).

    Others add pairs of them in 16, which overflows unless weights keep to 7 bits; that doubles the error of memory
    attention.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "vnni" in flags.read_text()


def runtime() -> Any:
    """The ``onnxruntime`` module. Raises ``BackendError`` where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError("engine onnx needs ONNX Runtime: pip install sam2track[onnx], or pin to torch") from error
    return onnxruntime


def errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its errors share no base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NoModel", "NotImplemented",
             "RuntimeException", "EPFail", "EngineError", "ModelLoaded")  # fmt: skip
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names if hasattr(state, name)))


def first_line(error: BaseException) -> str:
    """What an error of the runtime says, in one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_ports(session: Any, name: str, known: Mapping[str, int], path: Path) -> None:
    """Raise ``BackendError`` unless inputs and outputs of ``session`` are those of the contract."""
    for side, ports in (("inputs", GRAPHS[name].inputs), ("outputs", GRAPHS[name].outputs)):
        found = {port.name: list(port.shape) for port in getattr(session, f"get_{side}")()}
        expected = {port.name: shape(port, known) for port in ports}
        if found != expected:
            raise BackendError(f"{path} is no {name} graph of this version: {side} {found}, expected {expected}")


def _placed(name: str, pin: Pin, device: torch.device, exported: Exported) -> Placed:
    precision = "fp32" if pin.precision == "auto" else pin.precision
    start = perf_counter()
    call: Callable[..., Any] = component(name, exported, precision, device)
    # A CPU session has one provider; of a CUDA session, ``_check_assignment`` asked where its nodes are.
    evidence = Evidence(f"all nodes on {PROVIDERS[device.type]}", perf_counter() - start)
    if device.type == "cpu":
        call = sharing_rows(name, call)
    return Placed(call, f"onnx:{device}:{precision}", evidence)


def _device(name: str, pin: Pin) -> torch.device:
    """The device of a pin; ``auto`` is CUDA where the runtime and torch have it, else the CPU."""
    ort = runtime()
    here = PROVIDERS["cuda"] in ort.get_available_providers() and torch.cuda.is_available()
    device = torch.device(("cuda" if here else "cpu") if pin.device == "auto" else pin.device)
    if device.type == "cuda" and not here:
        raise BackendError(
            f"component {name} is pinned to {pin}, but the installed onnxruntime and torch offer no CUDA here "
            f"(providers: {', '.join(ort.get_available_providers())}); install onnxruntime-gpu, or pin it to onnx:cpu"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"component {name} is pinned to {pin}; CUDA devices here: {torch.cuda.device_count()}")
    return device


def _load(name: str, bucket: int, exported: Exported, path: Path, device: torch.device) -> Session:
    """A session of one graph, with the shapes its manifest promises, whole on the device it was asked on."""
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # its errors are raised, and told once
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the next stage needs the cores
    provider: Any = PROVIDERS[device.type]
    if device.type == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        provider = (provider, {"device_id": device.index or 0})
    try:
        session = ort.InferenceSession(path, options, providers=[provider], enable_fallback=0)
    except errors() as error:
        raise BackendError(f"{path} cannot run on {device}: {first_line(error)}") from error
    session.disable_fallback()
    check_ports(session, name, letters(name, bucket, exported.sizes, exported.manifest.room), path)
    _check_assignment(session, name, device)
    return Session(session, device)


def _check_assignment(session: Any, name: str, device: torch.device) -> None:
    """Raise ``BackendError`` unless every node runs on ``device``: the list of providers does not tell."""
    if device.type == "cpu":
        return  # it is the only provider there is
    strays = {part.ep_name for part in session.get_provider_graph_assignment_info()} - {PROVIDERS[device.type]}
    if strays:
        raise BackendError(f"component {name} is pinned to onnx:{device}, but parts would run on {', '.join(strays)}")
