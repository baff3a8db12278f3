"""The meta-learner of a stack: fitted on out-of-fold answers, shrunk to the plain mean of the members."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from app.domain.fusion import (
    log_probabilities,
    mean_squared_error,
    negative_log_likelihood,
    relative_weights,
    softmax,
)
from app.serving.meta_nodes import MetaLearner
from worker.ensemble.learner import Answered, features_of, learner_values
from worker.rows import one_hot

STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001)
Floats = NDArray[np.float64]


class FittedMeta(NamedTuple):
    """Hold the chosen meta-learner, the penalty that it was fitted with and its loss on the selection rows."""

    learner: MetaLearner
    strength: float
    selection_loss: float


class Fit(Protocol):
    """Fit a meta-learner to train rows, and choose its options by selection rows."""

    def __call__(self, train: Answered, selection: Answered) -> FittedMeta:
        """Return the meta-learner with the lowest loss on the selection rows."""
        ...


def fit_in_any_order(fit: Fit, train: Answered, selection: Answered) -> FittedMeta:
    """Fit with the members in an order that depends on their answers alone, and put them back into their own.

    So the order in which members are named does not decide where an iteration ends.
    """
    order = sorted(range(len(train.answers)), key=lambda member: train.answers[member].tobytes())
    sorted_ones = (each._replace(answers=each.answers[order]) for each in (train, selection))
    fitted = fit(*sorted_ones)
    return fitted._replace(learner=_reordered(fitted.learner, np.argsort(order), train.answers.shape[2]))


def _reordered(learner: MetaLearner, order: NDArray[np.intp], outputs: int) -> MetaLearner:
    """Move the rows of the kernels that belong to members, so many for each; those of passed numbers stay."""
    own = (order[:, None] * outputs + np.arange(outputs)).ravel()
    rows = np.concatenate([own, np.arange(len(own), len(learner.kernel))])
    hidden = learner.hidden and replace(learner.hidden, kernel=learner.hidden.kernel[rows])
    return replace(learner, kernel=learner.kernel[rows], hidden=hidden)


def fit_classifier(train: Answered, selection: Answered) -> FittedMeta:
    """Fit a multinomial logistic regression on log-probabilities (members, rows, classes) (Wolpert 1992).

    Minimises mean -log p + strength ||W - W0||^2, where W0 is the geometric mean of the members and 0 for numbers that
    are passed; the strength is the one with the lowest loss on the selection rows. The problem is strictly convex in W:
    the order of members does not matter. Both means are by row weight.
    """
    features = features_of(train, classification=True)
    targets = one_hot(np.asarray(train.targets), train.answers.shape[2]).astype(np.float64)
    of_row = relative_weights(train.row_weights, len(targets))[:, None]
    prior = plain_mean(train, features)
    fitted = [_choice(strength, _logistic(features, targets, of_row, prior, strength)) for strength in STRENGTHS]
    return best_of_fitted(fitted, selection, classification=True)


def fit_regression(train: Answered, selection: Answered) -> FittedMeta:
    """Fit a ridge regression on predictions (members, rows, 1) whose penalty pulls to the plain mean."""
    features, wanted = features_of(train, classification=False), np.asarray(train.targets, np.float64).reshape(-1, 1)
    of_row = relative_weights(train.row_weights, len(wanted))[:, None]
    prior = plain_mean(train, features)
    fitted = [_choice(strength, _ridge(features, wanted, of_row, prior, strength)) for strength in STRENGTHS]
    return best_of_fitted(fitted, selection, classification=False)


def plain_mean(train: Answered, features: Floats) -> Floats:
    """Return the kernel (features, outputs) that answers the members' mean, of log-probabilities or predictions."""
    members, _, outputs = train.answers.shape
    kernel = np.tile(np.eye(outputs) / members, (members, 1))
    return np.concatenate([kernel, np.zeros((features.shape[1] - len(kernel), outputs))])


def _choice(strength: float, learner: tuple[Floats, Floats]) -> tuple[float, MetaLearner]:
    kernel, bias = learner
    return strength, MetaLearner(kernel.astype(np.float32), bias.astype(np.float32))


def best_of_fitted(
    fitted: Sequence[tuple[float, MetaLearner]], selection: Answered, *, classification: bool
) -> FittedMeta:
    """Return the (strength, meta-learner) with the lowest loss on the selection rows; of equal ones the first."""
    loss = loss_on(selection, classification=classification)
    losses = [loss(learner) for _, learner in fitted]
    place = int(np.argmin(losses))
    return FittedMeta(fitted[place][1], fitted[place][0], losses[place])


def loss_on(rows: Answered, *, classification: bool) -> Callable[[MetaLearner], float]:
    """Return the mean -log p, or squared error, of meta-learners on these rows."""
    features = features_of(rows, classification=classification)
    if classification:
        labels = np.asarray(rows.targets)
        return lambda learner: negative_log_likelihood(
            softmax(learner_values(learner, features)), labels, row_weights=rows.row_weights
        )
    wanted = np.asarray(rows.targets, np.float64).reshape(-1, 1)
    return lambda learner: mean_squared_error(learner_values(learner, features), wanted, row_weights=rows.row_weights)


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


def _ridge(features: Floats, targets: Floats, of_row: Floats, prior: Floats, strength: float) -> tuple[Floats, Floats]:
    centre, level = (features * of_row).mean(axis=0), (targets * of_row).mean(axis=0)
    centred, left = (features - centre) * np.sqrt(of_row), (targets - level) * np.sqrt(of_row)
    gram = centred.T @ centred / len(features)
    penalty = strength * (np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    away = np.linalg.solve(gram + penalty, centred.T @ (left - centred @ prior) / len(features))
    kernel = prior + away
    return kernel, level - centre @ kernel
