"""Fold and tidy ONNX graphs, so that a small file is not mostly names."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from app.serving.graph_parts import IR_VERSION
from worker.graph_cost import find_variables

Tensors = Mapping[str, onnx.TensorProto]


def fold_batch_norms(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with every batch normalization multiplied into the Conv or Gemm before it, where that is exact.

    A kernel that several nodes use is left alone: folding would make as many kernels of it.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(graph)
    values = {tensor.name: tensor for tensor in folded.graph.initializer}
    makers = {name: node for node in folded.graph.node for name in node.output}
    uses = count_uses(folded)
    for norm in [node for node in folded.graph.node if node.op_type == "BatchNormalization"]:
        maker = makers.get(norm.input[0])
        if maker is not None and _can_fold(norm, maker, values, uses):
            _fold(folded.graph, norm, maker, values)
    _drop_unused(folded)
    return folded


def count_uses(graph: onnx.ModelProto) -> Counter[str]:
    """Count how often each tensor is read; being an output of the graph counts too."""
    names = [name for node in graph.graph.node for name in node.input]
    return Counter(names + [output.name for output in graph.graph.output])


def _can_fold(norm: onnx.NodeProto, maker: onnx.NodeProto, values: Tensors, uses: Counter[str]) -> bool:
    if maker.op_type not in ("Conv", "Gemm") or uses[norm.input[0]] > 1 or uses[maker.input[1]] > 1:
        return False
    return {*maker.input[1:], *norm.input[1:]} <= set(values)


def _fold(graph: onnx.GraphProto, norm: onnx.NodeProto, maker: onnx.NodeProto, values: Tensors) -> None:
    gamma, beta, mean, variance = (numpy_helper.to_array(values[name]).astype(np.float64) for name in norm.input[1:5])
    scale = gamma / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    kernel = values[maker.input[1]]
    numbers = numpy_helper.to_array(kernel)
    bias = numpy_helper.to_array(values[maker.input[2]]) if len(maker.input) > 2 else np.zeros_like(mean)
    axis = channel_axis(maker)
    along = [-1 if place == axis else 1 for place in range(numbers.ndim)]
    kernel.CopyFrom(numpy_helper.from_array((numbers * scale.reshape(along)).astype(np.float32), kernel.name))
    name = f"{norm.output[0]}/bias"
    graph.initializer.append(numpy_helper.from_array(((bias - mean) * scale + beta).astype(np.float32), name))
    operands = [*maker.input[:2], name]
    maker.ClearField("input")
    maker.input.extend(operands)
    maker.output[0] = norm.output[0]
    graph.node.remove(norm)


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """Return a number among a node's attributes."""
    return next((float(helper.get_attribute_value(entry)) for entry in node.attribute if entry.name == name), default)


def channel_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a kernel along which the channels lie that the node answers."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def _drop_unused(graph: onnx.ModelProto) -> None:
    uses = count_uses(graph)
    kept = [tensor for tensor in graph.graph.initializer if uses[tensor.name]]
    graph.graph.ClearField("initializer")
    graph.graph.initializer.extend(kept)


def tidy(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without what does not compute: notes, shapes of inner tensors, long names, zero points of 0.

    Inputs and outputs keep their names.
    """
    tidied = onnx.ModelProto()
    tidied.CopyFrom(graph)
    for field in ("value_info", "doc_string", "metadata_props"):
        tidied.graph.ClearField(field)
    for field in ("metadata_props", "doc_string"):
        tidied.ClearField(field)
    tidied.producer_name, tidied.producer_version = "leanfuse", ""
    tidied.ir_version = IR_VERSION
    _drop_zero_points(tidied)
    _merge_equal(tidied)
    _drop_unused(tidied)
    _shorten_names(tidied)
    _keep_used_domains(tidied)
    onnx.checker.check_model(tidied)
    return tidied


def _drop_zero_points(graph: onnx.ModelProto) -> None:
    """Leave out the zero points of biases: they are zero, which is what a missing one means.

    Those of int8 weights stay, because ONNX Runtime computes a layer in int8 only when it sees them.
    """
    zeros = {
        tensor.name
        for tensor in graph.graph.initializer
        if tensor.data_type == TensorProto.INT32 and not numpy_helper.to_array(tensor).any()
    }
    stored = {tensor.name for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored and node.input[2:] and node.input[2] in zeros:
            del node.input[2]


def _merge_equal(graph: onnx.ModelProto) -> None:
    """Let constants of equal content be one; variables of equal values are not shared, and stay as many as they are."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    names = {}
    variables = find_variables(graph)
    for tensor in graph.graph.initializer:
        if tensor.name in variables:
            continue
        key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        names[tensor.name] = first.setdefault(key, tensor.name)
    _rename(graph, names)


def _rename(graph: onnx.ModelProto, names: Mapping[str, str]) -> None:
    for node in graph.graph.node:
        for field in (node.input, node.output):
            renamed = [names.get(name, name) for name in field]
            del field[:]
            field.extend(renamed)


def _shorten_names(graph: onnx.ModelProto) -> None:
    body = graph.graph
    kept = {value.name for value in (*body.input, *body.output)} | {""}
    fresh = (name for name in _short_names() if name not in kept)
    found = [tensor.name for tensor in body.initializer] + [name for node in body.node for name in node.output]
    names = {name: next(fresh) for name in dict.fromkeys(found) if name not in kept}
    for node in body.node:
        node.ClearField("name")
        node.ClearField("doc_string")
    for tensor in body.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
        tensor.ClearField("doc_string")
    _rename(graph, names)


def _short_names() -> Iterator[str]:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    yield from digits
    for name in _short_names():
        yield from (name + digit for digit in digits)


def _keep_used_domains(graph: onnx.ModelProto) -> None:
    used = {node.domain for node in graph.graph.node}
    versions = {entry.domain: entry.version for entry in graph.opset_import if entry.domain in used}
    graph.ClearField("opset_import")
    graph.opset_import.extend(helper.make_opsetid(domain, versions[domain]) for domain in sorted(versions))
