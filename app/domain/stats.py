"""Honest statistics: how sure a figure is, and whether two models differ on the same rows."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["better", "worse", "no difference shown"]
LEVEL = 0.05
_RESAMPLED_VALUES = 4_000_000


@dataclass(frozen=True)
class Comparison:
    """Compare a model with another on the same rows: difference > 0 means that the model is better.

    `smallest_shown` is the smallest true difference that so many rows would show four times in five.
    """

    against: str
    difference: float
    interval: tuple[float, float]
    p_value: float
    verdict: Verdict
    smallest_shown: float


def wilson_interval(correct: int, rows: int, *, confidence: float = 1 - LEVEL) -> tuple[float, float]:
    """Return the interval of a proportion that stays inside [0, 1] even for 0 or all correct (Wilson 1927).

    Examples:
        >>> [round(bound, 4) for bound in wilson_interval(96, 100)]
        [0.9016, 0.9843]
    """
    if rows == 0:
        return (0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = correct / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def mcnemar_exact(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value that a and b err equally often, from the rows on which they differ (McNemar 1947).

    Examples:
        >>> mcnemar_exact(np.array([True] * 6), np.array([False] * 6))
        0.03125
    """
    only_a = int(np.count_nonzero(correct_a & ~correct_b))
    only_b = int(np.count_nonzero(correct_b & ~correct_a))
    discordant, fewer = only_a + only_b, min(only_a, only_b)
    term = tail = 1
    for successes in range(fewer):
        term = term * (discordant - successes) // (successes + 1)
        tail += term
    return float(min(1.0, 2 * tail / 2**discordant))


def paired_bootstrap_difference(
    scores_a: NDArray[np.generic], scores_b: NDArray[np.generic], *, seed: int = 0, resamples: int = 2000
) -> tuple[float, tuple[float, float]]:
    """Return the mean of a - b over the rows and its 95 % percentile interval (Efron 1979).

    Scores are per row, larger is better: correctness as 0 and 1, or a negative loss.
    """
    differences = np.asarray(scores_a, dtype=np.float64) - np.asarray(scores_b, dtype=np.float64)
    rows = len(differences)
    rng = np.random.default_rng(seed)
    chunk = max(1, _RESAMPLED_VALUES // rows)
    means = [
        differences[rng.integers(rows, size=(min(chunk, resamples - start), rows))].mean(axis=1)
        for start in range(0, resamples, chunk)
    ]
    low, high = np.quantile(np.concatenate(means), [LEVEL / 2, 1 - LEVEL / 2])
    return float(differences.mean()), (float(low), float(high))


def smallest_shown(differences: NDArray[np.floating]) -> float:
    """Return the true mean difference that a two-sided 5 % test of these rows would show with power 0.8."""
    normal = NormalDist()
    factor = normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(0.8)
    return float(factor * differences.std() / math.sqrt(len(differences)))


def decide(difference: float, p_value: float) -> Verdict:
    """Name what a comparison shows at the 5 % level."""
    if p_value >= LEVEL or difference == 0:
        return "no difference shown"
    return "better" if difference > 0 else "worse"


def compare_accuracy(
    correct: NDArray[np.bool_], other: NDArray[np.bool_], *, against: str, seed: int = 0
) -> Comparison:
    """Compare two classifiers, row by row right or wrong; the difference is one of accuracies."""
    difference, interval = paired_bootstrap_difference(correct, other, seed=seed)
    p_value = mcnemar_exact(correct, other)
    row_differences = correct.astype(np.float64) - other
    return Comparison(
        against, difference, interval, p_value, decide(difference, p_value), smallest_shown(row_differences)
    )


def compare_errors(
    squared: NDArray[np.floating], other: NDArray[np.floating], *, against: str, seed: int = 0
) -> Comparison:
    """Compare two regressions by squared error per row; the difference says how much lower the mean error is.

    The p-value is that of the paired z-test, which rows in the hundreds justify.
    """
    differences = np.asarray(other, dtype=np.float64) - squared
    difference, interval = paired_bootstrap_difference(other, squared, seed=seed)
    error = float(differences.std()) / math.sqrt(len(differences))
    p_value = 2 * (1 - NormalDist().cdf(abs(difference) / error)) if error > 0 else float(difference == 0)
    return Comparison(against, difference, interval, p_value, decide(difference, p_value), smallest_shown(differences))
