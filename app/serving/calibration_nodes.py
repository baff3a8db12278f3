"""The nodes of temperatures and prediction sets."""

from collections.abc import Callable

from onnx import NodeProto, TensorProto

from app.domain.calibration import SMALLEST_CONFIDENCE
from app.serving.meta_nodes import node

Constant = Callable[[str, object], str]


def temperature_nodes(source: str, target: str, temperature: float, constant: Constant) -> list[NodeProto]:
    """Return the nodes from probabilities to softmax(log p / temperature); for a temperature of 1 they only rename."""
    if temperature == 1.0:
        return [node("Identity", [source], target)]
    limits = [constant("smallest_confidence", SMALLEST_CONFIDENCE), constant("largest", 1.0)]
    return [
        node("Clip", [source, *limits], f"{target}.clipped"),
        node("Log", [f"{target}.clipped"], f"{target}.log"),
        node("Mul", [f"{target}.log", constant(f"{target}.inverse_temperature", 1 / temperature)], f"{target}.scaled"),
        node("Softmax", [f"{target}.scaled"], target, axis=-1),
    ]


def set_nodes(probabilities: str, target: str, level: float, constant: Constant) -> list[NodeProto]:
    """Return the nodes that answer 1 for every class whose probability is at least `level`, else 0."""
    return [
        node("GreaterOrEqual", [probabilities, constant("conformal.level", level - 1e-6)], f"{target}.bool"),
        node("Cast", [f"{target}.bool"], target, to=TensorProto.FLOAT),
    ]
