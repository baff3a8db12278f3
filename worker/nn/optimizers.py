"""Make Keras optimizers, schedules and losses of a training's options."""

from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from app.domain.training_specs import CosineSchedule, OneCycleSchedule, Schedule, StepSchedule, TrainingSpec
from worker.nn.objectives import Objective

Tensor: TypeAlias = keras.KerasTensor
schedules = keras.optimizers.schedules
# What decay would not regularize but shift: offsets, and the scale of a normalization.
UNDECAYED = ["bias", "gamma", "beta"]
# A cycle ends at its start rate divided by this, as PyTorch's does.
FINAL_DIVISOR = 1e4


def make_optimizer(training: TrainingSpec, *, steps: int, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return a training's optimizer for so many updates; float16 gradients are scaled against underflow."""
    settings = training.optimizer.model_dump(exclude={"type", "learning_rate"})
    settings["weight_decay"] = settings.get("weight_decay") or None
    kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
    rate = learning_rate(
        training.schedule, training.optimizer.learning_rate, steps=steps, steps_per_epoch=steps_per_epoch
    )
    optimizer = kinds[training.optimizer.type](rate, global_clipnorm=training.global_clipnorm, **settings)
    if settings["weight_decay"]:
        optimizer.exclude_from_weight_decay(var_names=UNDECAYED)
    return keras.optimizers.LossScaleOptimizer(optimizer) if training.precision == "mixed_float16" else optimizer


def learning_rate(
    schedule: Schedule, rate: float, *, steps: int, steps_per_epoch: int
) -> float | schedules.LearningRateSchedule:
    """Return the learning rate as a function of the updates done, or the rate where it is constant."""
    if isinstance(schedule, CosineSchedule):
        warmup = int(schedule.warmup_fraction * steps)
        if warmup == 0:
            return schedules.CosineDecay(rate, steps)
        return schedules.CosineDecay(0.0, steps - warmup, warmup_target=rate, warmup_steps=warmup)
    if isinstance(schedule, StepSchedule):
        return schedules.ExponentialDecay(rate, schedule.epochs * steps_per_epoch, schedule.factor, staircase=True)
    if isinstance(schedule, OneCycleSchedule):
        return OneCycle(rate, steps, warmup_fraction=schedule.warmup_fraction, start_divisor=schedule.start_divisor)
    return rate


def rates_of_epochs(training: TrainingSpec, *, steps_per_epoch: int) -> list[float]:
    """Return the learning rate of the first update of every epoch."""
    rate = learning_rate(
        training.schedule,
        training.optimizer.learning_rate,
        steps=training.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
    )
    starts = [epoch * steps_per_epoch for epoch in range(training.epochs)]
    return [rate if isinstance(rate, float) else float(ops.convert_to_numpy(rate(step))) for step in starts]


class OneCycle(schedules.LearningRateSchedule):
    """Rise along half a cosine from rate / start_divisor, then fall along another to almost zero."""

    def __init__(self, rate: float, steps: int, *, warmup_fraction: float, start_divisor: float) -> None:
        super().__init__()
        self._rate, self._start = rate, rate / start_divisor
        self._steps, self._peak = steps, max(1.0, warmup_fraction * steps)

    def __call__(self, step: Tensor) -> Tensor:
        """Return the rate of the update after `step` updates."""
        step = ops.cast(step, "float32")
        fall = ops.clip((step - self._peak) / max(1.0, self._steps - self._peak), 0.0, 1.0)
        rising = _along_cosine(self._start, self._rate, ops.minimum(step / self._peak, 1.0))
        return ops.where(step < self._peak, rising, _along_cosine(self._rate, self._start / FINAL_DIVISOR, fall))

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"rate": self._rate, "start": self._start, "steps": self._steps, "peak": self._peak}


def _along_cosine(start: float, end: float, progress: Tensor) -> Tensor:
    return end + (start - end) * (1 + ops.cos(np.pi * progress)) / 2


class WeightedMean(keras.losses.Loss):
    """Average an objective's loss over the rows of a batch, each times its weight.

    Weights have the mean 1 over all rows, not within each batch: else a batch of light rows alone would move the
    network as far as one of heavy rows.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__(name=objective.name, reduction="sum_over_batch_size", dtype="float32")
        self._of_rows = objective.loss

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Return the loss of each row."""
        return self._of_rows(y_true, y_pred)
