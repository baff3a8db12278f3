"""The meta-learner of a stack: fitted on out-of-fold answers, shrunk to the plain mean of the members."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from app.domain.fusion import (
    log_probabilities,
    mean_squared_error,
    negative_log_likelihood,
    relative_weights,
    softmax,
    stacking_features,
)
from app.serving.graph import MetaLearner
from worker.rows import Array, one_hot

STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001)
Floats = NDArray[np.float64]
Fit = Callable[[float], MetaLearner]


class Answered(NamedTuple):
    """Hold members' answers (members, rows, outputs), what they should be, and how much each row counts, if unequal."""

    answers: Floats
    targets: Array
    row_weights: Array | None = None


class FittedMeta(NamedTuple):
    """Hold the chosen meta-learner, the penalty that it was fitted with and its loss on the selection rows."""

    learner: MetaLearner
    strength: float
    selection_loss: float


def fit_classifier(train: Answered, selection: Answered) -> FittedMeta:
    """Fit a multinomial logistic regression on log-probabilities (members, rows, classes) (Wolpert 1992).

    Minimises mean -log p + strength ||W - W0||^2, where W0 is the geometric mean of the members; the strength is the
    one with the lowest loss on the selection rows. The problem is strictly convex in W: the order of members does not
    matter. Both means are by row weight.
    """
    features, held_out = (stacking_features(log_probabilities(each.answers)) for each in (train, selection))
    members, _, classes = train.answers.shape
    prior = np.tile(np.eye(classes) / members, (members, 1))
    targets = one_hot(np.asarray(train.targets), classes).astype(np.float64)
    of_row = relative_weights(train.row_weights, len(targets))[:, None]
    fitted = [_choice(strength, _logistic(features, targets, of_row, prior, strength)) for strength in STRENGTHS]
    labels = np.asarray(selection.targets)

    def loss(learner: MetaLearner) -> float:
        probabilities = softmax(held_out @ learner.kernel + learner.bias)
        return negative_log_likelihood(probabilities, labels, row_weights=selection.row_weights)

    return _best(fitted, loss)


def fit_regression(train: Answered, selection: Answered) -> FittedMeta:
    """Fit a ridge regression on predictions (members, rows, 1) whose penalty pulls to the plain mean."""
    features, held_out = (stacking_features(each.answers) for each in (train, selection))
    wanted, held_out_wanted = (np.asarray(each.targets, np.float64).reshape(-1, 1) for each in (train, selection))
    of_row = relative_weights(train.row_weights, len(wanted))[:, None]
    fitted = [_choice(strength, _ridge(features, wanted, of_row, strength)) for strength in STRENGTHS]

    def loss(learner: MetaLearner) -> float:
        predictions = held_out @ learner.kernel + learner.bias
        return mean_squared_error(predictions, held_out_wanted, row_weights=selection.row_weights)

    return _best(fitted, loss)


def _choice(strength: float, learner: tuple[Floats, Floats]) -> tuple[float, MetaLearner]:
    kernel, bias = learner
    return strength, MetaLearner(kernel.astype(np.float32), bias.astype(np.float32))


def _best(fitted: list[tuple[float, MetaLearner]], loss: Callable[[MetaLearner], float]) -> FittedMeta:
    losses = [loss(learner) for _, learner in fitted]
    place = int(np.argmin(losses))
    return FittedMeta(fitted[place][1], fitted[place][0], losses[place])


def _logistic(
    features: Floats, targets: Floats, of_row: Floats, prior: Floats, strength: float
) -> tuple[Floats, Floats]:
    rows, classes = targets.shape

    def loss(flat: Floats) -> tuple[float, Floats]:
        kernel, bias = flat[classes:].reshape(prior.shape), flat[:classes]
        logits = features @ kernel + bias
        probabilities = softmax(logits)
        error = (probabilities - targets) * of_row / rows
        away = kernel - prior
        value = -(log_probabilities(probabilities) * targets * of_row).sum() / rows + strength * np.square(away).sum()
        slope = features.T @ error + 2 * strength * away
        return float(value), np.concatenate([error.sum(axis=0), slope.ravel()])

    start = np.concatenate([np.zeros(classes), prior.ravel()])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-11, "gtol": 1e-7})
    return found.x[classes:].reshape(prior.shape), found.x[:classes]


def _ridge(features: Floats, targets: Floats, of_row: Floats, strength: float) -> tuple[Floats, Floats]:
    prior = np.full((features.shape[1], 1), 1 / features.shape[1])
    centre, level = (features * of_row).mean(axis=0), (targets * of_row).mean(axis=0)
    centred, left = (features - centre) * np.sqrt(of_row), (targets - level) * np.sqrt(of_row)
    gram = centred.T @ centred / len(features)
    penalty = strength * (np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    away = np.linalg.solve(gram + penalty, centred.T @ (left - centred @ prior) / len(features))
    kernel = prior + away
    return kernel, level - centre @ kernel
