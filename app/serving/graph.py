"""Compile an ensemble into one ONNX graph: members share the input, and the fusion is inside."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.domain.errors import InvalidEnsembleError, ShapeMismatchError
from app.domain.fusion import SMALLEST_PROBABILITY, normalised
from app.serving.opsets import merge_opsets

OPSET = 20
IR_VERSION = 10
INPUT = "x"


@dataclass(frozen=True)
class WeightedMean:
    """Fuse to sum_m w_m p_m, the weights scaled to sum to 1 (parallel fusion)."""

    weights: tuple[float, ...]


@dataclass(frozen=True)
class LogitSum:
    """Fuse to softmax(sum_m w_m z_m), the weights as they are (serial fusion)."""

    weights: tuple[float, ...]


@dataclass(frozen=True)
class MetaLearner:
    """Fuse by a linear meta-learner on the members' values side by side, member by member (stacking).

    For a classification these are log-probabilities: kernel (members * classes, classes), bias (classes,). For a
    regression they are predictions: kernel (members, 1), bias (1,).
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


Fusion: TypeAlias = WeightedMean | LogitSum | MetaLearner
Answer: TypeAlias = Literal["probabilities", "logits", "prediction"]


def fuse(members: Sequence[onnx.ModelProto], fusion: Fusion) -> onnx.ModelProto:
    """Return one graph of all members and their fusion; initializers of equal content are stored once.

    It takes `x` and answers `probabilities` (LogitSum and MetaLearner also `logits`), for a regression `prediction`,
    and `member.{i}.probabilities`, `member.{i}.logits` (LogitSum) or `member.{i}.prediction` of every member. Raise
    ShapeMismatchError or InvalidEnsembleError when the members do not fit together.
    """
    _check_members(members, fusion)
    taken = _taken_output(members[0], fusion)
    nodes: list[onnx.NodeProto] = []
    store = _Initializers()
    for index, member in enumerate(members):
        nodes += _embed(member, f"member.{index}.", store)
    answers = [f"member.{index}.{taken}" for index in range(len(members))]
    size = _width(members[0], taken)
    nodes += _fusing_nodes(fusion, answers, taken, store)
    fused = ["prediction"] if taken == "prediction" else ["probabilities"]
    if not isinstance(fusion, WeightedMean) and taken != "prediction":
        fused.append("logits")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name in [*fused, *answers]]
    graph = helper.make_graph(nodes, "ensemble", [members[0].graph.input[0]], outputs, store.tensors)
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=merge_opsets(members, opset=OPSET), ir_version=IR_VERSION, producer_name="leanfuse"
    )
    onnx.checker.check_model(model)
    return model


def _taken_output(member: onnx.ModelProto, fusion: Fusion) -> Answer:
    if "prediction" in _output_names(member):
        return "prediction"
    return "logits" if isinstance(fusion, LogitSum) else "probabilities"


def _output_names(member: onnx.ModelProto) -> list[str]:
    return [output.name for output in member.graph.output]


def _signature(value: onnx.ValueInfoProto) -> tuple[int, tuple[int, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(axis.dim_value for axis in tensor.shape.dim[1:])


def _width(member: onnx.ModelProto, output: str) -> int:
    found = next(value for value in member.graph.output if value.name == output)
    return _signature(found)[1][0]


def _check_members(members: Sequence[onnx.ModelProto], fusion: Fusion) -> None:
    if not members:
        raise InvalidEnsembleError("An ensemble needs at least one member.")
    first = members[0]
    taken = _taken_output(first, fusion)
    for index, member in enumerate(members):
        if taken not in _output_names(member):
            raise InvalidEnsembleError(
                f"Member {index} answers {', '.join(_output_names(member))}; this fusion needs {taken}.",
                hint="Fuse members of one task; a serial ensemble needs members that answer logits.",
            )
        if _signature(member.graph.input[0]) != _signature(first.graph.input[0]):
            raise ShapeMismatchError(
                f"Member {index} takes rows of {_signature(member.graph.input[0])[1]}, "
                f"member 0 of {_signature(first.graph.input[0])[1]}."
            )
        if _width(member, taken) != _width(first, taken):
            raise ShapeMismatchError(
                f"Member {index} answers {_width(member, taken)} numbers per row, member 0 {_width(first, taken)}."
            )
    _check_numbers(fusion, members=len(members), width=_width(first, taken))


def _check_numbers(fusion: Fusion, *, members: int, width: int) -> None:
    if isinstance(fusion, MetaLearner):
        if fusion.kernel.shape != (members * width, width) or fusion.bias.shape != (width,):
            raise ShapeMismatchError(
                f"The meta-learner has a kernel of {fusion.kernel.shape}; {(members * width, width)} is needed."
            )
    elif len(fusion.weights) != members:
        raise InvalidEnsembleError(f"{members} members need as many weights, not {len(fusion.weights)}.")


class _Initializers:
    """Keep every tensor content once, whatever its names."""

    def __init__(self) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self._names: dict[tuple[int, tuple[int, ...], bytes], str] = {}

    def add(self, tensor: onnx.TensorProto, name: str) -> str:
        """Store a tensor unless its content is stored already; return the name that it has."""
        array = numpy_helper.to_array(tensor)
        key = (tensor.data_type, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._names:
            self._names[key] = name
            stored = numpy_helper.from_array(array, name)
            self.tensors.append(stored)
        return self._names[key]

    def constant(self, name: str, values: object) -> str:
        """Store float32 numbers."""
        return self.add(numpy_helper.from_array(np.asarray(values, np.float32)), name)


def _embed(member: onnx.ModelProto, prefix: str, store: _Initializers) -> list[onnx.NodeProto]:
    """Return a member's nodes with every name of its own prefixed; its input becomes the ensemble's."""
    names: dict[str, str] = {member.graph.input[0].name: INPUT, "": ""}
    for tensor in member.graph.initializer:
        names[tensor.name] = store.add(tensor, prefix + tensor.name)
    return [_renamed(node, prefix, names) for node in member.graph.node]


def _renamed(node: onnx.NodeProto, prefix: str, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = prefix + (node.name or node.output[0])
    for field in (copy.input, copy.output):
        renamed = [names.get(name, prefix + name) for name in field]
        del field[:]
        field.extend(renamed)
    return copy


def _fusing_nodes(fusion: Fusion, answers: Sequence[str], taken: Answer, store: _Initializers) -> list[onnx.NodeProto]:
    if isinstance(fusion, MetaLearner):
        return _meta_nodes(fusion, answers, taken, store)
    weights = np.asarray(fusion.weights, np.float64)
    if isinstance(fusion, WeightedMean):
        weights = normalised(weights, len(answers))
    nodes = [
        _node("Mul", [answer, store.constant(f"weight.{index}", weight)], f"weighted.{index}")
        for index, (answer, weight) in enumerate(zip(answers, weights, strict=True))
    ]
    nodes.append(_node("Sum", [f"weighted.{index}" for index in range(len(answers))], taken))
    return nodes + ([_softmax()] if taken == "logits" else [])


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: int) -> onnx.NodeProto:
    node: onnx.NodeProto = helper.make_node(operator, list(inputs), [output], name=output, **attributes)
    return node


def _softmax() -> onnx.NodeProto:
    return _node("Softmax", ["logits"], "probabilities", axis=-1)


def _meta_nodes(
    fusion: MetaLearner, answers: Sequence[str], taken: Answer, store: _Initializers
) -> list[onnx.NodeProto]:
    learner = [store.constant("meta/kernel", fusion.kernel), store.constant("meta/bias", fusion.bias)]
    nodes = [_node("Concat", answers, "side_by_side", axis=1)]
    if taken == "prediction":
        return [*nodes, _node("Gemm", ["side_by_side", *learner], "prediction")]
    limits = [store.constant("smallest", SMALLEST_PROBABILITY), store.constant("largest", 1.0)]
    return [
        *nodes,
        _node("Clip", ["side_by_side", *limits], "clipped"),
        _node("Log", ["clipped"], "log_probabilities"),
        _node("Gemm", ["log_probabilities", *learner], "logits"),
        _softmax(),
    ]
