"""Updates and evaluations of a stacked model as compiled graphs of TensorFlow."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from worker.nn.data import Array, read_rows
from worker.nn.objectives import Objective
from worker.nn.stacked import StackedModel
from worker.nn.stepping import Averages, evaluation_batches
from worker.nn.tensorflow_steps import call_compiled, compiled


class TogetherSteps:
    """Update all members once per batch; the batches of a chunk are (rows, members, ...).

    A member's loss is the mean over its own rows, each times its weight; the sum over members is minimised, so that no
    member's gradient holds anything of another's.
    """

    def __init__(
        self,
        model: StackedModel,
        optimizer: keras.optimizers.Optimizer,
        objective: Objective,
        averages: Averages | None,
    ) -> None:
        self._model, self._optimizer, self._objective, self._averages = model, optimizer, objective, averages
        self._run: Callable[..., tf.Tensor] | None = None
        self._evaluate: Callable[..., tf.Tensor] | None = None
        # XLA fuses the many small operations of patches and optimizer; it compiles once per size of batch.
        self._update_compiled = tf.function(self._update, autograph=False, jit_compile=True)

    def run(self, x: Array, targets: Array, weights: Array, ends: Array, step: int, sums: Array) -> Array:
        """Update once per batch; return `sums` (members, 2): loss times rows, and right answers, with these added."""
        given = [x, targets, weights, ends, np.int32(step), sums]
        self._run = self._run or compiled(self._chunk, given)
        return call_compiled(self._run, given)

    def _chunk(
        self, x: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, ends: tf.Tensor, step: tf.Tensor, sums: tf.Tensor
    ) -> tf.Tensor:
        def body(index: tf.Tensor, start: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            end = ends[index]
            # Drawn outside of what XLA compiles: there the same seeds would give other masks.
            masks = self._model.draw_masks(end - start)
            found = self._update_compiled(x[start:end], targets[start:end], weights[start:end], masks)
            if self._averages is not None:
                self._averages.update(step + index)
            return index + 1, end, sums + tf.cast(found, tf.float64)

        def unfinished(index: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
            return index < tf.size(ends)

        sums = tf.ensure_shape(sums, (targets.shape[1], 2))
        return tf.while_loop(unfinished, body, (0, 0, sums), parallel_iterations=1)[2]

    def _update(self, x: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, masks: list[tf.Tensor]) -> tf.Tensor:
        model, optimizer = self._model, self._optimizer
        with tf.GradientTape() as tape:
            answers = model(tf.cast(x, model.input_dtype_of_rows), masks)
            losses = tf.reduce_mean(weights * self._of_rows(targets, answers), axis=0)
            loss = tf.reduce_sum(losses)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        rows = tf.cast(tf.shape(x)[0], tf.float32)
        return tf.stack([rows * losses, tf.reduce_sum(self._right(targets, answers), axis=0)], axis=1)

    def _of_rows(self, targets: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
        """Return the loss (rows, members) of every row."""
        return _each(self._objective.loss, targets, answers)

    def _right(self, targets: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
        if self._objective.correct is None:
            return tf.zeros(tf.shape(answers)[:2])
        return _each(self._objective.correct, targets, answers)

    def evaluate(self, x: Array, targets: Array, weights: Array) -> Array:
        """Return, per member, mean loss and share of right answers by `weights` (rows, members); nothing changes."""
        total = np.zeros((weights.shape[1], 3))
        for places in evaluation_batches(len(x)):
            wanted = read_rows(targets, places).astype(np.float32, copy=False)
            given = [read_rows(x, places), wanted, weights[places]]
            self._evaluate = self._evaluate or compiled(self._sums, given)
            total += call_compiled(self._evaluate, given)
        return total[:, 1:] / np.maximum(total[:, :1], 1e-30)

    def _sums(self, x: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        members = weights.shape[1]
        rows, wanted = (tf.repeat(array[:, None], members, axis=1) for array in (x, targets))
        answers = self._model(tf.cast(rows, self._model.input_dtype_of_rows))
        losses = weights * self._of_rows(wanted, answers)
        right = weights * self._right(wanted, answers)
        parts = [tf.reduce_sum(tf.cast(part, tf.float64), axis=0) for part in (weights, losses, right)]
        return tf.stack(parts, axis=1)


def _each(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], targets: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
    """Apply a function of rows to (rows, members, numbers); return (rows, members)."""
    flat = [tf.reshape(array, (-1, array.shape[-1])) for array in (targets, answers)]
    return tf.reshape(function(*flat), (-1, answers.shape[1]))
