"""Do many updates in one call of a TensorFlow graph: for a small network Python costs more than the arithmetic."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from worker.nn.data import Array, Chunk, read_rows
from worker.nn.objectives import Objective
from worker.nn.optimizers import WeightedMean
from worker.nn.stepping import Averages, Figures, computing_in, evaluation_batches, figures_of


class TensorFlowSteps:
    """Run updates and evaluations as compiled graphs; how updates are cut into chunks changes no bit."""

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
        self._loss = WeightedMean(objective)
        self._run: Callable[..., tf.Tensor] | None = None
        self._evaluate: Callable[..., tf.Tensor] | None = None

    def run(self, chunk: Chunk, sums: Array) -> Array:
        """Update once per batch."""
        given = [chunk.x, chunk.targets, chunk.weights, chunk.ends, np.int32(chunk.step), sums]
        if self._run is None:
            with computing_in(self._precision, self._model):
                self._run = compiled(self._chunk, given)
        return call_compiled(self._run, given)

    def _chunk(
        self, x: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, ends: tf.Tensor, step: tf.Tensor, sums: tf.Tensor
    ) -> tf.Tensor:
        def body(index: tf.Tensor, start: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            end = ends[index]
            found = self._update(x[start:end], targets[start:end], None if weights is None else weights[start:end])
            if self._averages is not None:
                self._averages.update(step + index)
            return index + 1, end, sums + found

        def unfinished(index: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
            return index < tf.size(ends)

        sums = tf.ensure_shape(sums, (2,))
        return tf.while_loop(unfinished, body, (0, 0, sums), parallel_iterations=1)[2]

    def _update(self, x: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
        """Update once; return the loss times the rows, and the right answers."""
        model, optimizer = self._model, self._optimizer
        with tf.GradientTape() as tape:
            answers = model(tf.cast(x, model.inputs[0].dtype), training=True)
            loss = self._loss(targets, answers, weights)
            scaled = optimizer.scale_loss(loss)
        optimizer.apply(tape.gradient(scaled, model.trainable_weights), model.trainable_weights)
        rows = tf.cast(tf.shape(x)[0], tf.float64)
        return tf.stack([rows * tf.cast(loss, tf.float64), tf.reduce_sum(self._right(targets, answers))])

    def _right(self, targets: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
        """Return 1 for every row that is right, as numbers that add up exactly."""
        if self._objective.correct is None:
            return tf.zeros((1,), tf.float64)
        return tf.cast(self._objective.correct(targets, answers), tf.float64)

    def evaluate(self, x: Array, targets: Array, weights: Array | None) -> Figures:
        """Return the mean loss and accuracy."""
        total = np.zeros(3)
        for places in evaluation_batches(len(x)):
            weight = np.ones(len(places), np.float32) if weights is None else weights[places]
            wanted = read_rows(targets, places).astype(np.float32, copy=False)
            given = [read_rows(x, places), wanted, weight]
            self._evaluate = self._evaluate or compiled(self._sums, given)
            total += call_compiled(self._evaluate, given)
        loss, weight, right = total
        counted = {"right": right} if self._objective.correct else {}
        return figures_of({"loss": loss, "weight": weight, **counted})

    def _sums(self, x: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        answers = self._model(tf.cast(x, self._model.inputs[0].dtype), training=False)
        losses = tf.cast(weights * self._objective.loss(targets, answers), tf.float64)
        weights = tf.cast(weights, tf.float64)
        right = weights * self._right(targets, answers)
        return tf.stack([tf.reduce_sum(part) for part in (losses, weights, right)])


def compiled(function: Callable[..., tf.Tensor], given: list[Array | None]) -> Callable[..., tf.Tensor]:
    """Trace a function once, for arrays like the given ones but of any number of rows."""
    specs = [
        None if array is None else tf.TensorSpec((None, *array.shape[1:]) if array.ndim else (), array.dtype)
        for array in given
    ]
    return tf.function(function, autograph=False).get_concrete_function(*specs)


def call_compiled(function: Callable[..., tf.Tensor], given: list[Array | None]) -> Array:
    """Call a compiled function with arrays; return its answer as one."""
    return function(*(tf.constant(array) for array in given if array is not None)).numpy()
