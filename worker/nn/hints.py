"""Let a layer of a student follow a layer of its teacher through a learned projection (FitNets, Romero et al. 2015).

The projection is trained with the student and belongs to neither: what is exported is the student alone.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import keras
import onnx
from keras import ops
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.domain.hints import HintShapes, averaging_matrix
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import INPUT, Network, next_named, trace
from app.serving.graph import INPUT as GRAPH_INPUT
from app.serving.graph_parts import IR_VERSION, OPSET
from app.serving.runtime import Engine, load_engine
from worker.nn.architectures import seed_of
from worker.nn.lowering import Graph, Value, channels_last, lower
from worker.nn.objectives import Objective

Tensor: TypeAlias = keras.KerasTensor
ACTIVATION = "activation"
PROJECTION = "hint.projection"


def activation_engine(network: Network, weights: Mapping[str, NDArray[Any]], layer: str) -> Engine:
    """Return an engine that answers `activation`, what a layer of a network gives for raw rows, channels last."""
    shapes = trace(network).shapes
    graph = Graph(weights)
    values = {INPUT: Value(GRAPH_INPUT, network.input.shape)}
    for part in network.layers:
        values[part.name] = lower(graph, part, [values[name] for name in part.inputs], shapes[part.name])
        if part.name == layer:
            break
    found = channels_last(graph, values[layer]).name
    graph.node("Identity", [found], ACTIVATION)
    kind = TensorProto.UINT8 if network.input.dtype == "uint8" else TensorProto.FLOAT
    taken = helper.make_tensor_value_info(GRAPH_INPUT, kind, ["batch", *network.input.shape])
    given = helper.make_tensor_value_info(ACTIVATION, TensorProto.FLOAT, ["batch", *shapes[layer]])
    made: onnx.ModelProto = helper.make_model(
        helper.make_graph(graph.nodes, "activation", [taken], [given], list(graph.initializers.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return load_engine(made.SerializeToString())


def with_hint(model: keras.Model, network: Network, layer: str, shapes: HintShapes, *, seed: int) -> keras.Model:
    """Return the model with the projected activation of a layer behind its answers: (rows, outputs + numbers).

    Both models have the same variables, and the new one those of the projection: one dense layer at every place,
    which is a convolution of one place. Layers of equally many channels need none.
    """
    followed = _at_places(_activation_of(model, network, layer), shapes)
    if shapes.needs_projection:
        start = keras.initializers.GlorotUniform(seed_of(seed, PROJECTION))
        followed = keras.layers.Dense(shapes.teacher[-1], kernel_initializer=start, name=PROJECTION)(followed)
    answers = ops.concatenate([model.output, ops.reshape(followed, (-1, shapes.numbers))], axis=-1)
    return keras.Model(model.inputs[0], answers, name="network.with_hint")


def hinted(objective: Objective, *, outputs: int, targets: int, weight: float) -> Objective:
    """Add weight times the mean squared difference of both activations to an objective.

    Answers are [the network's (rows, outputs) | the student's activation], targets [the objective's (rows, targets) |
    the teacher's activation]. Targets without an activation (selection rows) are judged by the objective alone.
    """

    def loss(wanted: Tensor, answers: Tensor) -> Tensor:
        own = objective.loss(wanted[:, :targets], answers[:, :outputs])
        if wanted.shape[-1] == targets:
            return own
        return own + weight * ops.mean(ops.square(wanted[:, targets:] - answers[:, outputs:]), axis=-1)

    judge = objective.correct

    def correct(wanted: Tensor, answers: Tensor) -> Tensor:
        return judge(wanted[:, :targets], answers[:, :outputs])

    return Objective(f"hinted_{objective.name}", loss, correct if judge else None)


def _at_places(tensor: Tensor, shapes: HintShapes) -> Tensor:
    """Average a student's maps (rows, places..., channels) down to the places that are compared."""
    if not shapes.places:
        return ops.mean(tensor, axis=tuple(range(1, len(shapes.student)))) if len(shapes.student) > 1 else tensor
    for axis, size in enumerate(shapes.places, 1):
        if shapes.student[axis - 1] != size:
            matrix = ops.convert_to_tensor(averaging_matrix(shapes.student[axis - 1], size).T)
            tensor = ops.moveaxis(ops.matmul(ops.moveaxis(tensor, axis, -1), matrix), -1, axis)
    return tensor


def _activation_of(model: keras.Model, network: Network, name: str) -> Tensor:
    """Return what a layer gives, behind its activation; a layer without one must not share its weights."""
    layer = next_named(network.layers, name)
    activation = getattr(layer, "activation", "linear")
    if activation != "linear" and layer.type != "activation":
        return model.get_layer(f"{name}.{activation}").output
    if sum(other.weights_name == layer.weights_name for other in network.layers) > 1:
        raise MethodNotApplicableError(
            f"The student's layer {name!r} shares its weights, so it stands in several places.",
            hint="Name the layer behind it, such as its normalization or activation.",
        )
    return model.get_layer(layer.weights_name).output
