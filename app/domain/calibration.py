"""How sure a classifier says that it is, put right: temperatures, and sets of classes."""

from typing import NamedTuple

import numpy as np

from app.domain.fusion import Floats, Labels, Weights, negative_log_likelihood, softmax
from app.domain.quality import expected_calibration_error

LARGEST_TEMPERATURE = 100.0
# About the smallest number that float32 holds in full: what a model is all too sure of is still told apart by it.
SMALLEST_CONFIDENCE = 1e-37
# A gain smaller than this, in nats, is not worth another temperature than 1.
SMALLEST_GAIN = 1e-9


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return softmax(log p / T) (Guo et al. 2017) for probabilities (..., classes): flatter above T = 1.

    The largest stays the largest. log p differs from the logits by a constant per row, which softmax does not see. 0 is
    clipped to 1e-37.
    """
    if temperature == 1.0:
        return probabilities
    return softmax(_logs(probabilities) / temperature)


def _logs(probabilities: Floats) -> Floats:
    return np.log(np.clip(probabilities, SMALLEST_CONFIDENCE, 1.0))


def fit_temperature(probabilities: Floats, labels: Labels, *, row_weights: Weights = None) -> float:
    """Return the temperature T > 0 with which probabilities (rows, classes) give the labels the least mean -log p.

    The labels of n rows count as right with (n + 1) / (n + 2) (Platt 1999): else rows that are all right would make
    every answer certain. The loss is convex in 1/T, so its slope changes sign once. What does not lower the plain loss
    of the rows is not worth another temperature than 1.
    """
    logs, wanted = _logs(probabilities), _softened(labels, probabilities.shape[-1])

    def slope(inverse: float) -> float:
        """Return the derivative of the mean loss of softmax(inverse * log p)."""
        expected = softmax(inverse * logs)
        return float(np.average(((expected - wanted) * logs).sum(axis=-1), weights=row_weights))

    low, high = 1 / LARGEST_TEMPERATURE, LARGEST_TEMPERATURE
    for _ in range(50):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    temperature = float(1 / np.sqrt(low * high))
    losses = [
        negative_log_likelihood(apply_temperature(probabilities, each), labels, row_weights=row_weights)
        for each in (1.0, temperature)
    ]
    return temperature if losses[1] < losses[0] - SMALLEST_GAIN else 1.0


def _softened(labels: Labels, classes: int) -> Floats:
    """Return target probabilities (rows, classes) that leave 1 / (n + 2) to the other classes."""
    left = 1 / (len(labels) + 2)
    targets = np.full((len(labels), classes), left / max(classes - 1, 1))
    np.put_along_axis(targets, labels[:, None], 1 - left, axis=-1)
    return targets


class Calibrated(NamedTuple):
    """Say what a temperature did on the rows that it was fitted on: nll in nats, by row weight; ece of 15 bins, not."""

    temperature: float
    nll_before: float
    nll: float
    ece_before: float
    ece: float


def told_temperature(
    probabilities: Floats, labels: Labels, temperature: float, *, row_weights: Weights = None
) -> Calibrated:
    """Return the figures of rows before and after a temperature."""
    after = apply_temperature(probabilities, temperature)
    nll = [negative_log_likelihood(each, labels, row_weights=row_weights) for each in (probabilities, after)]
    ece = [expected_calibration_error(each, labels) for each in (probabilities, after)]
    return Calibrated(temperature, nll[0], nll[1], ece[0], ece[1])


def conformal_level(probabilities: Floats, labels: Labels, miscoverage: float) -> float:
    """Return the least probability with which a class belongs to a row's set (split conformal, Sadinle et al. 2019).

    The score of a row is 1 - p of its label; the quantile is the ceil((n + 1) (1 - a))-th smallest of n, so that for
    new rows from the same source the right class is in the set with probability of at least 1 - a. Where n rows are too
    few for a (`enough_rows`), 0 is returned: every class belongs.
    """
    scores = np.sort(1 - np.take_along_axis(probabilities, labels[:, None], axis=-1)[:, 0])
    place = int(np.ceil((len(scores) + 1) * (1 - miscoverage)))
    return 0.0 if place > len(scores) else float(1 - scores[place - 1])


def enough_rows(rows: int, miscoverage: float) -> bool:
    """Say whether so many rows can tell a level for this miscoverage: a >= 1 / (n + 1)."""
    return miscoverage * (rows + 1) >= 1


def prediction_sets(probabilities: Floats, level: float) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return which classes (rows, classes) belong to each row's set; rounding to float32 excludes no class."""
    return np.asarray(probabilities >= level - 1e-6)
