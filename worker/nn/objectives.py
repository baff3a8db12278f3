"""What a network is trained for: losses on its logits (or predictions) and packed targets, in keras.ops alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import keras
from keras import ops

from app.domain.datasets import Task

Tensor: TypeAlias = keras.KerasTensor
OfRows: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """Say, for packed targets and a network's answers (rows, numbers), the loss of each row and whether it is right."""

    name: str
    loss: OfRows
    correct: OfRows | None


def plain_objective(task: Task, *, label_smoothing: float = 0.0) -> Objective:
    """Learn the labels or numbers themselves.

    Classification: cross-entropy of one-hot targets (rows, classes), smoothed to (1 - s) y + s / classes
    (Szegedy et al. 2016). Regression: squared error of targets (rows, 1).
    """
    if task == "regression":
        return Objective("squared_error", _squared_error, None)

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        return cross_entropy(targets, logits, label_smoothing=label_smoothing)

    return Objective("cross_entropy", loss, _is_right)


def residual_objective(label_smoothing: float = 0.0) -> Objective:
    """Learn what a sum of earlier logits gets wrong: cross-entropy of base + logits.

    Targets are [one-hot labels | base logits] (rows, 2 * classes); the base is frozen.
    """

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        labels, base = _halves(targets)
        return cross_entropy(labels, base + logits, label_smoothing=label_smoothing)

    def correct(targets: Tensor, logits: Tensor) -> Tensor:
        labels, base = _halves(targets)
        return _is_right(labels, base + logits)

    return Objective("residual", loss, correct)


def distillation_objective(*, temperature: float, alpha: float) -> Objective:
    """Learn from a teacher: (1 - a) CE(y, s) + a T^2 KL(softmax(t / T) || softmax(s / T)) (Hinton et al. 2015).

    Targets are [one-hot labels | the teacher's log-probabilities] (rows, 2 * classes): log p differs from the teacher's
    logits by a constant per row, which softmax does not see. T^2 keeps the gradient's size as T grows.
    """

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        labels, teacher = _halves(targets)
        hard = cross_entropy(labels, logits)
        return (1 - alpha) * hard + alpha * temperature**2 * divergence(teacher / temperature, logits / temperature)

    def correct(targets: Tensor, logits: Tensor) -> Tensor:
        return _is_right(_halves(targets)[0], logits)

    return Objective("distillation", loss, correct)


def cross_entropy(labels: Tensor, logits: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return -sum y log softmax(z) per row, for labels as probabilities (rows, classes)."""
    classes = logits.shape[-1]
    smoothed = (1 - label_smoothing) * labels + label_smoothing / classes if label_smoothing else labels
    return -ops.sum(smoothed * ops.log_softmax(logits, axis=-1), axis=-1)


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(softmax(teacher) || softmax(student)) per row, from logits: 0 where they agree, else more."""
    log_teacher = ops.log_softmax(teacher, axis=-1)
    return ops.sum(ops.exp(log_teacher) * (log_teacher - ops.log_softmax(student, axis=-1)), axis=-1)


def _squared_error(targets: Tensor, predictions: Tensor) -> Tensor:
    return ops.mean(ops.square(targets - predictions), axis=-1)


def _is_right(labels: Tensor, logits: Tensor) -> Tensor:
    return ops.cast(ops.equal(ops.argmax(labels, axis=-1), ops.argmax(logits, axis=-1)), "float32")


def _halves(targets: Tensor) -> tuple[Tensor, Tensor]:
    middle = targets.shape[-1] // 2
    return targets[:, :middle], targets[:, middle:]
