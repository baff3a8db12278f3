"""The gradients of a network's loss, batch by batch, on every Keras backend."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.domain.layers import Dropout
from app.domain.network import Network
from app.domain.surgery.rewriting import rewrite
from worker.nn.architectures import Weights, build_model, load_weights, variables_by_name
from worker.nn.data import Plan, Rows, relative_weights
from worker.nn.objectives import Objective
from worker.nn.optimizers import WeightedMean
from worker.nn.training import make_deterministic

Tensor = keras.KerasTensor


class _WriteGradients(keras.optimizers.Optimizer):
    """Write every variable's gradient in the variable's place."""

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:  # noqa: ARG002 - Keras calls it so
        # A sum, since what an embedding gives on TensorFlow is no array; JAX takes no variables for arrays.
        self.assign(variable, ops.add(ops.zeros_like(ops.convert_to_tensor(variable)), gradient))


def batch_gradients(
    network: Network, weights: Weights, rows: Rows, objective: Objective, *, seed: int, batch_size: int, batches: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the gradients of the loss, its mean by row weight, by "weights/variable", on the first batches of an epoch.

    Batch normalization takes each batch's own statistics, as in training; dropout is off.
    """
    make_deterministic(seed)
    model = build_model(_without_dropout(network), weights, seed=seed)
    model.compile(optimizer=_WriteGradients(learning_rate=1.0, name="write_gradients"), loss=WeightedMean(objective))
    weight = relative_weights(rows)
    places = Plan(rows.count, batch_size, 1, seed).batches_of(0)[:batches]
    for chosen in places if rows.chosen is None else (rows.chosen[batch] for batch in places):
        load_weights(model, weights)
        own = None if weight is None else weight[chosen]
        x = rows.train_x[chosen].astype(model.inputs[0].dtype)
        model.train_on_batch(x, rows.train_targets[chosen], sample_weight=own)
        yield _trainable(model)


def _without_dropout(network: Network) -> Network:
    return rewrite(
        network, lambda layer: [layer.model_copy(update={"rate": 0.0} if isinstance(layer, Dropout) else {})]
    )


def _trainable(model: keras.Model) -> dict[str, NDArray[Any]]:
    return {
        name: ops.convert_to_numpy(variable)
        for name, variable in variables_by_name(model).items()
        if variable.trainable
    }
