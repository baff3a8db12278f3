"""A small network as the meta-learner of a stack: what it adds to the linear one starts at nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from app.domain.fusion import log_probabilities, relative_weights, softmax
from app.serving.meta_nodes import HiddenLayer, MetaLearner
from worker.ensemble.learner import Answered, features_of, learner_values
from worker.ensemble.meta import Fit, FittedMeta, best_of_fitted, fit_classifier, fit_regression
from worker.rows import one_hot

WIDTHS = (8, 32)
STRENGTHS = (0.1, 0.01, 0.001)
MOST_STEPS = 300
Floats = NDArray[np.float64]
Parts = tuple[Floats, Floats, Floats, Floats]


def mlp_fit(*, seed: int, classification: bool) -> Fit:
    """Return the fit of a network whose first weights are drawn by a seed."""
    return partial(_fit, seed=seed, classification=classification)


def _fit(train: Answered, selection: Answered, *, seed: int, classification: bool) -> FittedMeta:
    """Fit f W + c + tanh(f U + b) V, where f W + c is the linear meta-learner, chosen and fitted before.

    Minimises the mean loss + strength (||U||^2 + ||V||^2) by L-BFGS; width and strength are those with the lowest loss
    on the selection rows. V starts at 0, so a strong penalty leaves the linear one. (The plain mean instead of it is no
    start: a member that is sure and wrong, such as a nearest neighbour, spoils it beyond what bounded units can mend.)
    """
    linear = (fit_classifier if classification else fit_regression)(train, selection).learner
    problem = _problem(train, linear, classification=classification)
    fitted = [
        (strength, problem.learner(problem.solve(width, strength, seed))) for width in WIDTHS for strength in STRENGTHS
    ]
    return best_of_fitted(fitted, selection, classification=classification)


def _problem(train: Answered, linear: MetaLearner, *, classification: bool) -> "_Problem":
    features = features_of(train, classification=classification)
    if classification:
        targets, unit = one_hot(np.asarray(train.targets), train.answers.shape[2]).astype(np.float64), 1.0
    else:
        targets = np.asarray(train.targets, np.float64).reshape(-1, 1)
        unit = float(targets.std()) or 1.0
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation <= 1e-7 * np.abs(mean)] = 1.0
    of_row = relative_weights(train.row_weights, len(targets))[:, None]
    base = learner_values(linear, features) / unit
    scaled = (features - mean) / deviation
    return _Problem(scaled, targets / unit, base, of_row, mean, deviation, linear, unit, classification)


@dataclass(frozen=True)
class _Problem:
    """Hold standardized features; targets and what the linear learner answers, in units of the targets' deviation."""

    features: Floats
    targets: Floats
    base: Floats
    of_row: Floats
    mean: Floats
    deviation: Floats
    linear: MetaLearner
    unit: float
    classification: bool

    def solve(self, width: int, strength: float, seed: int) -> Parts:
        """Return U, b, V and c of a hidden layer of so many units."""
        inputs, outputs = self.linear.kernel.shape
        draws = np.random.default_rng(seed).normal(0, inputs**-0.5, (inputs, width))
        shapes = [(inputs, width), (width,), (width, outputs), (outputs,)]
        start = np.concatenate([draws.ravel(), np.zeros(width + width * outputs + outputs)])

        def loss(flat: Floats) -> tuple[float, Floats]:
            value, slopes = self.loss(_parts(flat, shapes), strength)
            return value, np.concatenate([slope.ravel() for slope in slopes])

        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS, "gtol": 1e-6})
        return _parts(found.x, shapes)

    def loss(self, parts: Parts, strength: float) -> tuple[float, Parts]:
        """Return the loss and its slopes by U, b, V and c."""
        into, threshold, out, level = parts
        hidden = np.tanh(self.features @ into + threshold)
        value, error = self._error(self.base + hidden @ out + level)
        back = error @ out.T * (1 - np.square(hidden))
        penalty = strength * (np.square(into).sum() + np.square(out).sum())
        slopes = (
            self.features.T @ back + 2 * strength * into,
            back.sum(axis=0),
            hidden.T @ error + 2 * strength * out,
            error.sum(axis=0),
        )
        return value + float(penalty), slopes

    def _error(self, values: Floats) -> tuple[float, Floats]:
        """Return the mean loss by row weight and its slope by the values (rows, outputs)."""
        share = self.of_row / len(self.targets)
        if self.classification:
            probabilities = softmax(values)
            loss = -(log_probabilities(probabilities) * self.targets * share).sum()
            return float(loss), (probabilities - self.targets) * share
        left = values - self.targets
        return float((np.square(left) * share).sum()), 2 * left * share

    def learner(self, parts: Parts) -> MetaLearner:
        """Return what is served: it takes the features as they are, and answers in the targets' own units."""
        into, threshold, out, level = parts
        kernel = into / self.deviation[:, None]
        numbers = (kernel, threshold - self.mean @ kernel, out * self.unit)
        hidden = HiddenLayer(*(values.astype(np.float32) for values in numbers))
        return replace(self.linear, bias=self.linear.bias + (level * self.unit).astype(np.float32), hidden=hidden)


def _parts(flat: Floats, shapes: list[tuple[int, ...]]) -> Parts:
    def cut() -> Iterator[Floats]:
        start = 0
        for shape in shapes:
            size = int(np.prod(shape))
            yield flat[start : start + size].reshape(shape)
            start += size

    into, threshold, out, level = cut()
    return into, threshold, out, level
