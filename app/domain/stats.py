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
Bounds: TypeAlias = tuple[float, float]
LEVEL = 0.05
FEWEST_DISCORDANT = 6
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


def paired_score_bound(better: int, worse: int, rows: int, *, confidence: float) -> float:
    """Return the one-sided lower bound of a difference of two proportions on the same rows (Tango 1998).

    On `better` rows the first alone is right, on `worse` ones the second. Unlike a bootstrap it does not shrink to
    nothing where few rows differ, or none: what so few rows did not show may still be.

    Examples:
        >>> round(paired_score_bound(0, 0, 1000, confidence=0.95), 5)
        -0.0027
    """
    wanted = NormalDist().inv_cdf(confidence)
    low, high = -1.0, (better - worse) / rows
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _paired_score(better, worse, rows, middle) < wanted else (middle, high)
    return low


def _paired_score(better: int, worse: int, rows: int, difference: float) -> float:
    """Return how many deviations the observed difference lies above this one, by the likeliest such proportions.

    With d for the difference, the share q of rows that the second alone gets right maximizes
    better log(q + d) + worse log q + (rows - better - worse) log(1 - 2q - d).
    """
    linear = better + worse - difference * (2 * rows - better + worse)
    constant = worse * -difference * (1 - difference)
    share = (linear + math.sqrt(max(0.0, linear * linear - 8 * rows * constant))) / (4 * rows)
    variance = rows * (2 * share + difference * (1 - difference))
    gap = better - worse - rows * difference
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap)


def mcnemar_exact(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value that a and b err equally often, from the rows on which they differ (McNemar 1947).

    Examples:
        >>> mcnemar_exact(np.array([True] * 6), np.array([False] * 6))
        0.03125
    """
    only_a, only_b, _ = _discordant(correct_a, correct_b)
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


def share_of_lead(own: Floats, leading: Floats, other: Floats, *, seed: int = 0) -> tuple[float | None, Bounds | None]:
    """Return (own - other) / (leading - other), of mean scores per row, and its 95 % paired bootstrap interval.

    Without a lead there is no share; where these rows do not show one, it might as well be 0 and the share anything:
    then there is no interval.
    """
    columns = np.stack([own, leading, other], axis=1).astype(np.float64)
    mean, resampled = columns.mean(axis=0), _resampled_means(columns, seed=seed)
    lead = resampled[:, 1] - resampled[:, 2]
    share = float((mean[0] - mean[2]) / (mean[1] - mean[2])) if mean[1] > mean[2] else None
    if share is None or np.quantile(lead, LEVEL / 2) <= 0:
        return share, None
    low, high = np.quantile((resampled[:, 0] - resampled[:, 2])[lead > 0] / lead[lead > 0], [LEVEL / 2, 1 - LEVEL / 2])
    return share, (float(low), float(high))


def non_inferior(correct: NDArray[np.bool_], other: NDArray[np.bool_], margin: float) -> NonInferiority:
    """Test that a classifier's accuracy is at most `margin` (a share) below another's on the same rows.

    Passed when the one-sided 95 % lower bound of the difference (Tango's score) is not below -margin (Schuirmann 1987;
    Walker & Nowacki 2011). So even answers that are equal on every row show no margin below 2.7 / rows.
    """
    better, worse, rows = _discordant(correct, other)
    bound = paired_score_bound(better, worse, rows, confidence=1 - LEVEL)
    spread = math.sqrt((better + worse) / rows - ((better - worse) / rows) ** 2)
    least = -paired_score_bound(0, 0, rows, confidence=1 - LEVEL)
    return _within_margin((better - worse) / rows, bound, margin, error=spread / math.sqrt(rows), least=least)


def non_inferior_errors(squared: Floats, other: Floats, margin: float, *, seed: int = 0) -> NonInferiority:
    """Test that a regression's RMSE is at most the share `margin` of another's above it, by squared errors per row.

    The difference is 1 - RMSE / RMSE of the other, its lower bound that of a paired bootstrap.
    """
    columns = np.stack([squared, other], axis=1).astype(np.float64) + np.finfo(np.float64).tiny
    own, others = columns.mean(axis=0)
    resampled = _resampled_means(columns, seed=seed)
    found = 1 - np.sqrt(resampled[:, 0] / resampled[:, 1])
    bound = float(np.quantile(found, LEVEL))
    return _within_margin(1 - math.sqrt(own / others), bound, margin, error=float(found.std()))


def _within_margin(
    difference: float, lower_bound: float, margin: float, *, error: float, least: float = 0.0
) -> NonInferiority:
    normal = NormalDist()
    factor = normal.inv_cdf(1 - LEVEL) + normal.inv_cdf(0.8)
    passed = lower_bound >= -margin - _ROUNDING
    return NonInferiority(margin, difference, lower_bound, passed, max(least, factor * error))


def _discordant(correct: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Count the rows that the first alone gets right, those that the second alone does, and all."""
    return int(np.count_nonzero(correct & ~other)), int(np.count_nonzero(other & ~correct)), len(correct)


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
    """Return the two-sided p-value of the t-test that the runs' mean difference is 0 (Student 1908).

    Runs that do not differ at all say nothing of chance, as one run does not: 1.
    """
    if not differences.deviation:
        return 1.0
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
    p_value = float(2 * stdtr(runs - 1, -abs(mean) / error)) if error > 0 else 1.0
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
    """Compare two classifiers, row by row right or wrong; the difference is one of accuracies.

    The interval reaches as far as that of the paired bootstrap and that of Tango's score: where hardly any rows differ
    the former is too short. The exact test shows nothing below six rows that differ.
    """
    difference, (low, high) = paired_bootstrap_difference(correct, other, seed=seed)
    better, worse, rows = _discordant(correct, other)
    low = min(low, paired_score_bound(better, worse, rows, confidence=1 - LEVEL / 2))
    high = max(high, -paired_score_bound(worse, better, rows, confidence=1 - LEVEL / 2))
    p_value = mcnemar_exact(correct, other)
    least = max(FEWEST_DISCORDANT / rows, smallest_shown(correct.astype(np.float64) - other))
    return Comparison(against, difference, (low, high), p_value, decide(difference, p_value), min(1.0, least))


def compare_errors(
    squared: NDArray[np.floating], other: NDArray[np.floating], *, against: str, seed: int = 0
) -> Comparison:
    """Compare two regressions by squared error per row; the difference says how much lower the mean error is.

    The p-value is that of the paired z-test, which rows in the hundreds justify.
    """
    differences = np.asarray(other, dtype=np.float64) - squared
    difference, interval = paired_bootstrap_difference(other, squared, seed=seed)
    error = float(differences.std()) / math.sqrt(len(differences))
    p_value = math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else float(difference == 0)
    return Comparison(against, difference, interval, p_value, decide(difference, p_value), smallest_shown(differences))
