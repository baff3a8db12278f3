"""Statistics of batch normalization that fit the weights: those of averaged weights are no average of statistics."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.layers import BatchNorm, Dropout
from app.domain.network import Network
from worker.nn.architectures import build_model, variables_by_name
from worker.nn.data import Array, Plan, read_rows
from worker.nn.training import make_deterministic

Weights = Mapping[str, NDArray[Any]]
STATISTICS_ROWS = 256
MOVING = ("moving_mean", "moving_variance")


def is_normalized(network: Network) -> bool:
    """Say whether a network has statistics of batches at all."""
    return any(isinstance(layer, BatchNorm) for layer in network.layers)


def recompute_statistics(network: Network, weights: Weights, rows: Array, *, seed: int) -> dict[str, NDArray[Any]]:
    """Return the weights with moving means and variances of raw rows (rows, *shape) (Izmailov et al. 2018).

    The rows pass once, in batches of random rows, each normalized by its own mean and variance; what is kept is the
    mean of these over all batches, by their rows. Dropout is off, as it is in use.
    """
    make_deterministic(seed)
    model = build_model(_without_dropout(network), weights, seed=seed)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0  # after each batch the variables hold its statistics alone
    names = [f"{norm.name}/{kind}" for norm in norms for kind in MOVING]
    variables = variables_by_name(model)
    sums = {name: np.zeros(weights[name].shape) for name in names}
    for places in Plan(len(rows), STATISTICS_ROWS, 1, seed).batches_of(0):
        model(read_rows(rows, places).astype(model.inputs[0].dtype), training=True)
        for name in names:
            sums[name] += len(places) * keras.ops.convert_to_numpy(variables[name])
    return {**weights, **{name: (total / len(rows)).astype(weights[name].dtype) for name, total in sums.items()}}


def _without_dropout(network: Network) -> Network:
    layers = [
        layer.model_copy(update={"rate": 0.0}) if isinstance(layer, Dropout) else layer for layer in network.layers
    ]
    return network.model_copy(update={"layers": tuple(layers)})
