"""Quantize ONNX graphs by onnxruntime's quantizer: what is folded before, and what is tidied after.

int8 weights use seven of their eight bits: processors without VNNI add pairs of products in 16 bits, which overflow.
"""

import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from app.serving.graph import INPUT
from worker.rows import Array

WEIGHTED = ("Conv", "Gemm", "MatMul")
DENSE = ("Gemm", "MatMul")
# What stands between two int8 layers is done in int8 too, or every layer would go back to float and forth.
_BETWEEN = (
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Relu",
    "Reshape",
    "Flatten",
    "Transpose",
    "Sum",
    "Add",
    "Concat",
)
_LARGEST_HALF = 65504.0
_SMALLEST_HALVED = 64  # numbers; fewer save less than the node that turns them back to float32 takes
_CALIBRATION_BATCH = 64
# Tells the quantizer that shapes are known and batch normalization is folded, else it logs advice.
_PREPARED = {"onnx.infer": "onnxruntime.quant"}


@dataclass(frozen=True)
class Calibrated:
    """Hold a graph that is ready for static quantization, and where the ranges of its tensors are kept."""

    graph: onnx.ModelProto
    ranges: Path
    per_channel: bool


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, rows: Array) -> None:
        self._batches: Iterator[dict[str, Array]] = (
            {INPUT: rows[start : start + _CALIBRATION_BATCH]} for start in range(0, len(rows), _CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, Array] | None:
        """Return the next batch for the graph, or None."""
        return next(self._batches, None)


def weighted_layers(graph: onnx.ModelProto, operators: Collection[str] = WEIGHTED) -> dict[str, str]:
    """Return the nodes that multiply by stored weights, by name, each with the name of its weights."""
    stored = {tensor.name for tensor in graph.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    return {
        node.name: name
        for node in graph.graph.node
        if node.op_type in operators
        for name in node.input[:2]
        if name in stored
    }


def calibrate(graph: onnx.ModelProto, rows: Array, directory: Path, *, per_channel: bool) -> Calibrated:
    """Find the range of every tensor on calibration rows (rows, *shape) of the graph's own type."""
    calibrated = Calibrated(graph, directory / "ranges.json", per_channel)
    calibrated.ranges.unlink(missing_ok=True)
    _quantize_static(calibrated, list(weighted_layers(graph)), _Reader(rows))
    return calibrated


def to_static_int8(calibrated: Calibrated, layers: Sequence[str]) -> onnx.ModelProto:
    """Return the graph with these weighted layers in int8, and what stands between them."""
    return _quantize_static(calibrated, layers, None)


def _quantize_static(calibrated: Calibrated, layers: Sequence[str], reader: _Reader | None) -> onnx.ModelProto:
    with _quantizer_output() as output:
        quantize_static(
            _prepared(calibrated.graph),
            output,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*WEIGHTED, *_BETWEEN],
            nodes_to_quantize=[*layers, *_between(calibrated.graph, layers)],
            per_channel=calibrated.per_channel,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibration_cache_path=calibrated.ranges,
        )
        return answer_in_float(onnx.load(output))


def _between(graph: onnx.ModelProto, layers: Sequence[str]) -> list[str]:
    """Return the nodes that only pass on what int8 layers answer; the others pass on floats, and faster."""
    stored = {tensor.name for tensor in graph.graph.initializer}
    found: list[str] = []
    answered: set[str] = set()
    for node in graph.graph.node:
        taken = [name for name in node.input if name not in stored]
        passes_on = node.op_type in _BETWEEN and bool(taken) and answered.issuperset(taken)
        if passes_on:
            found.append(node.name)
        if passes_on or node.name in layers:
            answered.update(node.output)
    return found


def answer_in_float(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without rounding to int8 and back between a dense layer and operators that compute in float.

    So logits and probabilities keep their precision. A convolution in int8 needs its rounding, a dense layer does not.
    """
    makers = {name: node for node in graph.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for back in [node for node in graph.graph.node if node.op_type == "DequantizeLinear"]:
        down = makers.get(back.input[0])
        if down is None or not _is_needless(down, back, makers, readers):
            continue
        for reader in readers[back.output[0]]:
            for place, name in enumerate(reader.input):
                if name == back.output[0]:
                    reader.input[place] = down.input[0]
        graph.graph.node.remove(back)
    used = {name for node in graph.graph.node for name in node.input}
    for down in [node for node in graph.graph.node if node.op_type == "QuantizeLinear" and node.output[0] not in used]:
        graph.graph.node.remove(down)
    return graph


def _is_needless(
    down: onnx.NodeProto,
    back: onnx.NodeProto,
    makers: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, Sequence[onnx.NodeProto]],
) -> bool:
    maker = makers.get(down.input[0])
    if down.op_type != "QuantizeLinear" or maker is None or maker.op_type not in DENSE:
        return False
    return all(reader.op_type not in (*WEIGHTED, *_BETWEEN) for reader in readers[back.output[0]])


def to_dynamic_int8(graph: onnx.ModelProto, layers: Sequence[str]) -> onnx.ModelProto:
    """Return the graph with the weights of these dense layers in int8; activations are scaled as they come."""
    with _quantizer_output() as output:
        quantize_dynamic(
            _prepared(graph),
            output,
            op_types_to_quantize=list(DENSE),
            nodes_to_quantize=[*layers, *(f"{layer}_MatMul" for layer in layers)],  # what becomes of a Gemm
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(output)


def _prepared(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph for the quantizer, which writes into what it is given."""
    prepared = onnx.ModelProto()
    prepared.CopyFrom(graph)
    helper.set_model_props(prepared, _PREPARED)
    return prepared


@contextmanager
def _quantizer_output() -> Iterator[Path]:
    """Give the quantizer a file to write, and keep its advice from the job's log."""
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as directory:
            yield Path(directory) / "quantized.onnx"
    finally:
        logging.disable(logging.NOTSET)


def to_float16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its float32 initializers stored as float16 and turned back when the file is loaded.

    Numbers that float16 does not hold (beyond 65504) stay float32, and so do tensors too small to gain by it.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(graph)
    casts = []
    for tensor in halved.graph.initializer:
        if (half := _as_half(tensor)) is None:
            continue
        casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.half"))
    nodes = [*casts, *halved.graph.node]
    halved.graph.ClearField("node")
    halved.graph.node.extend(nodes)
    return halved


def _as_half(tensor: onnx.TensorProto) -> NDArray[np.float16] | None:
    if tensor.data_type != TensorProto.FLOAT:
        return None
    values = numpy_helper.to_array(tensor)
    if values.size < _SMALLEST_HALVED or not np.abs(values).max() <= _LARGEST_HALF:
        return None
    return np.asarray(values, np.float16)
