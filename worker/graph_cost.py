"""Count what a served graph holds and computes from the graph itself, as a check on the arithmetic over layers.

What is a variable of a layer is told by what is done with it, never by its name, which a smaller file shortens: the
operators below multiply by variables, add them, or look them up; whatever else is stored is a constant of the export.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from app.domain.job_errors import ExportMismatchError
from app.domain.layers import LogMel
from app.domain.network import Network, Trace

# Where an operator that multiplies and adds takes what it multiplies: its data and its weights.
_OPERANDS = {
    "Conv": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}
# Where else an operator takes variables: biases, tables, and the numbers of a normalization.
_OTHERS = {"Conv": (2,), "QLinearConv": (8,), "Gemm": (2,), "Gather": (0,), "BatchNormalization": (1, 2, 3, 4)}
# What passes stored numbers on as they are, but for their type and shape.
_RESTORING = ("DequantizeLinear", "Cast", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
# What may stand between a product and the bias that is added to it.
_RESCALING = (*_RESTORING, "QuantizeLinear", "Mul")
_SMALLEST_REORDERED_BYTES = 16  # fewer could be equal by chance
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class GraphCost:
    """Hold what a graph costs.

    `parameters` counts every variable once, whatever its type; `macs` multiply-accumulates per row by variables, and
    `transform_macs` those by constants, such as a Fourier transform's; None where shapes cannot be told.
    `bytes_by_type` are those of the variables and of what scales them, `int8_weight_fraction` the share that is int8.
    """

    parameters: int
    macs: int | None
    transform_macs: int | None
    bytes_by_type: dict[str, int]
    int8_weight_fraction: float


def graph_cost(graph: onnx.ModelProto) -> GraphCost:
    """Count a graph's parameters and work."""
    variables = find_variables(graph)
    counted = variables | _scales(graph, variables)
    bytes_by_type: Counter[str] = Counter()
    for tensor in graph.graph.initializer:
        if tensor.name in counted:
            kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            bytes_by_type[kind.name] += prod(tensor.dims) * kind.itemsize
    distinct = _distinct([tensor for tensor in graph.graph.initializer if tensor.name in variables])
    macs, transform_macs = _work(graph)
    return GraphCost(
        parameters=sum(prod(tensor.dims) for tensor in distinct),
        macs=macs,
        transform_macs=transform_macs,
        bytes_by_type=dict(sorted(bytes_by_type.items())),
        int8_weight_fraction=(bytes_by_type["int8"] + bytes_by_type["uint8"]) / max(bytes_by_type.total(), 1),
    )


def find_variables(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the initializers that are variables of layers."""
    stored = _stored(graph)
    biases = {tensor.name for tensor in graph.graph.initializer if tensor.dims}
    used = {stored[name] for node in graph.graph.node for name in _variables_of(node) if name in stored}
    return used | {stored[name] for name in _added(graph) if stored.get(name) in biases}


def _variables_of(node: onnx.NodeProto) -> list[str]:
    places = (*_OPERANDS.get(node.op_type, ()), *_OTHERS.get(node.op_type, ()))
    return [node.input[place] for place in places if place < len(node.input)]


def _stored(graph: onnx.ModelProto) -> dict[str, str]:
    """Return, for every tensor that holds the numbers of one initializer, the name of that."""
    stored = {tensor.name: tensor.name for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type in _RESTORING and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]]
    return stored


def _added(graph: onnx.ModelProto) -> Iterator[str]:
    """Yield what is added to products; a scale or an offset of rows is not."""
    products: set[str] = set()
    for node in graph.graph.node:
        behind = not products.isdisjoint(node.input)
        if node.op_type in _OPERANDS or (behind and node.op_type in _RESCALING):
            products.update(node.output)
        elif behind and node.op_type == "Add":
            yield from node.input


def _scales(graph: onnx.ModelProto, variables: set[str]) -> set[str]:
    """Return the initializers that say which numbers the int8 ones of variables stand for."""
    stored, found = _stored(graph), set[str]()
    moving = {node.output[1] for node in graph.graph.node if node.op_type == "DynamicQuantizeLinear"}
    for node in graph.graph.node:
        if node.op_type == "DequantizeLinear" and stored.get(node.input[0]) in variables:
            found.update(node.input[1:])
        elif node.op_type in ("MatMulInteger", "ConvInteger"):
            found.update(node.input[3:])
        elif node.op_type == "Mul" and not moving.isdisjoint(node.input):
            found.update(node.input)
    return {name for name in found if stored.get(name) == name}


def _distinct(tensors: Iterable[onnx.TensorProto]) -> Iterator[onnx.TensorProto]:
    """Leave out kernels that hold the rows of another one in another order: one layer behind maps of two shapes.

    Equal values in equal order are two variables: that they are not shared is what is to be counted.
    """
    tensors = list(tensors)
    alike = Counter((tensor.data_type, *tensor.dims) for tensor in tensors)
    orders: dict[bytes, set[bytes]] = {}
    for tensor in tensors:
        if len(tensor.dims) == 2 and alike[(tensor.data_type, *tensor.dims)] > 1:
            rows = np.ascontiguousarray(numpy_helper.to_array(tensor))
            found, own = orders.setdefault(_digest(_in_order(rows)), set()), _digest(rows)
            if found and own not in found and rows.nbytes >= _SMALLEST_REORDERED_BYTES:
                continue
            found.add(own)
        yield tensor


def _in_order(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[np.lexsort(rows.T)]


def _digest(rows: NDArray[Any]) -> bytes:
    return hashlib.sha256(rows.tobytes()).digest()


def check_cost(network: Network, traced: Trace, graph: onnx.ModelProto) -> None:
    """Raise ExportMismatchError where a plain float graph holds or computes other than the layers' arithmetic says.

    A log-mel front is counted there as a fast transform, while the graph multiplies by its matrix: it is left out.
    """
    found = graph_cost(graph)
    fronts = sum(traced.macs_by_layer[layer.name] for layer in network.layers if isinstance(layer, LogMel))
    expected = (traced.parameters, traced.macs - fronts)
    if (found.parameters, found.macs) != expected:
        raise ExportMismatchError(
            f"The exported graph holds {found.parameters:,} parameters and {found.macs} multiply-accumulates per row; "
            f"the network's arithmetic says {expected[0]:,} and {expected[1]}."
        )


def _work(graph: onnx.ModelProto) -> tuple[int | None, int | None]:
    """Return the multiply-accumulates per row by variables and by constants."""
    shapes, stored = _shapes(graph), _stored(graph)
    totals = {True: 0, False: 0}
    for node in graph.graph.node:
        operands = [node.input[place] for place in _OPERANDS.get(node.op_type, ())]
        if node.op_type == "BatchNormalization":
            operands = [node.input[0], node.input[1]]
        if not operands:
            continue
        count = _macs(node, operands, shapes)
        if count is None:
            return None, None
        totals[any(name in stored for name in operands)] += count
    return totals[True], totals[False]


def _macs(node: onnx.NodeProto, operands: Iterable[str], shapes: Shapes) -> int | None:
    data, weights = operands
    answer = node.output[0]
    if not {data, weights, answer} <= shapes.keys():
        return None
    if node.op_type == "BatchNormalization":
        each = 1
    elif "Conv" in node.op_type:
        each = prod(shapes[weights][1:])
    else:
        each = shapes[data][-1]
    return prod(shapes[answer]) * each


def _shapes(graph: onnx.ModelProto) -> Shapes:
    """Return the shape of every tensor for one row, as far as it can be told."""
    single = onnx.ModelProto()
    single.CopyFrom(graph)
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    inferred = shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        sizes = value.type.tensor_type.shape.dim
        if all(size.HasField("dim_value") for size in sizes):
            shapes[value.name] = tuple(size.dim_value for size in sizes)
    return shapes
