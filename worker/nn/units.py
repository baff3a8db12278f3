"""The units in which a regression is learned: those in which its train targets have the mean 0 and the deviation 1.

Optimizers such as Adam move every weight about equally far, whatever the loss is: an answer layer that starts near 0
would need thousands of updates to reach targets in the hundreds. So what is trained is the same network with its answer
layer in other units, and the layer is turned back afterwards: the answers are in the data set's own units again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.domain.layers import Dense
from app.domain.network import Network
from worker.nn.data import Rows, read_rows
from worker.nn.objectives import Objective

Tensor: TypeAlias = keras.KerasTensor
Weights: TypeAlias = Mapping[str, NDArray[Any]]
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Units:
    """Say what 0 and 1 are in the units of learning: the mean of the train targets, and one deviation above it.

    `layer` names the weights of the dense layer that answers in these units while it is trained; None where the network
    does not end in one that could (it has no bias, an activation, or another place). Such a network is trained as it
    is, and only its losses are in these units.
    """

    mean: float
    deviation: float
    layer: str | None

    def inward(self, weights: Weights) -> dict[str, NDArray[Any]]:
        """Return weights of the data set's units for the units of learning: k / deviation, (b - mean) / deviation."""
        return self._turned(weights, 1 / self.deviation, -self.mean / self.deviation)

    def outward(self, weights: Weights) -> dict[str, NDArray[Any]]:
        """Return learned weights for the data set's own units: k * deviation, b * deviation + mean."""
        return self._turned(weights, self.deviation, self.mean)

    def _turned(self, weights: Weights, scale: float, shift: float) -> dict[str, NDArray[Any]]:
        added = {f"{self.layer}/kernel": 0.0, f"{self.layer}/bias": shift} if self.layer else {}
        turned = {
            name: (weights[name].astype(np.float64) * scale + own).astype(weights[name].dtype)
            for name, own in added.items()
            if name in weights
        }
        return {**weights, **turned}

    def objective(self, own: Objective) -> Objective:
        """Return an objective of the data set's units in those of learning; it compares what it did, standardized."""

        def loss(targets: Tensor, answers: Tensor) -> Tensor:
            return own.loss(self._standardized(targets), answers if self.layer else self._standardized(answers))

        return Objective(f"standardized_{own.name}", loss, None)

    def _standardized(self, values: Tensor) -> Tensor:
        """Standardize the first of the numbers of each row; hints have others behind it."""
        first = (values[:, :1] - self.mean) / self.deviation
        return first if values.shape[-1] == 1 else ops.concatenate([first, values[:, 1:]], axis=-1)


def units_of(network: Network, rows: Rows) -> Units:
    """Return the units for the targets to learn, by row weight; equal targets have no deviation and keep their scale.

    Targets are (rows, 1), or have other numbers behind the first.
    """
    mean, deviation = _statistics(rows)
    return Units(mean, deviation, _answer_layer(network))


def _answer_layer(network: Network) -> str | None:
    """Return the weights' name of a last dense layer whose answers can be scaled and shifted by its own variables."""
    last = network.layers[-1]
    if not isinstance(last, Dense) or not last.use_bias or last.activation != "linear":
        return None
    places = sum(layer.weights_name == last.weights_name for layer in network.layers)
    return last.weights_name if places == 1 else None


def _statistics(rows: Rows) -> tuple[float, float]:
    targets, weight = _taught(rows)
    counted = targets[weight > 0]
    if not len(counted) or counted.min() == counted.max():
        return (float(counted[0]) if len(counted) else 0.0), 1.0
    mean = np.average(targets, weights=weight)
    return float(mean), float(np.sqrt(np.average(np.square(targets - mean), weights=weight)))


def _taught(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the target and the weight of every row to learn from."""
    places = np.arange(len(rows.train_targets)) if rows.chosen is None else rows.chosen
    targets = np.concatenate([*_first_numbers(rows, places), np.zeros(0)])
    weight = np.ones(len(places)) if rows.sample_weight is None else rows.sample_weight[places].astype(np.float64)
    return targets, weight


def _first_numbers(rows: Rows, places: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(places), CHUNK_ROWS):
        yield read_rows(rows.train_targets, places[start : start + CHUNK_ROWS])[:, 0].astype(np.float64)
