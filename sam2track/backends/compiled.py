"""Graphs compiled ahead for named chips (EPContext models), and how to tell that one still fits.

Compiling takes the runtime minutes for a large graph, loading what was compiled takes less than a second. The
work needs no NPU: it is done on an x86-64 machine and the folder is copied to the device.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from sam2track.backends import htp
from sam2track.backends.manifest import Exported, Graph, describe
from sam2track.chips import Chip
from sam2track.errors import BackendError, SinkError

COMPATIBILITY = f"ep_compatibility_info.{htp.PROVIDER}"  # metadata of a compiled model: what it was compiled for
EXPORTED = {"fp16": "fp32"}  # precision on the NPU -> of the exported graph; float graphs are computed in fp16


class Compiled(NamedTuple):
    """One file made from a graph: the manifest's entry of it, the file, and the seconds it took; 0 if it was there."""

    graph: Graph
    path: Path
    seconds: float


Tell = Callable[[Compiled, int, int], None]


def plain(exported: Exported, component: str, precision: str) -> dict[int, Graph]:
    """Bucket -> portable graph of a component, for a precision on the NPU. Raises ``BackendError`` if there is none."""
    return exported.graphs(component, EXPORTED.get(precision, precision))


def find(exported: Exported, component: str, precision: str, chip: Chip | None) -> dict[int, Graph]:
    """Bucket -> graph of a component compiled for ``chip``; empty where there is none, or no chip is named."""
    if chip is None:
        return {}
    return {
        graph.bucket: graph
        for graph in exported.manifest.graphs
        if (graph.component, graph.precision, graph.soc) == (component, precision, chip.name)
    }


def check_precision(component: str, precision: str, chip: Chip | None) -> None:
    """Raise ``BackendError`` if ``chip`` runs quantised graphs only and this one is not."""
    if chip is not None and not chip.floats and precision in EXPORTED:
        raise BackendError(
            f"{component} is to run in {precision}, but {chip.name} (Hexagon v{chip.arch}) runs quantised graphs "
            "only; make them with sam2track quantize and take w8a16, or pin it to onnx:cpu"
        )


def check_source(graph: Graph, source: Graph, path: Path) -> None:
    """Raise ``BackendError`` unless ``graph`` was compiled from ``source`` by the runtime that is installed here."""
    if graph.source != source.files[0].sha256:
        raise BackendError(
            f"{path} was compiled from another graph than {source.files[0].name}; run sam2track compile again"
        )
    here = htp.runtime_version()
    if graph.runtime != here:
        plugin = str(graph.runtime).partition("/")[0]
        raise BackendError(
            f"{path} was compiled by QNN runtime {graph.runtime}, but {here} is installed; "
            f"run sam2track compile again, or install onnxruntime-qnn=={plugin}"
        )


def check_chip(session: Any, path: Path, chip: Chip) -> None:
    """Raise ``BackendError`` unless a compiled model says that it is for ``chip``; the emulator does not check."""
    text = session.get_modelmeta().custom_metadata_map.get(COMPATIBILITY, "")
    fields = text.split(":")  # version, backend, runtime, backend's interface, architecture, soc_model, ...
    found = fields[5] if len(fields) > 5 else "unknown"
    if found != str(chip.soc_model):
        raise BackendError(
            f"{path} was compiled for soc_model {found}, not for {chip.name} (soc_model {chip.soc_model}); "
            f"run sam2track compile --soc {chip.name}"
        )


def compile_graphs(
    exported: Exported,
    chips: Sequence[Chip],
    precision: str = "fp16",
    *,
    force: bool = False,
    tell: Tell = lambda made, done, total: None,
) -> list[Compiled]:
    """Compile every graph for each chip, unless its binary is there already.

    A binary takes its name when it is whole and enters the manifest at once: what was interrupted goes on where it
    stopped.

    Args:
        exported: the folder; binaries are written beside its graphs.
        chips: what to compile for.
        precision: ``fp16`` of the float graphs, or that of quantised ones.
        force: compile again what is there.
        tell: is called after each graph with it, the count done and the count of all.

    Raises:
        BackendError: a chip that cannot run such graphs, nodes that the NPU refuses, a machine that cannot compile, or
            a folder without graphs of that precision.
        SinkError: the folder cannot be written.
    """
    wanted = [(chip, graph) for chip in chips for graph in _all_plain(exported, precision)]
    for chip, graph in wanted:
        check_precision(graph.component, precision, chip)
    made: list[Compiled] = []
    for chip, graph in wanted:
        there = None if force else _there(exported, graph, chip, precision)
        one = there or _compile(exported, graph, chip, precision)
        if there is None:
            exported = _recorded(exported, one.graph)
        made.append(one)
        tell(one, len(made), len(wanted))
    return made


def dump_dlc(
    exported: Exported, chip: Chip, precision: str = "fp16", *, tell: Tell = lambda made, done, total: None
) -> list[Compiled]:
    """Write each graph as a DLC, the container of Qualcomm's own tools (QAIRT). Raises as ``compile_graphs``."""
    graphs = _all_plain(exported, precision)
    made: list[Compiled] = []
    for graph in graphs:
        start = perf_counter()
        source = exported.path(graph)
        final = exported.folder / f"{source.stem}.{precision}.dlc"
        with _scratch(exported.folder) as scratch:
            htp.session(source, graph.component, _compiler(chip), htp.dlc_options(scratch))
            dumped = list(scratch.glob("*.dlc"))
            if len(dumped) != 1:
                raise BackendError(f"{source} gave {len(dumped)} DLC files, expected 1; compile without --dlc")
            dumped[0].replace(final)
        made.append(Compiled(graph, final, perf_counter() - start))
        tell(made[-1], len(made), len(graphs))
    return made


def _compiler(chip: Chip) -> htp.Target:
    return htp.emulator(f"compiling for {chip.name}", chip)


def _all_plain(exported: Exported, precision: str) -> list[Graph]:
    """The portable graphs of every component that has them in this precision."""
    wanted = EXPORTED.get(precision, precision)
    graphs = [graph for graph in exported.manifest.graphs if (graph.precision, graph.soc) == (wanted, None)]
    if not graphs:
        raise BackendError(
            f"exported folder {exported.folder} has no graphs to compile in {precision}; "
            f"make them with sam2track {'export' if precision in EXPORTED else 'quantize'}"
        )
    return graphs


def _compile(exported: Exported, graph: Graph, chip: Chip, precision: str) -> Compiled:
    start = perf_counter()
    source, runtime = exported.path(graph), htp.runtime_version()
    identity = "/".join((graph.files[0].sha256, chip.name, precision, runtime))
    key = hashlib.sha256(identity.encode()).hexdigest()[:12]
    final = exported.folder / f"{source.stem}.{precision}.{chip.name}.{key}.onnx"
    with _scratch(exported.folder) as scratch:
        htp.compile_graph(source, graph.component, _compiler(chip), scratch / final.name)
        (scratch / final.name).replace(final)
    entry = Graph(
        component=graph.component,
        precision=precision,
        bucket=graph.bucket,
        soc=chip.name,
        source=graph.files[0].sha256,
        runtime=runtime,
        files=(describe(final),),
    )
    return Compiled(entry, final, perf_counter() - start)


def _there(exported: Exported, graph: Graph, chip: Chip, precision: str) -> Compiled | None:
    """What was compiled before from this very graph by this very runtime, if its file is whole."""
    entry = find(exported, graph.component, precision, chip).get(graph.bucket)
    if entry is None:
        return None
    path = exported.folder / entry.files[0].name
    try:
        check_source(entry, graph, path)
        return Compiled(entry, exported.path(entry), 0.0)
    except BackendError:  # stale, damaged or gone: compiled again
        return None


def _recorded(exported: Exported, entry: Graph) -> Exported:
    """``exported`` with ``entry`` in its manifest, in place of an older one, whose file is removed."""

    def place(graph: Graph) -> tuple[str, str, int, str | None]:
        return graph.component, graph.precision, graph.bucket, graph.soc

    older = [graph for graph in exported.manifest.graphs if place(graph) == place(entry)]
    fresh = exported.changed([entry], lambda graph: place(graph) == place(entry))
    for file in (file for graph in older for file in graph.files if file.name != entry.files[0].name):
        (exported.folder / file.name).unlink(missing_ok=True)
    return fresh


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the finished files, removed in any case."""
    try:
        with tempfile.TemporaryDirectory(prefix=".compile.", suffix=".partial", dir=folder) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise SinkError(f"exported folder {folder} cannot be written: {error.strerror or error}") from error
