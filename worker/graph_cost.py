"""Count what a served graph holds and computes from the graph itself, as a check on the arithmetic over layers.

Variables of layers are called `weights/variable`; whatever has another name is a constant of the export.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import onnx
from onnx import helper, shape_inference

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
_STATISTICS = ("/mean", "/deviation")
_SCALING = ("_scale", "_zero_point")
_ORDER = re.compile(r"\.of_\d+(x\d+)*$")  # a kernel whose rows follow the order of flattened maps
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class GraphCost:
    """Hold what a graph costs.

    `parameters` counts every variable once, whatever its type; `macs` multiply-accumulates per row by variables, and
    `transform_macs` those by constants, such as a Fourier transform's; None where shapes cannot be told.
    `int8_weight_fraction` is the share of the variables' bytes that are int8.
    """

    parameters: int
    macs: int | None
    transform_macs: int | None
    bytes_by_type: dict[str, int]
    int8_weight_fraction: float


def graph_cost(graph: onnx.ModelProto) -> GraphCost:
    """Count a graph's parameters and work."""
    sizes: dict[str, int] = {}
    bytes_by_type: dict[str, int] = {}
    for tensor in graph.graph.initializer:
        if _is_variable(tensor.name):
            size, kind = prod(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type)
            bytes_by_type[kind.name] = bytes_by_type.get(kind.name, 0) + size * kind.itemsize
            if not tensor.name.endswith(_SCALING):
                sizes[_ORDER.sub("", tensor.name)] = size
    small = sum(bytes_by_type.get(name, 0) for name in ("int8", "uint8"))
    macs, transform_macs = _work(graph)
    return GraphCost(
        parameters=sum(sizes.values()),
        macs=macs,
        transform_macs=transform_macs,
        bytes_by_type=dict(sorted(bytes_by_type.items())),
        int8_weight_fraction=small / max(sum(bytes_by_type.values()), 1),
    )


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


def _is_variable(name: str) -> bool:
    return "/" in name and not name.endswith(_STATISTICS)


def _work(graph: onnx.ModelProto) -> tuple[int | None, int | None]:
    """Return the multiply-accumulates per row by variables and by constants."""
    shapes = _shapes(graph)
    roots = _roots(graph)
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
        totals[any(_is_variable(root) for name in operands for root in roots.get(name, ()))] += count
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


def _roots(graph: onnx.ModelProto) -> dict[str, frozenset[str]]:
    """Return, for every tensor that does not depend on the row, the initializers that it is made of."""
    roots = {tensor.name: frozenset([tensor.name]) for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        taken = [name for name in node.input if name]
        if all(name in roots for name in taken):
            made = frozenset().union(*(roots[name] for name in taken))
            roots |= dict.fromkeys(node.output, made)
    return roots
