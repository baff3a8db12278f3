"""Do the updates of a training and evaluate it, on any backend of Keras.

TensorFlow, the default, has its own faster way in worker.nn.tensorflow_steps; both give the same results.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import keras
import numpy as np
from keras import ops

from worker.nn.architectures import predict
from worker.nn.data import Array, Chunk, read_rows
from worker.nn.objectives import Objective
from worker.nn.optimizers import WeightedMean

EVALUATION_ROWS = 512
# Raw inputs and sums over them leave the range of 16-bit numbers, so these compute in float32 throughout.
EXACT_LAYERS = ("Standardize", "Rescaling", "LogMel", "HashedNGrams")
Figures = dict[str, float]


class Steps(Protocol):
    """Run the updates of a compiled model, and evaluate it."""

    def run(self, chunk: Chunk, sums: Array) -> Array:
        """Update once per batch; return `sums`, float64 (loss times rows, right answers), with the chunk's added."""

    def evaluate(self, x: Array, targets: Array, weights: Array | None) -> Figures:
        """Return the mean loss and the accuracy, if there is one, by weight; nothing in the model changes."""


class Averages:
    """Follow a model's weights by an exponential moving average, the moving statistics of its norms included.

    a += (1 - d) (w - a) after every update, with d = min(decay, (1 + t) / (10 + t)) at update t, so that the start at
    random is soon forgotten. Linear projections (kept zeros, groups) hold for the average as they do for the weights.
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self._followed = model.weights
        # Copies: Keras would take a backend's variable as it is, and the average would be the weights themselves.
        self.values = [keras.Variable(ops.convert_to_numpy(own).copy(), trainable=False) for own in self._followed]
        self._decay = decay

    def update(self, step: int) -> None:
        """Follow the update number `step`, a number or a tensor, counted from 0."""
        done = ops.cast(step, "float32")
        share = 1 - ops.minimum(self._decay, (1 + done) / (10 + done))
        for average, variable in zip(self.values, self._followed, strict=True):
            average.assign(average + share * (variable - average))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have its averaged weights."""
        live = [ops.convert_to_numpy(variable) for variable in self._followed]
        self.hand_over()
        try:
            yield
        finally:
            for variable, value in zip(self._followed, live, strict=True):
                variable.assign(value)

    def hand_over(self) -> None:
        """Give the model its averaged weights for good."""
        for variable, average in zip(self._followed, self.values, strict=True):
            variable.assign(average.value)


@contextmanager
def computing_in(policy: str, model: keras.Model) -> Iterator[None]:
    """Let a model's layers compute in another precision; weights, raw inputs and the answers stay float32."""
    changed = [layer for layer in model.layers[1:-1] if type(layer).__name__ not in EXACT_LAYERS]
    before = [layer.dtype_policy for layer in changed]
    try:
        for layer in changed:
            layer.dtype_policy = policy
        yield
    finally:
        for layer, own in zip(changed, before, strict=True):
            layer.dtype_policy = own


def figures_of(sums: Mapping[str, float]) -> Figures:
    """Turn sums over weighted rows into means, `loss` and, of the `right` answers, `accuracy`."""
    names = {"loss": "loss", "right": "accuracy"}
    weight = sums["weight"]
    return {names[name]: float(value / weight) if weight else 0.0 for name, value in sums.items() if name in names}


class KerasSteps:
    """Run updates through Keras alone, one at a time."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        objective: Objective,
        precision: str,
        averages: Averages | None,
    ) -> None:
        self._model, self._optimizer, self._objective = model, optimizer, objective
        self._precision, self._averages = precision, averages
        metrics = [keras.metrics.MeanMetricWrapper(objective.correct, name="accuracy")] if objective.correct else []
        model.compile(optimizer=optimizer, loss=WeightedMean(objective), metrics=metrics, auto_scale_loss=False)

    def run(self, chunk: Chunk, sums: Array) -> Array:
        """Update once per batch."""
        start = 0
        for index, end in enumerate(chunk.ends):
            batch = slice(start, end)
            found = self._update(
                chunk.x[batch], chunk.targets[batch], None if chunk.weights is None else chunk.weights[batch]
            )
            if self._averages is not None:
                self._averages.update(chunk.step + index)
            sums = sums + (end - start) * found
            start = end
        return sums

    def _update(self, x: Array, targets: Array, weights: Array | None) -> Array:
        with computing_in(self._precision, self._model):
            found = self._model.train_on_batch(
                x.astype(self._model.inputs[0].dtype), targets, sample_weight=weights, return_dict=True
            )
        return np.array([found["loss"], found.get("accuracy", 0.0)], np.float64)

    def evaluate(self, x: Array, targets: Array, weights: Array | None) -> Figures:
        """Return the mean loss and accuracy."""
        return evaluate(self._model, x, targets, self._objective, weights=weights)


def evaluate(
    model: keras.Model, x: Array, targets: Array, objective: Objective, *, weights: Array | None = None
) -> Figures:
    """Return the mean loss and, for a classification, the accuracy on raw rows, without changing the model."""
    sums: dict[str, float] = {"weight": 0.0, "loss": 0.0}
    for places in evaluation_batches(len(x)):
        answers = ops.convert_to_tensor(predict(model, read_rows(x, places), batch_size=EVALUATION_ROWS))
        wanted = ops.convert_to_tensor(read_rows(targets, places).astype(np.float32))
        weight = np.ones(len(places)) if weights is None else weights[places]
        sums["weight"] += weight.sum()
        sums["loss"] += float(weight @ ops.convert_to_numpy(objective.loss(wanted, answers)).astype(np.float64))
        if objective.correct:
            right = ops.convert_to_numpy(objective.correct(wanted, answers)).astype(np.float64)
            sums["right"] = sums.get("right", 0.0) + float(weight @ right)
    return figures_of(sums)


def evaluation_batches(rows: int) -> Iterator[Array]:
    """Yield the places of all rows, a batch at a time."""
    for start in range(0, rows, EVALUATION_ROWS):
        yield np.arange(start, min(start + EVALUATION_ROWS, rows))
