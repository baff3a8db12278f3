"""Train a network: one stream of batches that can stop between any of them and go on, to the same bit."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import numpy as np

from app.domain.training_specs import TrainingSpec
from worker.context import Reporter, Stopped
from worker.nn.data import Chunk, Feed, Plan, Rows, balanced
from worker.nn.epochs import keep_the_best, refuse_divergence
from worker.nn.objectives import Objective
from worker.nn.optimizers import make_optimizer
from worker.nn.stepping import Averages, KerasSteps, Steps, evaluate
from worker.nn.training_state import TrainingState, read_state, weights_of, write_state

__all__ = ["Rows", "evaluate", "fit", "make_deterministic"]

# How long updates may run between two questions to the reporter; a stop is answered that soon.
SECONDS_PER_CHUNK = 0.25


def fit(
    model: keras.Model,
    rows: Rows,
    *,
    objective: Objective,
    training: TrainingSpec,
    seed: int,
    reporter: Reporter,
    resume: Path | None = None,
    seconds_per_chunk: float = SECONDS_PER_CHUNK,
) -> list[dict[str, float]]:
    """Train a model in place and leave it with the weights of its best epoch on the selection rows, or of its last.

    Return one entry per epoch: loss, selection_loss and, for a classification, accuracy and selection_accuracy. Without
    selection rows the last epoch is kept. With `averaging` the selection figures and what is kept are those of the
    averaged weights. `resume` is a directory that `reporter.checkpoint` had filled; on a CPU the weights are then those
    of the uninterrupted run, bit by bit, wherever it was stopped. Raise Stopped when the reporter asks for it,
    TrainingDivergedError when a loss is no longer a number, CheckpointIncompatibleError for a foreign checkpoint.
    """
    make_deterministic(seed)
    course = _Course(model, rows, objective, training, seed, reporter, Pace(seconds_per_chunk))
    if resume is not None:
        course.resume(resume)
    with closing(course.chunks()) as chunks:
        for chunk in chunks:
            course.take(chunk)
    course.hand_over_weights()
    return course.state.history


def seconds_per_update(
    model: keras.Model, rows: Rows, *, objective: Objective, training: TrainingSpec, seed: int, updates: int
) -> float:
    """Measure an update as `fit` does it, compilation apart: the best of three times so many. The model moves."""
    make_deterministic(seed)
    plan = Plan(rows.count, training.batch_size, training.epochs, seed)
    feed = Feed(rows, plan, training.augmentation)
    optimizer = make_optimizer(training, steps=plan.steps, steps_per_epoch=plan.steps_per_epoch)
    optimizer.build(model.trainable_variables)
    steps = _make_steps(model, optimizer, objective, training, None)

    def learn(step: int, most_steps: int) -> int:
        chunk = feed.chunk(step, most_steps)
        steps.run(chunk, np.zeros(2))
        return chunk.steps

    return best_seconds(learn, updates)


def best_seconds(learn: Callable[[int, int], int], updates: int) -> float:
    """Return the least seconds per update of three runs, after one that compiles; what else runs only adds to them.

    `learn` learns from up to so many batches from a step on, and returns how many they were.
    """
    learn(0, 1)
    seconds = []
    for _ in range(3):
        began = perf_counter()
        done = learn(1, updates)
        seconds.append((perf_counter() - began) / done)
    return min(seconds)


def make_deterministic(seed: int) -> None:
    """Let equal seeds give equal weights on a CPU. On a GPU some operators have no deterministic form: left alone."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        if not tensorflow.config.list_physical_devices("GPU"):
            tensorflow.config.experimental.enable_op_determinism()


class Pace:
    """Find how many updates fit into the time between two questions to the reporter."""

    def __init__(self, seconds: float) -> None:
        self.steps = 1
        self._seconds = seconds

    def note(self, steps: int, seconds: float) -> None:
        """Learn how long some updates took; grow by degrees, for the first time is not the rule."""
        self.steps = max(1, min(4 * self.steps, int(self._seconds * steps / seconds)))


class _Course:
    """Follow a training: end epochs, keep the best weights, stop early, report, and answer requests to stop."""

    def __init__(
        self,
        model: keras.Model,
        rows: Rows,
        objective: Objective,
        training: TrainingSpec,
        seed: int,
        reporter: Reporter,
        pace: Pace,
    ) -> None:
        self.state = TrainingState()
        self._model, self._objective, self._training = model, objective, training
        self._reporter, self._pace = reporter, pace
        self._rows, self._selection_weights = rows, rows.selection_weight
        if training.class_weights == "balanced":
            self._rows, self._selection_weights = balanced(rows, model.output_shape[-1])
        self._plan = Plan(rows.count, training.batch_size, training.epochs, seed)
        self._optimizer = make_optimizer(training, steps=self._plan.steps, steps_per_epoch=self._plan.steps_per_epoch)
        self._optimizer.build(model.trainable_variables)
        self._averages = Averages(model, training.averaging) if training.averaging else None
        self._steps = _make_steps(model, self._optimizer, objective, training, self._averages)

    @property
    def finished(self) -> bool:
        """Say whether there is nothing left to do."""
        return self.state.stopped_early or self.state.step >= self._plan.steps

    def chunks(self) -> Iterator[Chunk]:
        """Yield what is left to learn from, each chunk read while the one before is learned from."""
        feed = Feed(self._rows, self._plan, self._training.augmentation)
        step = self.state.step
        with ThreadPoolExecutor(1) as reader:
            coming = None if self.finished else reader.submit(feed.chunk, step, 1)
            while coming is not None and not self.finished:
                chunk = coming.result()
                step += chunk.steps
                coming = reader.submit(feed.chunk, step, self._pace.steps) if step < self._plan.steps else None
                yield chunk

    def take(self, chunk: Chunk) -> None:
        """Learn from a chunk, end the epoch if it was its last, and do what is asked."""
        began = perf_counter()
        self.state.sums = self._steps.run(chunk, np.array(self.state.sums)).tolist()
        self._pace.note(chunk.steps, perf_counter() - began)
        self.state.step += chunk.steps
        if self.state.step % self._plan.steps_per_epoch == 0:
            self._end_epoch()
        self._reporter.progress(self.state.step, self._plan.steps)
        if not self.finished:
            self._answer_requests()

    def resume(self, directory: Path) -> None:
        """Go on from a checkpoint."""
        self.state = read_state(directory, self._variables, self._identity)

    def hand_over_weights(self) -> None:
        """Leave the model with its best weights, or with the last ones, averaged where they are."""
        if self.state.best_weights is not None and self._training.keep == "best":
            self._model.set_weights(self.state.best_weights)
        elif self._averages is not None:
            self._averages.hand_over()

    @property
    def _variables(self) -> dict[str, list[keras.Variable]]:
        """Return all variables that a step may change; those of the model hold the dropout seeds too."""
        return {
            "model": self._model.variables,
            "optimizer": self._optimizer.variables,
            "average": self._averages.values if self._averages else [],
        }

    @property
    def _identity(self) -> dict[str, Any]:
        """Name the training, so that no other one is resumed from its checkpoints."""
        return {
            "rows": self._plan.rows,
            "seed": self._plan.seed,
            "objective": self._objective.name,
            "training": self._training.model_dump(mode="json"),
        }

    def _answer_requests(self) -> None:
        reason = self._reporter.stop_requested()
        if reason == "drain" or (reason is None and self._reporter.checkpoint_due()):
            self._reporter.checkpoint(self._write, self.state.step)
        if reason is not None:
            raise Stopped(reason, step=self.state.step)

    def _write(self, directory: Path) -> None:
        write_state(directory, self.state, self._variables, self._identity)

    def _end_epoch(self) -> None:
        names = ("loss", "accuracy") if self._objective.correct else ("loss",)
        figures = {name: value / self._plan.rows for name, value in zip(names, self.state.sums, strict=False)}
        self.state.sums = [0.0, 0.0]
        epoch = len(self.state.history)
        with self._averages.in_place() if self._averages else nullcontext():
            figures |= self._selection_figures()
            self.state.history.append({"epoch": epoch, **figures})
            self._reporter.metric(epoch, figures)
            refuse_divergence(epoch, figures)
            if "selection_loss" in figures:
                keep_the_best(self.state, figures, self._training, lambda: weights_of(self._model))

    def _selection_figures(self) -> dict[str, float]:
        rows = self._rows
        if not len(rows.selection_x):
            return {}
        found = self._steps.evaluate(rows.selection_x, rows.selection_targets, self._selection_weights)
        return {f"selection_{name}": value for name, value in found.items()}


def _make_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    objective: Objective,
    training: TrainingSpec,
    averages: Averages | None,
) -> Steps:
    if keras.backend.backend() == "tensorflow":
        from worker.nn.tensorflow_steps import TensorFlowSteps

        return TensorFlowSteps(model, optimizer, objective, training.precision, averages)
    if keras.backend.backend() == "jax":
        from worker.nn.jax_steps import JaxSteps

        return JaxSteps(model, optimizer, objective, training.precision, averages)
    return KerasSteps(model, optimizer, objective, training.precision, averages)
