"""Export networks to ONNX by our own lowering, and prove that the graph computes what the model computes."""

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.domain.fusion import softmax
from app.domain.job_errors import ExportMismatchError
from app.domain.network import INPUT, Network, trace
from app.serving.graph import INPUT as GRAPH_INPUT
from app.serving.graph_parts import IR_VERSION, OPSET
from app.serving.runtime import load_engine, predict_rows
from worker.nn.lowering import Graph, Value, channels_last, lower

if TYPE_CHECKING:
    import keras

    from worker.nn.architectures import Weights


def to_onnx(network: Network, weights: "Weights") -> onnx.ModelProto:
    """Return the ONNX graph of a network and its weights ("weights/variable" -> values), opset 20.

    It takes `x`, raw rows (batch, *row shape) of float32 (text: uint8), and answers `logits` and `probabilities`
    (batch, classes), or `prediction` (batch, 1). A shared variable is one initializer.
    """
    traced = trace(network)
    graph = Graph(weights)
    values = {INPUT: Value(GRAPH_INPUT, network.input.shape)}
    for layer in network.layers:
        inputs = [values[name] for name in layer.inputs]
        values[layer.name] = lower(graph, layer, inputs, traced.shapes[layer.name])
    answer = channels_last(graph, values[network.layers[-1].name]).name
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph(
            [*graph.nodes, *_answer_nodes(network, answer)],
            "network",
            [
                _tensor(
                    GRAPH_INPUT,
                    TensorProto.UINT8 if network.input.dtype == "uint8" else TensorProto.FLOAT,
                    network.input.shape,
                )
            ],
            [_tensor(name, TensorProto.FLOAT, (network.classes,)) for name in output_names(network)],
            list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="leanfuse",
    )
    onnx.checker.check_model(model)
    return model


def output_names(network: Network) -> tuple[str, ...]:
    """Return what a network's graph answers, the main answer first."""
    return ("probabilities", "logits") if network.task == "classification" else ("prediction",)


def _answer_nodes(network: Network, answer: str) -> list[onnx.NodeProto]:
    if network.task == "regression":
        return [helper.make_node("Identity", [answer], ["prediction"], name="prediction")]
    return [
        helper.make_node("Identity", [answer], ["logits"], name="logits"),
        helper.make_node("Softmax", [answer], ["probabilities"], name="probabilities", axis=-1),
    ]


def _tensor(name: str, kind: int, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", *shape])


def check_parity(model: "keras.Model", graph: onnx.ModelProto, rows: NDArray[Any], *, tolerance: float = 1e-4) -> float:
    """Return the largest difference between the Keras model and its graph on raw rows (rows, *shape).

    The model must not have answered anything before: on a GPU it would go on in the arithmetic that it was compiled in.
    Probabilities are compared as they are, predictions in units of the largest one if that exceeds 1. Raise
    ExportMismatchError beyond the tolerance or where one of the two is not a number.
    """
    from worker.nn.architectures import predict
    from worker.nn.exactness import full_float32

    engine = load_engine(graph.SerializeToString())
    with full_float32():
        answers = predict(model, rows).astype(np.float64)
    if "prediction" in engine.outputs:
        expected, scale = answers, max(1.0, float(np.abs(answers).max(initial=0)))
        found = predict_rows(engine, rows, "prediction")
    else:
        expected, scale = softmax(answers), 1.0
        found = predict_rows(engine, rows, "probabilities")
    difference = float(np.abs(expected - found).max(initial=0)) / scale
    if not difference <= tolerance:
        raise ExportMismatchError(
            f"The exported graph differs from the model by {difference:.3g}; at most {tolerance:g} is accepted.",
            hint="Weights that grew very large lose precision: train with a lower learning rate or clip the gradient.",
        )
    return difference
