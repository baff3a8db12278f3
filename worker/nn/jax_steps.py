"""Do updates as compiled functions of JAX: the state goes through them as arrays, and back into the variables."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import keras
import numpy as np
from jax import numpy as jnp

from worker.nn.data import Array, Chunk, read_rows
from worker.nn.objectives import Objective
from worker.nn.optimizers import WeightedMean
from worker.nn.stepping import Averages, Figures, computing_in, evaluation_batches, figures_of

State: TypeAlias = list[jax.Array]


class JaxSteps:
    """Run updates one batch a call; calls are queued on the device, and only a chunk's end waits for it."""

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
        others = [*model.non_trainable_variables, *optimizer.variables, *(averages.values if averages else [])]
        self._variables = [*model.trainable_variables, *others]
        self._trainable, fixed = len(model.trainable_variables), len(model.non_trainable_variables)
        self._optimizer_places = fixed, fixed + len(optimizer.variables)
        self._update_compiled = jax.jit(self._update)
        self._evaluate_compiled = jax.jit(self._sums)

    def run(self, chunk: Chunk, sums: Array) -> Array:
        """Update once per batch."""
        state: State = [variable.value for variable in self._variables]
        found = []
        with computing_in(self._precision, self._model):
            for index, batch in enumerate(_batches(chunk)):
                state, figures = self._update_compiled(state, *batch, np.int32(chunk.step + index))
                found.append(figures)
        for variable, value in zip(self._variables, state, strict=True):
            variable.assign(value)
        # Added up here and in order: in 64 bits, which JAX has not, and however the updates are cut into chunks.
        for figures in found:
            sums = sums + np.asarray(figures, np.float64)
        return sums

    def _update(
        self, state: State, x: jax.Array, targets: jax.Array, weights: jax.Array | None, step: jax.Array
    ) -> tuple[State, jax.Array]:
        """Return the state after one update; the loss times the rows, and the right answers."""
        trainable, others = state[: self._trainable], state[self._trainable :]
        slopes, (others, figures) = jax.grad(self._scaled_loss, has_aux=True)(trainable, others, x, targets, weights)
        return self._averaged(self._applied(slopes, trainable, others), step), figures

    def _applied(self, slopes: State, trainable: State, others: State) -> State:
        """Return the state after the optimizer's step, which it takes outside of any scope: a scaled loss branches."""
        start, end = self._optimizer_places
        trainable, own = self._optimizer.stateless_apply(others[start:end], slopes, trainable)
        return [*trainable, *others[:start], *own, *others[end:]]

    def _averaged(self, state: State, step: jax.Array) -> State:
        """Return the state with its averages moved on."""
        if self._averages is None:
            return state
        scope = self._scope(state)
        with scope:
            self._averages.update(step)
        return self._values(scope)

    def _scaled_loss(
        self, trainable: State, others: State, x: jax.Array, targets: jax.Array, weights: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        scope = self._scope([*trainable, *others])
        with scope:
            answers = self._model(x.astype(self._model.inputs[0].dtype), training=True)
            loss = self._loss(targets, answers, weights)
            scaled = self._optimizer.scale_loss(loss)
        figures = jnp.stack([len(x) * loss, self._right(targets, answers).sum()])
        return scaled, (self._values(scope)[self._trainable :], figures)

    def _right(self, targets: jax.Array, answers: jax.Array) -> jax.Array:
        """Return 1 for every row that is right."""
        judge = self._objective.correct
        return judge(targets, answers) if judge else jnp.zeros(1)

    def evaluate(self, x: Array, targets: Array, weights: Array | None) -> Figures:
        """Return the mean loss and accuracy."""
        state = [variable.value for variable in self._variables]
        total = np.zeros(3)
        for places in evaluation_batches(len(x)):
            weight = np.ones(len(places), np.float32) if weights is None else weights[places]
            wanted = read_rows(targets, places).astype(np.float32, copy=False)
            total += np.asarray(self._evaluate_compiled(state, read_rows(x, places), wanted, weight), np.float64)
        loss, weight, right = total
        counted = {"right": right} if self._objective.correct else {}
        return figures_of({"loss": loss, "weight": weight, **counted})

    def _sums(self, state: State, x: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        with self._scope(state):
            answers = self._model(x.astype(self._model.inputs[0].dtype), training=False)
        losses = weights * self._objective.loss(targets, answers)
        right = weights * self._right(targets, answers)
        return jnp.stack([part.sum() for part in (losses, weights, right)])

    def _scope(self, state: Sequence[jax.Array]) -> keras.StatelessScope:
        return keras.StatelessScope(state_mapping=list(zip(self._variables, state, strict=True)))

    def _values(self, scope: keras.StatelessScope) -> State:
        return [scope.get_current_value(variable) for variable in self._variables]


def _batches(chunk: Chunk) -> Iterator[tuple[Array, Array, Array | None]]:
    for start, end in zip([0, *chunk.ends[:-1]], chunk.ends, strict=True):
        rows = slice(start, end)
        yield chunk.x[rows], chunk.targets[rows], None if chunk.weights is None else chunk.weights[rows]
