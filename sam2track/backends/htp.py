"""Sessions on a Qualcomm NPU (Hexagon tensor processor, HTP) by onnxruntime-qnn, and proof of where they run.

A session runs whole on the processor it was asked for, or is refused with the nodes and the reasons. The list
of providers proves nothing, since ONNX Runtime keeps the CPU at hand: the assignment of nodes does.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from sam2track.backends import ort
from sam2track.chips import Chip
from sam2track.errors import BackendError

PROVIDER = "QNNExecutionProvider"
NAMED = 3  # refused nodes that a message names
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
_ELSEWHERE = "pin it to onnx:cpu"
_EMULATED_ON = {"x86_64", "amd64"}


@dataclass(frozen=True, slots=True)
class Target:
    """A processor to run on.

    Attributes:
        kind: ``npu`` or ``emulator``.
        device: the runtime's handle of it.
        chip: what the emulator is to be; an NPU knows what it is, and None is fine.
        performance: the runtime's performance mode.
    """

    kind: str
    device: Any
    chip: Chip | None
    performance: str = "burst"

    @property
    def options(self) -> dict[str, str]:
        """Provider options."""
        options = {"backend_type": "htp", "htp_performance_mode": self.performance}
        if self.kind == "npu" or self.chip is None:
            return options
        return options | {"soc_model": str(self.chip.soc_model)}


def npu(component: str, chip: Chip | None, performance: str) -> Target:
    """The NPU of this machine.

    Raises:
        BackendError: it has none, or the plugin is not installed.
    """
    wanted = f"component {component} is pinned to qnn:npu"
    devices = [device for device in plugin_devices(wanted) if device.device.type.name == "NPU"]
    if devices:
        return Target("npu", devices[0], chip, performance)
    otherwise = "pin it to qnn:emulator to try it slowly, or to onnx:cpu" if _emulates() else _ELSEWHERE
    raise BackendError(f"{wanted}, but there is no Qualcomm NPU on this machine ({_machine()}); {otherwise}")


def emulator(wanted: str, chip: Chip | None, performance: str = "burst") -> Target:
    """The emulator of ``chip``, which also compiles for it; ``wanted`` says who wants it. Never taken for an NPU.

    Raises:
        BackendError: this is no x86-64 machine, no chip is named, or the plugin is not installed.
    """
    if chip is None:
        raise BackendError(f'{wanted}, but which chip is it to be? Set one, such as qnn.soc = "x-elite"')
    if not _emulates():
        raise BackendError(f"{wanted}, which works on x86-64 only, not on {_machine()}; do it there")
    devices = [device for device in plugin_devices(wanted) if device.device.type.name == "CPU"]
    if not devices:
        raise BackendError(f"{wanted}, but this onnxruntime-qnn has no emulator; do it on x86-64 Linux")
    return Target("emulator", devices[0], chip, performance)


def plugin_devices(wanted: str) -> list[Any]:
    """What the plugin offers on this machine; the plugin is registered once.

    Raises:
        BackendError: ONNX Runtime or its QNN plugin is not installed; ``wanted`` says who wants it.
    """
    try:
        import onnxruntime
        import onnxruntime_qnn
    except ImportError as error:
        raise BackendError(
            f"{wanted}, but {error.name} is not installed; pip install 'sam2track[npu]', or pin it to torch"
        ) from error
    if not any(device.ep_name == PROVIDER for device in onnxruntime.get_ep_devices()):
        try:
            onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        except ort.errors() as error:
            raise BackendError(f"{wanted}, but the QNN plugin does not load: {ort.first_line(error)}") from error
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]


def runtime_version() -> str:
    """Versions of the plugin and of the Qualcomm runtime in it, such as ``2.7.0/2.51.0``."""
    from onnxruntime_qnn import build_and_package_info as info

    return f"{info.__version__}/{info.qnn_version}"


def session(path: Path, component: str, target: Target, more: Mapping[str, str] = NO_OPTIONS) -> Any:
    """An ``onnxruntime.InferenceSession`` of a graph that runs whole on ``target``; ``more`` are provider options.

    Raises:
        BackendError: nodes that the NPU refuses, with the reasons, or a graph that the runtime cannot load.
    """
    import onnxruntime

    with _traced(path, component, target) as trace:
        opened = onnxruntime.InferenceSession(path, _session_options(target, {**trace, **more}), enable_fallback=0)
    opened.disable_fallback()
    _check_assignment(opened, component, target)
    return opened


def compile_graph(path: Path, component: str, target: Target, out: Path) -> None:
    """Write a graph as an EPContext model for the chip of ``target``, its binary inside. Raises as ``session``."""
    import onnxruntime

    with _traced(path, component, target) as trace:
        options = _session_options(target, {**trace, "enable_htp_prepare_only": "1"})
        onnxruntime.ModelCompiler(options, path, embed_compiled_data_into_model=True).compile_to_file(str(out))


def dlc_options(folder: Path) -> dict[str, str]:
    """Provider options of a session that writes its graph to ``folder`` as a DLC; such a session cannot run."""
    import onnxruntime_qnn

    library = Path(onnxruntime_qnn.get_library_path())
    name = "QnnIr.dll" if library.suffix == ".dll" else "libQnnIr.so"
    return {
        "dump_qnn_ir_dlc": "1",
        "dump_qnn_ir_dlc_dir": str(folder),
        "qnn_ir_backend_path": str(library.with_name(name)),
    }


@contextmanager
def _traced(path: Path, component: str, target: Target) -> Iterator[dict[str, str]]:
    """Options that have the runtime note which nodes it refuses; these, and its errors, become ``BackendError``."""
    with TemporaryDirectory(prefix="sam2track-") as folder, _native_talk_to_stderr():
        try:
            yield {"enable_framework_op_trace": "1", "framework_op_trace_dir": folder}
        except ort.errors() as error:
            raise BackendError(_refusal(component, path, Path(folder), target, error)) from error
        if _refused(Path(folder))[0]:
            raise BackendError(_refusal(component, path, Path(folder), target))


def _session_options(target: Target, more: Mapping[str, str]) -> Any:
    """Options of a session on ``target`` alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # The graph as it was exported and tried: what ONNX Runtime makes of it differs from version to version.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised
    options.intra_op_num_threads = 1  # the host only passes tensors
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_provider_for_devices([target.device], {**target.options, **more})
    return options


def proof(session: Any, target: Target) -> str:
    """What the session itself says of where it runs, in a few words."""
    parts = session.get_provider_graph_assignment_info()
    kinds = [node.op_type for part in parts for node in part.get_nodes()]
    graph = "a compiled binary" if kinds == ["EPContext"] else f"all {len(kinds)} nodes"
    where = "the HTP emulator" if target.kind == "emulator" else "a device of type NPU"
    chip = "" if target.kind == "npu" or target.chip is None else f" as {target.chip.name}"
    return f"{graph} assigned to {PROVIDER} on {where}{chip}"


def _check_assignment(session: Any, component: str, target: Target) -> None:
    found = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    if found != {PROVIDER}:
        others = ", ".join(sorted(found - {PROVIDER})) or "no provider that says so"
        raise BackendError(
            f"component {component} is pinned to qnn:{target.kind}, but parts would run on {others}; {_ELSEWHERE}"
        )


def _refusal(component: str, path: Path, folder: Path, target: Target, error: Exception | None = None) -> str:
    """Why a graph does not run on the NPU: the nodes it refuses, or what the runtime says."""
    refused, total = _refused(folder)
    if error is not None and not refused:
        return f"component {component} cannot run on qnn:{target.kind}: {path}: {ort.first_line(error)}; {_ELSEWHERE}"
    named = ", ".join(
        f"{node['op_type']} {node['node_name']} ({_sentence(node['reason'])})" for node in refused[:NAMED]
    )
    more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
    return (
        f"component {component} cannot run whole on qnn:{target.kind}: {len(refused)} of {total} nodes of {path} are "
        f"refused: {named}{more}; {_ELSEWHERE}"
    )


def _refused(folder: Path) -> tuple[list[dict[str, str]], int]:
    """The nodes that the runtime's trace lists as unsupported, and the number of all."""
    for file in folder.rglob("*.json"):
        trace = json.loads(file.read_text())
        return trace["unsupported_nodes"], trace["summary"]["total_onnx_nodes"]
    return [], 0


def _sentence(text: str) -> str:
    """The first sentence of a reason."""
    return " ".join(text.split()).partition(".")[0]


def _emulates() -> bool:
    return platform.machine().lower() in _EMULATED_ON


def _machine() -> str:
    return f"{platform.machine()} {platform.system()}"


@contextmanager
def _native_talk_to_stderr() -> Iterator[None]:
    """The emulator greets on standard output, which belongs to the user's results: send it to standard error."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (OSError, ValueError, AttributeError):  # there is no standard output
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        if sys.platform != "win32":
            ctypes.CDLL(None).fflush(None)  # what C still holds for it
        os.dup2(kept, 1)
        os.close(kept)
