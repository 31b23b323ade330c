"""Quantised variants of exported graphs, beside the fp32 ones in the same folder and manifest.

Three schemes. ``int8`` is for plain CPUs: weights of linear layers in 8 bits a channel, their inputs
quantised as they come, everything else in fp32; it needs no calibration. ``w8a16`` and ``w8a8`` are for
NPUs: every tensor is quantised, activations by the ranges seen in ``Samples``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from sam2track.backends import ort, schemes
from sam2track.backends.export import difference
from sam2track.backends.manifest import Exported, Graph, describe
from sam2track.backends.samples import Inputs, Samples, for_bucket, graph_inputs
from sam2track.backends.static import StaticComponent
from sam2track.errors import BackendError, SinkError, nearest

SCHEMES = ("int8", "w8a16", "w8a8")
# The prompt encoder is small, runs once a prompt, and its sines do not survive a coarse grid.
COMPONENTS = ("image_encoder", "memory_attention", "mask_decoder", "memory_encoder")

Tell = Callable[[str], None]


def quantize(
    exported: Exported,
    scheme: str,
    samples: Samples | None = None,
    *,
    components: Sequence[str] = COMPONENTS,
    force: bool = False,
    tell: Tell = lambda line: None,
) -> Exported:
    """Add the graphs of ``scheme`` to an exported folder.

    Args:
        exported: a folder with fp32 graphs.
        scheme: ``int8``, ``w8a16`` or ``w8a8``.
        samples: calibrates, and measures the error of each graph against its fp32 one on what was held back. Without
            them ``int8`` graphs are made unmeasured; the others need them.
        components: which ones.
        force: replace graphs of that scheme.
        tell: is given a line after each graph.

    Raises:
        BackendError: packages are missing, the folder is damaged, or a graph cannot be quantised.
        SinkError: there are such graphs already, or the folder cannot be written.
    """
    check(exported, scheme, components, force=force)
    if samples is None and scheme != "int8":
        raise BackendError(f"{scheme} needs samples to calibrate on; only int8 does without")
    made: list[Graph] = []
    bits = None if scheme != "int8" else 8 if ort.adds_in_32_bits() else 7
    with _partials(exported.folder) as partial:
        for name in components:
            for graph in exported.graphs(name, "fp32").values():
                stem = Path(graph.files[0].name).stem
                path = partial / f"{stem}.{scheme}.onnx"
                _quantize_graph(exported, graph, path, scheme, samples)
                own = {"precision": scheme, "files": (describe(path),), "error": None, "weight_bits": bits}
                made.append(graph.model_copy(update=own))
                tell(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, was {graph.files[0].bytes / 1e6:.1f}")
        if samples is not None:
            staged = Exported(partial, exported.manifest)
            made = [graph.model_copy(update={"error": _error(graph, exported, staged, samples)}) for graph in made]
        for path in partial.iterdir():
            path.replace(exported.folder / path.name)
        replaced = {(graph.component, graph.bucket) for graph in made}
        return exported.changed(made, lambda g: g.precision == scheme and (g.component, g.bucket) in replaced)


def check(exported: Exported, scheme: str, components: Sequence[str], *, force: bool) -> None:
    """Raise unless graphs of ``scheme`` may be added: before any long work."""
    if scheme not in SCHEMES:
        raise BackendError(f"scheme {scheme!r} is unknown{nearest(scheme, SCHEMES)}")
    for name in components:
        if name not in COMPONENTS:
            raise BackendError(f"component {name!r} cannot be quantised{nearest(name, COMPONENTS)}")
        exported.graphs(name, "fp32")
    there = {graph.component for graph in exported.manifest.graphs if graph.precision == scheme}
    if not force and there & set(components):
        raise SinkError(
            f"{exported.folder} has {', '.join(sorted(there & set(components)))} in {scheme}; --force replaces them"
        )
    try:
        import onnx  # noqa: F401
        import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise BackendError(f"quantising needs {error.name}: pip install sam2track[export]") from error


def _quantize_graph(exported: Exported, graph: Graph, path: Path, scheme: str, samples: Samples | None) -> None:
    source = exported.path(graph)
    try:
        if scheme == "int8":
            schemes.linear_int8(source, path)
        else:
            assert samples is not None
            given = _fitting(exported, graph, samples, held_back=False)
            arrays = (graph_inputs(graph.component, graph.bucket, exported, inputs) for inputs in given)
            schemes.static_qdq(source, path, arrays, 16 if scheme == "w8a16" else 8)
    except ort.errors() as error:
        raise BackendError(f"{source.name} cannot be quantised to {scheme}: {ort.first_line(error)}") from error


def _fitting(exported: Exported, graph: Graph, samples: Samples, *, held_back: bool) -> Iterator[Inputs]:
    """The samples of a graph. Raises ``BackendError`` when there are none."""
    count = 0
    for inputs in samples.read(graph.component, held_back=held_back):
        fitted = for_bucket(graph.component, graph.bucket, inputs)
        if fitted is not None:
            count += 1
            yield fitted
    if not count:
        raise BackendError(f"no sample fits {graph.files[0].name}; give a longer clip")


def _error(graph: Graph, exported: Exported, staged: Exported, samples: Samples) -> float:
    """The largest relative error of an output of ``graph`` against the fp32 graph, over all held-back samples."""
    reference = _alone(exported, exported.graphs(graph.component, "fp32")[graph.bucket])
    quantised = _alone(staged, graph)
    errors = [
        difference(found, wanted)
        for inputs in _fitting(exported, graph, samples, held_back=True)
        for found, wanted in zip(_outputs(quantised(*inputs)), _outputs(reference(*inputs)), strict=True)
    ]
    if math.isinf(max(errors)):
        raise BackendError(f"{graph.files[0].name} gives numbers that are not finite; leave {graph.component} in fp32")
    return max(errors)


def _alone(exported: Exported, graph: Graph) -> StaticComponent:
    """A component with this one graph."""
    manifest = exported.manifest.model_copy(update={"graphs": (graph,)})
    return ort.component(graph.component, Exported(exported.folder, manifest), graph.precision)


def _outputs(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


@contextmanager
def _partials(folder: Path) -> Iterator[Path]:
    """A hidden folder inside ``folder`` for files in the making; removed with what is left in it."""
    try:
        with TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
            yield Path(partial)
    except OSError as error:
        raise SinkError(f"{folder} cannot be written: {error.strerror or error}") from error
