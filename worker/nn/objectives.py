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


def gradient_objective(label_smoothing: float = 0.0) -> Objective:
    """Learn the steepest descent of the cross-entropy at frozen logits by least squares (Friedman 2001).

    Targets are [one-hot labels | base logits] (rows, 2 * classes): what is fitted is y - softmax(base). Whether a step
    is right is not to be told from the step alone.
    """

    def loss(targets: Tensor, answers: Tensor) -> Tensor:
        labels, base = _halves(targets)
        smoothed = (1 - label_smoothing) * labels + label_smoothing / labels.shape[-1]
        return _squared_error(smoothed - ops.softmax(base, axis=-1), answers)

    return Objective("gradient", loss, None)


def distillation_objective(*, temperature: float, alpha: float) -> Objective:
    """Learn from a teacher: (1 - a) CE(y, s) + a T^2 KL(softmax(t / T) || softmax(s / T)) (Hinton et al. 2015).

    Targets are [one-hot labels | the teacher's log-probabilities] (rows, 2 * classes): log p differs from the teacher's
    logits by a constant per row, which softmax does not see. T^2 keeps the gradient's size as T grows. A row without a
    label has zeros for labels: only the teacher teaches on it.
    """

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        labels, teacher = _halves(targets)
        hard = cross_entropy(labels, logits)
        return (1 - alpha) * hard + alpha * temperature**2 * divergence(teacher / temperature, logits / temperature)

    return Objective("distillation", loss, _agrees)


def decoupled_objective(*, temperature: float, alpha: float, beta: float) -> Objective:
    """Learn the label, and apart from it what the teacher says of the right class and of the others (Zhao et al. 2022).

    CE(y, s) + T^2 (alpha TCKD + beta NCKD), see `decoupled_divergences`. Targets are packed as for the plain
    distillation; in a row without a label the class that the teacher prefers stands for the right one.
    """

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        labels, teacher = _halves(targets)
        of_target, of_others = decoupled_divergences(
            teacher / temperature, logits / temperature, _labels_or_choice(labels, teacher)
        )
        return cross_entropy(labels, logits) + temperature**2 * (alpha * of_target + beta * of_others)

    return Objective("decoupled_distillation", loss, _agrees)


def cross_entropy(labels: Tensor, logits: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return -sum y log softmax(z) per row, for labels as probabilities (rows, classes)."""
    classes = logits.shape[-1]
    smoothed = (1 - label_smoothing) * labels + label_smoothing / classes if label_smoothing else labels
    return -ops.sum(smoothed * ops.log_softmax(logits, axis=-1), axis=-1)


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(softmax(teacher) || softmax(student)) per row, from logits: 0 where they agree, else more."""
    log_teacher = ops.log_softmax(teacher, axis=-1)
    return ops.sum(ops.exp(log_teacher) * (log_teacher - ops.log_softmax(student, axis=-1)), axis=-1)


def decoupled_divergences(teacher: Tensor, student: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return, per row, the two parts of `divergence` (Zhao et al. 2022, equation 5).

    TCKD is the divergence of (p_t, 1 - p_t), where t is the class that `target` (rows, classes) marks with 1; NCKD that
    of the probabilities of all other classes among themselves. divergence = TCKD + (1 - p_t of the teacher) NCKD.
    """
    far = -1e9 * target
    binary_teacher, binary_student = (_binary_logs(logits, target, far) for logits in (teacher, student))
    of_target = ops.sum(ops.exp(binary_teacher) * (binary_teacher - binary_student), axis=-1)
    return of_target, divergence(teacher + far, student + far)


def _binary_logs(logits: Tensor, target: Tensor, far: Tensor) -> Tensor:
    """Return [log p_t, log(1 - p_t)] per row."""
    logs = ops.log_softmax(logits, axis=-1)
    return ops.stack([ops.sum(target * logs, axis=-1), ops.logsumexp(logs + far, axis=-1)], axis=-1)


def _labels_or_choice(labels: Tensor, teacher: Tensor) -> Tensor:
    """Return the right class of each row, one-hot: the label's, or the teacher's choice where labels are all 0."""
    known = ops.max(labels, axis=-1, keepdims=True) > 0
    best = ops.argmax(ops.where(known, labels, teacher), axis=-1)
    return ops.one_hot(best, labels.shape[-1], dtype=labels.dtype)


def _agrees(targets: Tensor, logits: Tensor) -> Tensor:
    return _is_right(_labels_or_choice(*_halves(targets)), logits)


def _squared_error(targets: Tensor, predictions: Tensor) -> Tensor:
    return ops.mean(ops.square(targets - predictions), axis=-1)


def _is_right(labels: Tensor, logits: Tensor) -> Tensor:
    return ops.cast(ops.equal(ops.argmax(labels, axis=-1), ops.argmax(logits, axis=-1)), "float32")


def _halves(targets: Tensor) -> tuple[Tensor, Tensor]:
    middle = targets.shape[-1] // 2
    return targets[:, :middle], targets[:, middle:]
