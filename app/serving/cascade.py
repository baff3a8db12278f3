"""Compile a cascade into one ONNX graph that runs a dearer member only on the rows that the ones before leave to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from app.domain.errors import InvalidEnsembleError
from app.serving.calibration_nodes import temperature_nodes
from app.serving.graph_parts import Initializers, check_members, embed, graph_model, width_of
from app.serving.meta_nodes import INPUT, node

ANSWERED_BY = "answered_by"


@dataclass(frozen=True)
class Cascade:
    """Ask the members in order; each answers the rows of which it is sure by its threshold, the last one the rest.

    Sure is a largest probability, after the member's temperature, of at least the threshold.
    """

    thresholds: tuple[float, ...]
    temperatures: tuple[float, ...]


def cascade_graph(members: Sequence[onnx.ModelProto], fusion: Cascade) -> onnx.ModelProto:
    """Return one graph that takes `x` and answers `probabilities`, `answered_by` and `member.0.probabilities`.

    `answered_by` (batch,) is the place of the member that answered. Raise InvalidEnsembleError or ShapeMismatchError
    when the members do not fit together.
    """
    check_members(members, "probabilities")
    if len(members) < 2 or len(fusion.thresholds) != len(members) - 1 or len(fusion.temperatures) != len(members):
        raise InvalidEnsembleError(
            f"A cascade of {len(members)} members needs {len(members) - 1} thresholds and {len(members)} temperatures."
        )
    store = Initializers()
    first = "member.0.probabilities"
    nodes = _asked(members[0], 0, fusion, INPUT, first, store)
    nodes += _place_nodes(first, "place.0", store)
    nodes += _left_to(members, 1, fusion, _Rows(INPUT, first, "place.0"), _Answers("probabilities", ANSWERED_BY), store)
    classes = width_of(members[0], "probabilities")
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes]),
        helper.make_tensor_value_info(first, TensorProto.FLOAT, ["batch", classes]),
        helper.make_tensor_value_info(ANSWERED_BY, TensorProto.FLOAT, ["batch"]),
    ]
    return graph_model(nodes, members, outputs, store)


@dataclass(frozen=True)
class _Rows:
    """Name the tensors of the rows that have come so far: inputs, answers, and who gave them."""

    inputs: str
    answers: str
    places: str


@dataclass(frozen=True)
class _Answers:
    """Name the tensors that a step leaves behind."""

    answers: str
    places: str


def _asked(
    member: onnx.ModelProto, index: int, fusion: Cascade, inputs: str, target: str, store: Initializers
) -> list[NodeProto]:
    """Return the nodes that let a member answer rows, by its temperature."""
    raw = f"member.{index}.raw_probabilities"
    nodes = embed(member, f"member.{index}.", store, raw="probabilities", inputs=inputs)
    return nodes + temperature_nodes(raw, target, fusion.temperatures[index], store.constant)


def _place_nodes(answers: str, target: str, store: Initializers, place: int = 0) -> list[NodeProto]:
    """Return the nodes that say of every row that the member `place` answered it."""
    return [
        node("ReduceMax", [answers, store.integers("axis.1", [1])], f"{target}.largest", keepdims=0),
        node("Mul", [f"{target}.largest", store.constant("zero", 0.0)], f"{target}.zeros"),
        node("Add", [f"{target}.zeros", store.constant(f"member.{place}.place", float(place))], target),
    ]


def _left_to(
    members: Sequence[onnx.ModelProto], index: int, fusion: Cascade, rows: _Rows, made: _Answers, store: Initializers
) -> list[NodeProto]:
    """Return the nodes that leave unsure rows to member `index`, in a branch that runs only if there are any."""
    gate = f"gate.{index}"
    threshold = store.constant(f"{gate}.threshold", np.float32(fusion.thresholds[index - 1]))
    axis = store.integers("axis.1", [1])
    return [
        node("ReduceMax", [rows.answers, axis], f"{gate}.largest", keepdims=0),
        node("Less", [f"{gate}.largest", threshold], f"{gate}.unsure"),
        node("NonZero", [f"{gate}.unsure"], f"{gate}.found"),
        node("Squeeze", [f"{gate}.found", store.integers("axis.0", [0])], f"{gate}.rows"),
        node("Size", [f"{gate}.rows"], f"{gate}.count"),
        node("Greater", [f"{gate}.count", store.integers("none", 0)], f"{gate}.any"),
        helper.make_node(
            "If",
            [f"{gate}.any"],
            [made.answers, made.places],
            name=gate,
            then_branch=_asking(members, index, fusion, rows, store),
            else_branch=_keeping(index, rows),
        ),
    ]


def _asking(
    members: Sequence[onnx.ModelProto], index: int, fusion: Cascade, rows: _Rows, store: Initializers
) -> onnx.GraphProto:
    """Return the branch that gathers the unsure rows, asks the member, and puts its answers in their places."""
    gate = f"gate.{index}"
    own = _Rows(f"{gate}.inputs", f"member.{index}.probabilities", f"place.{index}")
    nodes = [node("Gather", [rows.inputs, f"{gate}.rows"], own.inputs, axis=0)]
    nodes += _asked(members[index], index, fusion, own.inputs, own.answers, store)
    nodes += _place_nodes(own.answers, own.places, store, index)
    found = _Answers(own.answers, own.places)
    if index + 1 < len(members):
        found = _Answers(f"{gate}.answers", f"{gate}.places")
        nodes += _left_to(members, index + 1, fusion, own, found, store)
    nodes += [
        node("Unsqueeze", [f"{gate}.rows", store.integers("axis.1", [1])], f"{gate}.indices"),
        node("ScatterND", [rows.answers, f"{gate}.indices", found.answers], f"{gate}.then.answers"),
        node("ScatterND", [rows.places, f"{gate}.indices", found.places], f"{gate}.then.places"),
    ]
    return _branch(nodes, f"{gate}.then")


def _keeping(index: int, rows: _Rows) -> onnx.GraphProto:
    """Return the branch that leaves everything as it is."""
    name = f"gate.{index}.else"
    nodes = [node("Identity", [rows.answers], f"{name}.answers"), node("Identity", [rows.places], f"{name}.places")]
    return _branch(nodes, name)


def _branch(nodes: Sequence[NodeProto], name: str) -> onnx.GraphProto:
    outputs = [
        helper.make_tensor_value_info(f"{name}.answers", TensorProto.FLOAT, None),
        helper.make_tensor_value_info(f"{name}.places", TensorProto.FLOAT, None),
    ]
    return helper.make_graph(list(nodes), name, [], outputs)
