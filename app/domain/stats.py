"""Honest statistics: how sure a figure is, and whether two models differ on the same rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["better", "worse", "no difference shown"]
Floats: TypeAlias = NDArray[np.floating]
LEVEL = 0.05
_ROUNDING = 1e-12
_RESAMPLED_VALUES = 4_000_000


@dataclass(frozen=True)
class Comparison:
    """Compare a model with another on the same rows: difference > 0 means that the model is better.

    `smallest_shown` is the smallest true difference that so many rows would show four times in five. Where a report
    makes several comparisons, `adjusted_p_value` is the one that the verdict follows.
    """

    against: str
    difference: float
    interval: tuple[float, float]
    p_value: float
    verdict: Verdict
    smallest_shown: float
    adjusted_p_value: float | None = None


@dataclass(frozen=True)
class NonInferiority:
    """Say whether a model is at most `margin` worse than another, 95 % sure; difference < 0 means that it is worse.

    `smallest_margin` is the smallest margin within which so many rows would show an equally good model to be, four
    times in five.
    """

    margin: float
    difference: float
    lower_bound: float
    passed: bool
    smallest_margin: float


@dataclass(frozen=True)
class RepeatedMean:
    """Hold a figure of several runs: mean, standard deviation, and the 95 % t interval of the mean."""

    mean: float
    deviation: float | None
    interval: tuple[float, float] | None
    values: tuple[float, ...]


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
    means = _resampled_means(differences[:, None], seed=seed, resamples=resamples)[:, 0]
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(differences.mean()), (float(low), float(high))


def _resampled_means(columns: Floats, *, seed: int, resamples: int = 2000) -> Floats:
    """Return the columns' means (resamples, columns) over rows that are drawn anew with replacement."""
    rows = len(columns)
    rng = np.random.default_rng(seed)
    chunk = max(1, _RESAMPLED_VALUES // rows)
    return np.concatenate(
        [
            columns[rng.integers(rows, size=(min(chunk, resamples - start), rows))].mean(axis=1)
            for start in range(0, resamples, chunk)
        ]
    )


def non_inferior(
    correct: NDArray[np.bool_], other: NDArray[np.bool_], margin: float, *, seed: int = 0
) -> NonInferiority:
    """Test that a classifier's accuracy is at most `margin` (a share) below another's on the same rows.

    Passed when the one-sided 95 % lower bound of the difference (paired bootstrap) is not below -margin (Schuirmann
    1987; Walker & Nowacki 2011).
    """
    differences = np.asarray(correct, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    resampled = _resampled_means(differences[:, None], seed=seed)[:, 0]
    return _within_margin(float(differences.mean()), resampled, margin)


def non_inferior_errors(squared: Floats, other: Floats, margin: float, *, seed: int = 0) -> NonInferiority:
    """Test that a regression's RMSE is at most the share `margin` of another's above it, by squared errors per row.

    The difference is 1 - RMSE / RMSE of the other.
    """
    columns = np.stack([squared, other], axis=1).astype(np.float64) + np.finfo(np.float64).tiny
    own, others = columns.mean(axis=0)
    resampled = _resampled_means(columns, seed=seed)
    return _within_margin(1 - math.sqrt(own / others), 1 - np.sqrt(resampled[:, 0] / resampled[:, 1]), margin)


def _within_margin(difference: float, resampled: Floats, margin: float) -> NonInferiority:
    lower_bound = float(np.quantile(resampled, LEVEL))
    normal = NormalDist()
    factor = normal.inv_cdf(1 - LEVEL) + normal.inv_cdf(0.8)
    passed = lower_bound >= -margin - _ROUNDING
    return NonInferiority(margin, difference, lower_bound, passed, factor * float(resampled.std()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in their order (Holm 1979).

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def correct_for_many(comparisons: Sequence[Comparison], *, beside: Sequence[float] = ()) -> tuple[Comparison, ...]:
    """Return the comparisons of one report with adjusted p-values, and the verdicts that follow from those.

    `beside` are p-values of the same family in other reports.
    """
    adjusted = holm([*(comparison.p_value for comparison in comparisons), *beside])[: len(comparisons)]
    return tuple(
        replace(comparison, adjusted_p_value=p_value, verdict=decide(comparison.difference, p_value))
        for comparison, p_value in zip(comparisons, adjusted, strict=True)
    )


def mean_over_runs(values: Sequence[float]) -> RepeatedMean:
    """Return mean, deviation and 95 % t interval of a figure over independent runs; one run has no interval.

    Examples:
        >>> found = mean_over_runs([0.92, 0.94, 0.93])
        >>> [round(bound, 4) for bound in found.interval]
        [0.9052, 0.9548]
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return RepeatedMean(mean, None, None, tuple(values))
    deviation = float(np.std(values, ddof=1))
    half = _t_quantile(len(values) - 1) * deviation / math.sqrt(len(values))
    return RepeatedMean(mean, deviation, (mean - half, mean + half), tuple(values))


def p_value_over_runs(differences: RepeatedMean) -> float:
    """Return the two-sided p-value of the t-test that the runs' mean difference is 0 (Student 1908)."""
    if differences.deviation is None:
        return 1.0
    if differences.deviation == 0:
        return float(differences.mean == 0)
    from scipy.special import stdtr

    runs = len(differences.values)
    return float(2 * stdtr(runs - 1, -abs(differences.mean) / differences.deviation * math.sqrt(runs)))


def corrected_resampled_t(differences: Sequence[float], test_share: float) -> tuple[float, tuple[float, float], float]:
    """Return mean, 95 % interval and two-sided p of differences from resampled splits (Nadeau & Bengio 2003).

    Runs that share train rows are not independent: the variance of the mean is s^2 (1/n + q / (1 - q)), where q is the
    share of the rows that each run is tested on.
    """
    from scipy.special import stdtr

    runs = len(differences)
    if runs < 2 or not 0 < test_share < 1:
        raise ValueError("at least two differences, and a test share between 0 and 1")
    mean, variance = float(np.mean(differences)), float(np.var(differences, ddof=1))
    error = math.sqrt(variance * (1 / runs + test_share / (1 - test_share)))
    half = _t_quantile(runs - 1) * error
    p_value = float(2 * stdtr(runs - 1, -abs(mean) / error)) if error > 0 else float(mean == 0)
    return mean, (mean - half, mean + half), p_value


def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit  # here, because the API does without SciPy until it is asked for statistics

    return float(stdtrit(degrees, 1 - LEVEL / 2))


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
