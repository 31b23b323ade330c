"""How one graph is quantised: ``linear_int8`` for CPUs, ``static_qdq`` for NPUs.

Built on the quantisation tools of ONNX Runtime. What the schemes keep apart from a plain conversion, and why,
was measured: see the constants and ``_overrides``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sam2track.backends.ort import adds_in_32_bits, runtime

Arrays = dict[str, Any]
LINEAR = ("MatMul", "Gemm")
OPSET_OF_16_BITS = 21  # the first whose quantise nodes take them


def linear_int8(source: Path, target: Path) -> None:
    """Weights of linear layers in 8 bits a channel, their inputs in 8 bits by the range they have at each call.

    The rest stays in fp32. In 8 bits convolutions and softmax were no quicker on ONNX Runtime's CPU kernels; attention
    scores were, by a tenth at 512 px, and coarser. The file is for this kind of CPU: see ``ort.adds_in_32_bits``.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            _prepared(source), target, op_types_to_quantize=list(LINEAR), weight_type=QuantType.QInt8,
            per_channel=True, reduce_range=not adds_in_32_bits(), extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip


def static_qdq(source: Path, target: Path, samples: Iterable[Arrays], activation_bits: int) -> None:
    """Every tensor between quantise and dequantise nodes, as the QNN runtime takes them.

    Args:
        source: the fp32 graph.
        target: the file to write.
        samples: inputs of the graph; each activation's range is the one it has on them.
        activation_bits: 8 or 16.
    """
    from onnx.version_converter import convert_version
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

    with _quiet():
        model = convert_version(_prepared(source), OPSET_OF_16_BITS)
        reader = _Reader(samples)
        config = get_qnn_qdq_config(
            model,
            reader,
            activation_type=QuantType.QUInt16 if activation_bits == 16 else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            init_overrides=_overrides(model, activation_bits),
        )
        quantizer = QDQQuantizer(
            model,
            config.per_channel,
            config.reduce_range,
            config.weight_type,
            config.activation_type,
            _ranges(model, config.op_types_to_quantize, reader),
            config.nodes_to_quantize,
            config.nodes_to_exclude,
            config.op_types_to_quantize,
            config.extra_options,
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(target)


def _ranges(model: Any, kinds: list[str], reader: _Reader) -> Any:
    """The least and largest value of every tensor on the samples.

    With a session of our own: in ONNX Runtime's default order each tensor waits for its minimum until the whole
    graph has run, which took 18 GB for memory attention at 1024 px.
    """
    import onnx
    from onnxruntime.quantization import MinMaxCalibrater

    with TemporaryDirectory(prefix="sam2track-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrater = MinMaxCalibrater(path, kinds, str(Path(folder) / "watched.onnx"))
        calibrater.augment_graph()
        ort = runtime()
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        calibrater.infer_session = ort.InferenceSession(
            calibrater.augmented_model_path, options, providers=["CPUExecutionProvider"]
        )
        calibrater.collect_data(reader)
        return calibrater.compute_data()


def _overrides(model: Any, activation_bits: int) -> dict[str, list[dict[str, Any]]]:
    """Tensor -> type, where the scheme's own does not do."""
    from onnxruntime.quantization import QuantType

    own: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":  # with a signed scale the NPU refuses the whole norm
            own[node.input[1]] = [{"quant_type": QuantType.QUInt8}]
        if node.op_type == "Softmax" and activation_bits == 8:  # 1/255 rounds a probability of 1/4096 to nothing
            own |= {tensor: [{"quant_type": QuantType.QUInt16}] for tensor in (node.input[0], node.output[0])}
    return own


def _prepared(source: Path) -> Any:
    """The graph with its norms and GELUs as one node each, and shapes of every tensor."""
    import onnx
    from onnxruntime.quantization.execution_providers.qnn import qnn_preprocess_model

    with TemporaryDirectory(prefix="sam2track-") as folder:
        path = Path(folder) / "prepared.onnx"
        model = onnx.load(path if qnn_preprocess_model(source, path, fuse_layernorm=True) else source)
    return onnx.shape_inference.infer_shapes(model)


class _Reader:
    """Samples as ONNX Runtime's calibration asks for them."""

    def __init__(self, samples: Iterable[Arrays]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Arrays | None:
        return next(self._samples, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tools' warnings about what is meant to be so; they go to the root logger."""
    runtime()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
