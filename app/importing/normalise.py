"""Bring a foreign graph into our form: input `x`, opset 20, outputs `probabilities`, `logits` or `prediction`."""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from app.domain.datasets import DatasetSchema
from app.domain.import_errors import InvalidModelError
from app.domain.specs import GraphOptions
from app.importing.labels import own_classes
from app.importing.signature import BATCH, Feed, Taken, find_feed, find_taken
from app.serving.alignment import align
from app.serving.graph import INPUT
from app.serving.graph_parts import IR_VERSION, OPSET
from app.serving.opsets import opsets_of

_PREFIX = "imported/"


class Normalised(NamedTuple):
    """Hold a graph in our form, how it is fed, what of the foreign one is its answer, and in which order of classes.

    `classes` is None where nothing tells an order: then it is taken to be the data set's.
    """

    graph: onnx.ModelProto
    feed: Feed
    taken: Taken
    classes: list[str] | None


def normalise(model: onnx.ModelProto, schema: DatasetSchema, options: GraphOptions) -> Normalised:
    """Return the graph as it will be served, its classes in the order of the data set.

    Where nothing tells probabilities from logits the answer is taken for probabilities, and `taken.answers` is None.
    Raise InvalidModelError or ShapeMismatchError.
    """
    graph = _opened(_converted(model))
    feed, taken = find_feed(graph, schema), find_taken(graph, schema, options)
    normalised = _rewired(graph, feed, taken, schema)
    classes = options.classes or own_classes(model, schema.classes)
    if classes is not None:
        normalised = align(normalised, classes, schema.classes)
    return Normalised(normalised, feed, taken, classes)


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    opsets = opsets_of(model)
    if opsets.get("", OPSET) == OPSET:
        return model
    try:
        converted: onnx.ModelProto = version_converter.convert_version(model, OPSET)
    except Exception:  # noqa: BLE001 - the converter raises whatever it likes
        raise InvalidModelError(
            f"The graph cannot be converted from opset {opsets['']} to {OPSET}.", hint=f"Export it with opset {OPSET}."
        ) from None
    return converted


def _opened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with an open batch axis and without the shapes that were inferred for a fixed one."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    stored = {tensor.name for tensor in opened.graph.initializer}
    inputs = [value for value in opened.graph.input if value.name not in stored]
    for value in inputs:
        axes = value.type.tensor_type.shape.dim
        if axes and axes[0].dim_value in {0, 1}:
            axes[0].dim_param = BATCH
    if len(inputs) == 1 and _fixed(model, inputs[0].name):
        for output in opened.graph.output:
            output.type.tensor_type.ClearField("shape")
    del opened.graph.value_info[:]
    return opened


def _fixed(model: onnx.ModelProto, name: str) -> bool:
    axes = next(value for value in model.graph.input if value.name == name).type.tensor_type.shape.dim
    return bool(axes) and axes[0].dim_value == 1


def _rewired(model: onnx.ModelProto, feed: Feed, taken: Taken, schema: DatasetSchema) -> onnx.ModelProto:
    inner = compose.add_prefix_graph(model.graph, _PREFIX)
    needed = [taken.tensor, *([taken.logits] if taken.logits else [])]
    body = _reachable(list(inner.node), {_PREFIX + name for name in needed})
    first, constants = _feeding(feed)
    last = _answering(taken, constants)
    stored = {tensor.name: tensor for tensor in inner.initializer}
    used = sorted({name for node in body for name in node.input if name in stored})
    names = [name for node in last for name in node.output if name in {"probabilities", "logits", "prediction"}]
    row_type = TensorProto.UINT8 if schema.features == "text" else TensorProto.FLOAT
    graph = helper.make_graph(
        [*first, *body, *last],
        "imported",
        [helper.make_tensor_value_info(INPUT, row_type, [BATCH, *schema.shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, schema.outputs]) for name in names],
        [*(stored[name] for name in used), *constants],
    )
    made: onnx.ModelProto = helper.make_model(
        graph, opset_imports=_opsets(model, body), ir_version=IR_VERSION, producer_name="leanfuse"
    )
    try:
        onnx.checker.check_model(made)
    except Exception:  # noqa: BLE001 - the checker raises whatever it likes
        raise InvalidModelError(
            f"The graph is not valid under opset {OPSET}.", hint=f"Export it with opset {OPSET}."
        ) from None
    return made


def _opsets(model: onnx.ModelProto, body: list[onnx.NodeProto]) -> list[onnx.OperatorSetIdProto]:
    further = {node.domain for node in body} - {""}
    versions = {"": OPSET} | {domain: opsets_of(model)[domain] for domain in sorted(further)}
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]


def _reachable(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that the wanted tensors are made by, in order; the rest, such as labels, is left out."""
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _feeding(feed: Feed) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Return the nodes from `x` to what the graph takes, and their constants."""
    nodes, constants, name = list[onnx.NodeProto](), list[TensorProto](), INPUT
    if feed.channels_first:
        nodes.append(_node("Transpose", [name], "rows/moved", perm=[0, feed.rank - 1, *range(1, feed.rank - 1)]))
    if feed.shape is not None:
        constants.append(_constant("rows/shape", [-1, *feed.shape]))
        nodes.append(_node("Reshape", [name, "rows/shape"], "rows/shaped"))
    name = nodes[-1].output[0] if nodes else INPUT
    nodes.append(_node("Cast", [name], _PREFIX + feed.name, to=feed.element))
    return nodes, constants


def _answering(taken: Taken, constants: list[TensorProto]) -> list[onnx.NodeProto]:
    """Return the nodes from the taken tensor to our outputs."""
    source = _PREFIX + taken.tensor
    if taken.answers == "prediction":
        constants.append(_constant("answer/shape", [-1, 1]))
        return [
            _node("Cast", [source], "answer/float", to=TensorProto.FLOAT),
            _node("Reshape", ["answer/float", "answer/shape"], "prediction"),
        ]
    if taken.answers == "logits":
        cast = _node("Cast", [source], "logits", to=TensorProto.FLOAT)
        return [cast, _node("Softmax", ["logits"], "probabilities", axis=-1)]
    nodes = [_node("Cast", [source], "probabilities", to=TensorProto.FLOAT)]
    if taken.logits:
        nodes.append(_node("Cast", [_PREFIX + taken.logits], "logits", to=TensorProto.FLOAT))
    return nodes


def _node(operator: str, inputs: list[str], output: str, **attributes: int | list[int]) -> onnx.NodeProto:
    made: onnx.NodeProto = helper.make_node(operator, inputs, [output], name=output, **attributes)
    return made


def _constant(name: str, values: list[int]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)
