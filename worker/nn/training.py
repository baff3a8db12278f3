"""Train a network: one stream of batches that can stop at any of them and go on, to the same bit."""

from math import isfinite
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.domain.job_errors import TrainingDivergedError
from app.domain.training_specs import AdamW, CosineSchedule, TrainingSpec
from worker.context import Reporter, Stopped
from worker.nn.architectures import predict
from worker.nn.data import Array, Plan, Rows, batches
from worker.nn.objectives import Objective
from worker.nn.training_state import TrainingState, add_means, read_state, weights_of, write_state

__all__ = ["Rows", "evaluate", "fit", "make_deterministic"]

EVALUATION_ROWS = 4096


def fit(
    model: keras.Model,
    rows: Rows,
    *,
    objective: Objective,
    training: TrainingSpec,
    seed: int,
    reporter: Reporter,
    resume: Path | None = None,
) -> list[dict[str, float]]:
    """Train a model in place and leave it with the weights of its best epoch on the selection rows.

    Return one entry per epoch: loss, selection_loss and, for a classification, accuracy and selection_accuracy. Without
    selection rows the last epoch is kept. `resume` is a directory that `reporter.checkpoint` had filled; on a CPU the
    weights are then those of the uninterrupted run, bit by bit. Raise Stopped when the reporter asks for it,
    TrainingDivergedError when a loss is no longer a number, CheckpointIncompatibleError for a foreign checkpoint.
    """
    make_deterministic(seed)
    plan = Plan(rows.count, training.batch_size, training.epochs, seed)
    compile_for(model, objective, training, plan)
    follower = _Follower(rows, objective, training, plan, reporter)
    if resume is not None:
        follower.state, follower.means = read_state(resume, model, follower.identity)
    if not follower.finished:
        # One fit for all epochs: Keras rebuilds its input pipeline with each, which takes longer than a small epoch.
        stream = batches(rows, plan, step=follower.state.step, dtype=model.inputs[0].dtype)
        model.fit(stream, epochs=1, verbose=0, shuffle=False, callbacks=[follower])
    if follower.state.best_weights is not None:
        model.set_weights(follower.state.best_weights)
    return follower.state.history


def make_deterministic(seed: int) -> None:
    """Let equal seeds give equal weights on a CPU. On a GPU some operators have no deterministic form: left alone."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        if not tensorflow.config.list_physical_devices("GPU"):
            tensorflow.config.experimental.enable_op_determinism()


def compile_for(model: keras.Model, objective: Objective, training: TrainingSpec, plan: Plan) -> None:
    """Compile a model with the objective's loss and a built optimizer."""
    metrics = [keras.metrics.MeanMetricWrapper(objective.correct, name="accuracy")] if objective.correct else []
    model.compile(optimizer=_optimizer(training, plan.steps), loss=_Loss(objective), metrics=metrics)
    model.optimizer.build(model.trainable_variables)


class _Loss(keras.losses.Loss):
    """Average an objective's loss over the rows; a row of weight 2 counts as that row twice."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(name=objective.name, reduction="mean_with_sample_weight")
        self._of_rows = objective.loss

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        return self._of_rows(y_true, y_pred)


def _learning_rate(training: TrainingSpec, steps: int) -> float | keras.optimizers.schedules.CosineDecay:
    rate, schedule = training.optimizer.learning_rate, training.schedule
    if not isinstance(schedule, CosineSchedule):
        return rate
    warmup = int(schedule.warmup_fraction * steps)
    if warmup == 0:
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=rate, warmup_steps=warmup)


def _optimizer(training: TrainingSpec, steps: int) -> keras.optimizers.Optimizer:
    settings = training.optimizer.model_dump(exclude={"type", "learning_rate"})
    kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
    optimizer = kinds[training.optimizer.type](
        _learning_rate(training, steps), global_clipnorm=training.global_clipnorm, **settings
    )
    if isinstance(training.optimizer, AdamW):
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def evaluate(model: keras.Model, x: Array, targets: Array, objective: Objective) -> dict[str, float]:
    """Return the mean loss and, for a classification, the accuracy on raw rows, without changing the model."""
    sums: dict[str, float] = {}
    for start in range(0, len(x), EVALUATION_ROWS):
        answers = keras.ops.convert_to_tensor(predict(model, x[start : start + EVALUATION_ROWS]))
        wanted = keras.ops.convert_to_tensor(targets[start : start + EVALUATION_ROWS].astype(np.float32))
        figures = {"loss": objective.loss(wanted, answers)}
        if objective.correct:
            figures["accuracy"] = objective.correct(wanted, answers)
        for name, values in figures.items():
            sums[name] = sums.get(name, 0.0) + float(keras.ops.convert_to_numpy(values).sum(dtype=np.float64))
    return {name: total / len(x) for name, total in sums.items()}


class _Follower(keras.callbacks.Callback):
    """Follow the stream: end epochs, keep the best weights, stop early, report, and answer requests to stop."""

    def __init__(
        self, rows: Rows, objective: Objective, training: TrainingSpec, plan: Plan, reporter: Reporter
    ) -> None:
        super().__init__()
        self.state = TrainingState()
        self.means: list[Array] | None = None
        self._rows, self._objective, self._training, self._plan = rows, objective, training, plan
        self._reporter = reporter

    @property
    def identity(self) -> dict[str, Any]:
        """Name the training, so that no other one is resumed from its checkpoints."""
        training = self._training.model_dump(mode="json")
        return {
            "rows": self._plan.rows,
            "seed": self._plan.seed,
            "objective": self._objective.name,
            "training": training,
        }

    @property
    def finished(self) -> bool:
        """Say whether there is nothing left to do."""
        return self.state.stopped_early or self.state.step >= self._plan.steps

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:  # noqa: ARG002 - Keras calls it so
        """Count the step, end the epoch if it was its last, and do what is asked."""
        self.state.step += 1
        if self.means is not None:
            add_means(self.model, self.means)
            self.means = None
        if self.state.step % self._plan.steps_per_epoch == 0:
            self._end_epoch()
        self._reporter.progress(self.state.step, self._plan.steps)
        if self.finished:
            self.model.stop_training = True
        else:
            self._answer_requests()

    def _answer_requests(self) -> None:
        reason = self._reporter.stop_requested()
        if reason == "drain" or (reason is None and self._reporter.checkpoint_due()):
            self._reporter.checkpoint(self._write, self.state.step)
        if reason is not None:
            raise Stopped(reason, step=self.state.step)

    def _write(self, directory: Path) -> None:
        write_state(directory, self.state, self.model, self.identity)

    def _end_epoch(self) -> None:
        figures = {name: float(value) for name, value in self.model.get_metrics_result().items()}
        self.model.reset_metrics()
        if len(self._rows.selection_x):
            found = evaluate(self.model, self._rows.selection_x, self._rows.selection_targets, self._objective)
            figures |= {f"selection_{name}": value for name, value in found.items()}
        epoch = len(self.state.history)
        self.state.history.append({"epoch": epoch, **figures})
        self._reporter.metric(epoch, figures)
        self._refuse_divergence(epoch, figures)
        self._keep_the_best(figures.get("selection_loss"))

    def _refuse_divergence(self, epoch: int, figures: dict[str, float]) -> None:
        wrong = [name for name, value in figures.items() if not isfinite(value)]
        if wrong:
            raise TrainingDivergedError(
                f"After epoch {epoch + 1} the {wrong[0].replace('_', ' ')} is {figures[wrong[0]]}.",
                hint="Lower the learning rate, or set global_clipnorm to 1.",
            )

    def _keep_the_best(self, loss: float | None) -> None:
        """Remember the weights of the lowest selection loss; stop after `patience` epochs without a gain."""
        if loss is None:
            return
        state, stopping = self.state, self._training.early_stopping
        if loss < state.best_loss:
            state.best_loss, state.best_weights = loss, weights_of(self.model)
        if loss < state.loss_to_beat - (stopping.minimum_delta if stopping else 0.0):
            state.loss_to_beat, state.epochs_without_gain = loss, 0
        else:
            state.epochs_without_gain += 1
        state.stopped_early = stopping is not None and state.epochs_without_gain >= stopping.patience
