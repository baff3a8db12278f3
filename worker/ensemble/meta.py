"""The meta-learner of a stack: fitted on out-of-fold answers, shrunk to the plain mean of the members."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.model_selection import KFold, StratifiedKFold

from app.domain.fusion import (
    log_probabilities,
    mean_squared_error,
    negative_log_likelihood,
    softmax,
    stacking_features,
)
from app.domain.job_errors import MethodNotApplicableError
from app.serving.graph import MetaLearner
from worker.rows import Array, one_hot

STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001)
Floats = NDArray[np.float64]
Fit = Callable[[float], MetaLearner]


class FittedMeta(NamedTuple):
    """Hold the chosen meta-learner, the penalty that it was fitted with and its loss on the selection rows."""

    learner: MetaLearner
    strength: float
    selection_loss: float


def fold_numbers(groups: Array, labels: Array, *, folds: int, seed: int, stratified: bool) -> NDArray[np.int64]:
    """Return the fold (rows,) of every row: rows of one group share a fold, classes are spread evenly."""
    unique, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    if len(unique) < folds:
        raise MethodNotApplicableError(
            f"{folds} folds need at least as many different train rows, not {len(unique)}.", hint="Use fewer folds."
        )
    splitter = (StratifiedKFold if stratified else KFold)(folds, shuffle=True, random_state=seed)
    numbers = np.zeros(len(unique), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may be rarer than the folds are many
        for number, (_, held_out) in enumerate(splitter.split(unique, np.asarray(labels)[first])):
            numbers[held_out] = number
    folded: NDArray[np.int64] = numbers[inverse]
    return folded


def fit_classifier(answers: Floats, labels: Array, selection: Floats, selection_labels: Array) -> FittedMeta:
    """Fit a multinomial logistic regression on log-probabilities (members, rows, classes) (Wolpert 1992).

    Minimises mean -log p + strength ||W - W0||^2, where W0 is the geometric mean of the members; the strength is the
    one with the lowest loss on the selection rows. The problem is strictly convex in W: the order of members does not
    matter.
    """
    features, held_out = (stacking_features(log_probabilities(values)) for values in (answers, selection))
    prior = np.tile(np.eye(answers.shape[2]) / len(answers), (len(answers), 1))
    targets = one_hot(np.asarray(labels), answers.shape[2]).astype(np.float64)
    fitted = [_choice(strength, _logistic(features, targets, prior, strength)) for strength in STRENGTHS]

    def loss(learner: MetaLearner) -> float:
        return negative_log_likelihood(softmax(held_out @ learner.kernel + learner.bias), np.asarray(selection_labels))

    return _best(fitted, loss)


def fit_regression(answers: Floats, targets: Array, selection: Floats, selection_targets: Array) -> FittedMeta:
    """Fit a ridge regression on predictions (members, rows, 1) whose penalty pulls to the plain mean."""
    features, held_out = stacking_features(answers), stacking_features(selection)
    wanted, held_out_wanted = (np.asarray(values, np.float64).reshape(-1, 1) for values in (targets, selection_targets))
    fitted = [_choice(strength, _ridge(features, wanted, strength)) for strength in STRENGTHS]
    return _best(fitted, lambda learner: mean_squared_error(held_out @ learner.kernel + learner.bias, held_out_wanted))


def _choice(strength: float, learner: tuple[Floats, Floats]) -> tuple[float, MetaLearner]:
    kernel, bias = learner
    return strength, MetaLearner(kernel.astype(np.float32), bias.astype(np.float32))


def _best(fitted: list[tuple[float, MetaLearner]], loss: Callable[[MetaLearner], float]) -> FittedMeta:
    losses = [loss(learner) for _, learner in fitted]
    place = int(np.argmin(losses))
    return FittedMeta(fitted[place][1], fitted[place][0], losses[place])


def _logistic(features: Floats, targets: Floats, prior: Floats, strength: float) -> tuple[Floats, Floats]:
    rows, classes = targets.shape

    def loss(flat: Floats) -> tuple[float, Floats]:
        kernel, bias = flat[classes:].reshape(prior.shape), flat[:classes]
        logits = features @ kernel + bias
        probabilities = softmax(logits)
        error = (probabilities - targets) / rows
        away = kernel - prior
        value = -(log_probabilities(probabilities) * targets).sum() / rows + strength * np.square(away).sum()
        slope = features.T @ error + 2 * strength * away
        return float(value), np.concatenate([error.sum(axis=0), slope.ravel()])

    start = np.concatenate([np.zeros(classes), prior.ravel()])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-11, "gtol": 1e-7})
    return found.x[classes:].reshape(prior.shape), found.x[:classes]


def _ridge(features: Floats, targets: Floats, strength: float) -> tuple[Floats, Floats]:
    prior = np.full((features.shape[1], 1), 1 / features.shape[1])
    centre, level = features.mean(axis=0), targets.mean(axis=0)
    centred = features - centre
    gram = centred.T @ centred / len(features)
    penalty = strength * (np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    away = np.linalg.solve(gram + penalty, centred.T @ (targets - level - centred @ prior) / len(features))
    kernel = prior + away
    return kernel, level - centre @ kernel
