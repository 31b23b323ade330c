"""The qnn backend: exported graphs on a Qualcomm NPU, or on its emulator when that is asked for.

A graph that was compiled for the chip (``compiled.py``) is loaded in place of the plain one, which the runtime
compiles at every load. Inputs and outputs are host memory, bound by address.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import torch

from sam2track import chips
from sam2track.backends import compiled, htp, ort
from sam2track.backends.manifest import Exported, Graph
from sam2track.backends.sources import Placed, Sources
from sam2track.backends.static import StaticComponent, letters
from sam2track.contracts import Evidence
from sam2track.pins import Pin

HOST = torch.device("cpu")  # where the NPU's inputs and outputs lie


def place(pins: Mapping[str, Pin], sources: Sources) -> dict[str, Placed]:
    """Load the graphs of each pinned component, whole on the processor of its pin.

    Raises:
        BackendError: no plugin, no NPU, a chip that cannot run such graphs, nodes that the NPU refuses, or graphs
            that are damaged, stale, of another model or for another chip.
        WeightsError: weights to export from that are missing or damaged.
    """
    settings = sources.config.qnn
    chip = None if settings.soc is None else chips.find(settings.soc)
    targets = {}
    for name, pin in pins.items():
        if pin.device == "emulator":
            targets[name] = htp.emulator(f"component {name} is pinned to qnn:emulator", chip, settings.performance)
        else:
            targets[name] = htp.npu(name, chip, settings.performance)
        compiled.check_precision(name, precision_of(pin), chip)
    exported = sources.exported
    if "memory_attention" in pins:
        exported.check_memory(sources.config.memory)
    return {name: component(name, exported, precision_of(pin), targets[name]) for name, pin in pins.items()}


def precision_of(pin: Pin) -> str:
    """The precision of a pin; ``auto`` is ``fp16``."""
    return "fp16" if pin.precision == "auto" else pin.precision


def component(name: str, exported: Exported, precision: str, target: htp.Target) -> Placed:
    """The graphs of one component, loaded."""
    start = perf_counter()
    plain = compiled.plain(exported, name, precision)
    ready = compiled.find(exported, name, precision, target.chip)
    runners = {}
    proofs = []
    for bucket, graph in plain.items():
        session = _open(name, bucket, exported, graph, ready.get(bucket), target)
        runners[bucket] = ort.Session(session, HOST)
        proofs.append(htp.proof(session, target))
    call = StaticComponent(name, runners, exported.sizes, exported.manifest.room)
    evidence = Evidence("; ".join(dict.fromkeys(proofs)), perf_counter() - start)
    return Placed(call, f"qnn:{target.kind}:{precision}", evidence)


def _open(name: str, bucket: int, exported: Exported, graph: Graph, ready: Graph | None, target: htp.Target) -> Any:
    """A session of a graph, or of the binary compiled from it, with the shapes its manifest promises."""
    path = exported.path(graph if ready is None else ready)
    if ready is not None:
        compiled.check_source(ready, graph, path)
    session = htp.session(path, name, target)
    if ready is not None and target.chip is not None:
        compiled.check_chip(session, path, target.chip)
    ort.check_ports(session, name, letters(name, bucket, exported.sizes, exported.manifest.room), path)
    return session
