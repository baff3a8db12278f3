"""Compile an ensemble into one ONNX graph: members share the input, and the fusion is inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper

from app.domain.errors import InvalidEnsembleError, ShapeMismatchError
from app.domain.fusion import normalised
from app.serving.calibration_nodes import set_nodes, temperature_nodes
from app.serving.graph_parts import (
    Initializers,
    check_members,
    embed,
    graph_model,
    output_names,
    width_of,
)
from app.serving.meta_nodes import INPUT, MetaLearner, meta_nodes
from app.serving.meta_nodes import node as _node
from app.serving.meta_nodes import softmax_node as _softmax

__all__ = ["INPUT", "Fusion", "LogitSum", "MetaLearner", "WeightedMean", "fuse"]

PREDICTION_SET = "prediction_set"


@dataclass(frozen=True)
class WeightedMean:
    """Fuse to sum_m w_m p_m, the weights scaled to sum to 1 (parallel fusion).

    With `temperatures` every member's probabilities are softmax(log p_m / T_m) instead, and with `temperature` the sum
    becomes softmax(log p / T).
    """

    weights: tuple[float, ...]
    temperatures: tuple[float, ...] = ()
    temperature: float = 1.0


@dataclass(frozen=True)
class LogitSum:
    """Fuse to softmax(start + sum_m w_m z_m), the weights as they are (serial fusion); without a start it is 0."""

    weights: tuple[float, ...]
    start: tuple[float, ...] = ()


Fusion: TypeAlias = WeightedMean | LogitSum | MetaLearner
Answer: TypeAlias = Literal["probabilities", "logits", "prediction"]


def fuse(members: Sequence[onnx.ModelProto], fusion: Fusion, *, level: float | None = None) -> onnx.ModelProto:
    """Return one graph of all members and their fusion; initializers of equal content are stored once.

    It takes `x` and answers `probabilities` (LogitSum and MetaLearner also `logits`), for a regression `prediction`,
    and `member.{i}.probabilities`, `member.{i}.logits` (LogitSum) or `member.{i}.prediction` of every member. With a
    `level` it also answers `prediction_set`: 1 for every class whose probability is at least that, else 0. Raise
    ShapeMismatchError or InvalidEnsembleError when the members do not fit together.
    """
    _check_members(members, fusion)
    taken = _taken_output(members[0], fusion)
    nodes: list[onnx.NodeProto] = []
    store = Initializers()
    temperatures = fusion.temperatures if isinstance(fusion, WeightedMean) else ()
    for index, member in enumerate(members):
        nodes += embed(member, f"member.{index}.", store, raw=taken if temperatures else None)
        if temperatures:
            raw, own = (f"member.{index}.{name}" for name in (f"raw_{taken}", taken))
            nodes += temperature_nodes(raw, own, temperatures[index], store.constant)
    answers = [f"member.{index}.{taken}" for index in range(len(members))]
    size = width_of(members[0], taken)
    nodes += _fusing_nodes(fusion, answers, taken, store)
    fused = ["prediction"] if taken == "prediction" else ["probabilities"]
    if not isinstance(fusion, WeightedMean) and taken != "prediction":
        fused.append("logits")
    if level is not None:
        nodes += set_nodes("probabilities", PREDICTION_SET, level, store.constant)
        fused.append(PREDICTION_SET)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name in [*fused, *answers]]
    return graph_model(nodes, members, outputs, store)


def _taken_output(member: onnx.ModelProto, fusion: Fusion) -> Answer:
    if "prediction" in output_names(member):
        return "prediction"
    return "logits" if isinstance(fusion, LogitSum) else "probabilities"


def _check_members(members: Sequence[onnx.ModelProto], fusion: Fusion) -> None:
    if not members:
        raise InvalidEnsembleError("An ensemble needs at least one member.")
    taken = _taken_output(members[0], fusion)
    check_members(members, taken)
    _check_numbers(fusion, members=len(members), width=width_of(members[0], taken))


def _check_numbers(fusion: Fusion, *, members: int, width: int) -> None:
    if isinstance(fusion, MetaLearner):
        needed = (members * width + (fusion.passed.mean.size if fusion.passed else 0), width)
        if fusion.kernel.shape != needed or fusion.bias.shape != (width,):
            raise ShapeMismatchError(f"The meta-learner has a kernel of {fusion.kernel.shape}; {needed} is needed.")
    elif isinstance(fusion, WeightedMean) and len(fusion.temperatures) not in (0, members):
        raise InvalidEnsembleError(f"{members} members need as many temperatures, not {len(fusion.temperatures)}.")
    elif len(fusion.weights) != members:
        raise InvalidEnsembleError(f"{members} members need as many weights, not {len(fusion.weights)}.")
    elif isinstance(fusion, LogitSum) and len(fusion.start) not in (0, width):
        raise ShapeMismatchError(f"The sum starts from {len(fusion.start)} numbers; members answer {width}.")


def _fusing_nodes(fusion: Fusion, answers: Sequence[str], taken: Answer, store: Initializers) -> list[onnx.NodeProto]:
    if isinstance(fusion, MetaLearner):
        return meta_nodes(fusion, answers, taken, store.constant)
    weights = np.asarray(fusion.weights, np.float64)
    if isinstance(fusion, WeightedMean):
        weights = normalised(weights, len(answers))
    nodes = [
        _node("Mul", [answer, store.constant(f"weight.{index}", weight)], f"weighted.{index}")
        for index, (answer, weight) in enumerate(zip(answers, weights, strict=True))
    ]
    parts = [f"weighted.{index}" for index in range(len(answers))]
    if isinstance(fusion, LogitSum) and fusion.start:
        parts.append(store.constant("start", fusion.start))
    temperature = fusion.temperature if isinstance(fusion, WeightedMean) else 1.0
    if temperature != 1.0:
        nodes.append(_node("Sum", parts, f"raw_{taken}"))
        return nodes + temperature_nodes(f"raw_{taken}", taken, temperature, store.constant)
    nodes.append(_node("Sum", parts, taken))
    return nodes + ([_softmax()] if taken == "logits" else [])
