"""Export: the five components of a model as ONNX graphs of static shape, checked against torch.

A folder takes its name only when every graph was written and gave what torch gives.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from sam2track import hub
from sam2track.backends import ort, pytorch, rehearse
from sam2track.backends.manifest import NAME, Exported, Graph, Manifest, ModelSizes, Room, Weights, describe, hash_of
from sam2track.backends.sources import Sources
from sam2track.backends.static import GRAPHS, NO_POINT, buckets, letters
from sam2track.config import Config
from sam2track.contracts import CONTRACTS, shape
from sam2track.data import Image
from sam2track.errors import BackendError, ConfigError, SinkError
from sam2track.pins import Pin

OPSETS = range(18, 23)  # 23 has an attention operator whose masks ONNX Runtime does not broadcast
OPSET = OPSETS[0]
TOLERANCE = 1e-4  # relative error of a graph against torch, both fp32
# Two reshapes before a Gemm stay two: of one that changes more than the rank, the QNN runtime loses the shape.
_KEPT = ["EliminationReshape"]
PACKAGES = ("sam2track", "torch", "onnx", "onnxscript", "onnxslim", "onnxruntime")

Tell = Callable[[str], None]


def export(
    source: Config | Sources,
    folder: Path,
    room: Room | None = None,
    *,
    opset: int = OPSET,
    force: bool = False,
    images: Sequence[Image] | None = None,
    tell: Tell = lambda line: None,
) -> Exported:
    """Export the components of a model to ``folder``.

    Args:
        source: the config that names model, weights and image size.
        folder: made by this; its parent is there.
        room: slots, pointers and points of the graphs; default: what the config's memory needs.
        opset: ONNX operator set, one of ``OPSETS``.
        force: replace an exported folder of that name.
        images: frames to check the graphs on, RGB uint8; default: made-up ones.
        tell: is given a line now and then.

    Raises:
        ConfigError: an opset that cannot be made.
        SinkError: ``folder`` exists, or cannot be written.
        BackendError: packages are missing, a component cannot be exported, or its graph differs from torch.
        WeightsError: weights that are missing, damaged or of another model.
    """
    sources = source if isinstance(source, Sources) else Sources(source)
    if opset not in OPSETS:
        raise ConfigError(f"opset is {opset}; expected {OPSETS[0]} to {OPSETS[-1]}")
    _check_packages()
    check_target(folder, force)
    room = room or Room.of(sources.config.memory)
    with _made_whole(folder, force) as partial:
        graphs = [
            _write_graph(sources, partial, name, bucket, room, opset, tell)
            for name in CONTRACTS
            for bucket in buckets(name, room)
        ]
        exported = Exported(partial, _manifest(sources, room, opset, graphs))
        exported = _checked(sources, exported, images or rehearse.pictures(sources.sizes.image_size), tell)
        exported.write()
    return Exported(folder, exported.manifest)


def check_target(folder: Path, force: bool) -> None:
    """Raise ``SinkError`` unless ``folder`` may be made, or replaced."""
    if not folder.absolute().parent.is_dir():
        raise SinkError(f"folder {folder.parent} for {folder.name} does not exist; make it first")
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / NAME).is_file()):
        raise SinkError(f"{folder} exists and is no exported folder; give another name")
    if not force:
        raise SinkError(f"{folder} exists; give another name, or --force to replace it")


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import onnxslim  # noqa: F401
    except ImportError as error:
        raise BackendError(
            f"exporting needs {error.name}: pip install sam2track[export]; or export elsewhere "
            "with sam2track export, and give the folder: --set exported=DIR"
        ) from error
    ort.runtime()


@contextmanager
def _made_whole(folder: Path, force: bool) -> Iterator[Path]:
    """A hidden folder to fill; it becomes ``folder`` when the block is left without an error, else it is removed."""
    folder = folder.absolute()
    partial = old = None
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        yield partial
        partial.chmod(0o755)
        if force and folder.exists():
            old = folder.rename(partial.with_suffix(".old"))
        partial.rename(folder)
    except OSError as error:
        raise SinkError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        for leftover in filter(None, (partial, old)):
            shutil.rmtree(leftover, ignore_errors=True)


def _write_graph(sources: Sources, folder: Path, name: str, bucket: int, room: Room, opset: int, tell: Tell) -> Graph:
    start = perf_counter()
    known = letters(name, bucket, sources.sizes, room)
    inputs = tuple(
        torch.full(shape(port, known), NO_POINT if port.name == "label" else 0, dtype=getattr(torch, port.dtype))
        for port in GRAPHS[name].inputs
    )
    model = _to_onnx(getattr(sources.network, name), name, inputs, opset)
    path = folder / (f"{name}_{bucket}.onnx" if bucket else f"{name}.onnx")
    import onnx

    onnx.save(model, path)
    graph = Graph(component=name, bucket=bucket, files=(describe(path),))
    size = path.stat().st_size / 1e6
    tell(f"{path.name}: {len(model.graph.node)} nodes, {size:.1f} MB, {perf_counter() - start:.1f} s")
    return graph


def _to_onnx(module: nn.Module, name: str, inputs: tuple[Tensor, ...], opset: int) -> Any:
    """One component as an ONNX model: constants folded, and no trace of the files it was made from."""
    import onnxslim

    contract = GRAPHS[name]
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=opset,
                input_names=[port.name for port in contract.inputs],
                output_names=[port.name for port in contract.outputs],
                verbose=False,
            )
            assert program is not None
            model = onnxslim.slim(program.model_proto, skip_fusion_patterns=_KEPT)
    except torch.onnx.OnnxExporterError as error:
        raise BackendError(f"{name} cannot be exported with opset {opset}: {ort.first_line(error)}") from error
    found = {(part.domain, part.version) for part in model.opset_import}
    if found != {("", opset)}:
        raise BackendError(
            f"{name} cannot be exported with opset {opset}: the exporter gave {sorted(found)}; try {OPSET}"
        )
    model.graph.name = name
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.metadata_props[:]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings, of libraries and versions that are not needed, from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _manifest(sources: Sources, room: Room, opset: int, graphs: list[Graph]) -> Manifest:
    config, checkpoint = sources.config, sources.checkpoint
    published = config.weights is None or (
        hub.is_cached(config.model) and hash_of(hub.find(config.model)) == hash_of(checkpoint)
    )
    return Manifest(
        model=config.model,
        weights=Weights(file=checkpoint.name, sha256=hash_of(checkpoint), published=published),
        sizes=ModelSizes(**{field: getattr(sources.sizes, field) for field in ModelSizes.model_fields}),
        room=room,
        opset=opset,
        software={package: version(package) for package in PACKAGES},
        graphs=tuple(graphs),
    )


@torch.inference_mode()
def _checked(sources: Sources, exported: Exported, images: Sequence[Image], tell: Tell) -> Exported:
    """``exported`` with the error of each graph, which was run on what torch's components give each other."""
    reference = pytorch.components(sources.network, Pin("torch", "cpu", "fp32"))
    calls = rehearse.calls(reference, exported.manifest.room, images)
    graphs = []
    for name in CONTRACTS:
        component = ort.component(name, exported)
        errors = dict.fromkeys(exported.graphs(name, "fp32"), 0.0)
        for call in (call for call in calls if call.component == name):
            given = component(*call.inputs)
            given = (given,) if isinstance(given, Tensor) else given
            error = max(difference(y, wanted) for y, wanted in zip(given, call.outputs, strict=True))
            bucket = component.bucket_of(*call.inputs)
            errors[bucket] = max(errors[bucket], error)
        worst = max(errors.values())
        tell(f"{name} against torch: relative error at most {worst:.1e}")
        if worst > TOLERANCE:
            raise BackendError(
                f"{name} exported differs from torch by {worst:.1e}, more than {TOLERANCE:.0e}; "
                "please report it, with the versions sam2track doctor prints"
            )
        graphs += [g.model_copy(update={"error": errors[b]}) for b, g in exported.graphs(name, "fp32").items()]
    return Exported(exported.folder, exported.manifest.model_copy(update={"graphs": tuple(graphs)}))


def difference(found: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over the norm of ``wanted``, which counts as at least 0.001 a number.

    Infinite where either holds something that is not a number: ``max`` and comparisons would pass over NaN.
    """
    floor = 1e-3 * wanted.numel() ** 0.5
    error = float((found - wanted).norm() / wanted.norm().clamp(min=floor))
    return error if math.isfinite(error) else math.inf
