import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import stats

correctness = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60).map(
    lambda rows: tuple(np.array(rows).T)
)


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_wilson_interval_holds_the_share_and_stays_in_the_unit_interval(correct, rows):
    correct = min(correct, rows)
    low, high = stats.wilson_interval(correct, rows)
    assert 0 <= low <= correct / rows <= high <= 1
    assert low < high


def test_the_wilson_interval_is_the_published_one():
    # Newcombe 1998, table I: 81 of 263.
    assert stats.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_no_rows_say_nothing():
    assert stats.wilson_interval(0, 0) == (0.0, 1.0)


@given(correctness)
def test_mcnemar_is_symmetric_and_a_probability(pair):
    first, second = pair
    p_value = stats.mcnemar_exact(first, second)
    assert 0 < p_value <= 1
    assert p_value == stats.mcnemar_exact(second, first)


def test_mcnemar_agrees_with_the_exact_binomial_test():
    scipy_stats = pytest.importorskip("scipy.stats")
    for only_a, only_b in [(0, 0), (1, 0), (3, 9), (20, 5), (400, 330)]:
        first = np.repeat([True, False, True], [only_a, only_b, 50])
        second = np.repeat([False, True, True], [only_a, only_b, 50])
        expected = scipy_stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
        assert stats.mcnemar_exact(first, second) == pytest.approx(expected)


@given(correctness, st.integers(0, 100))
def test_a_paired_bootstrap_changes_sign_with_its_arguments(pair, seed):
    first, second = pair
    difference, (low, high) = stats.paired_bootstrap_difference(first, second, seed=seed, resamples=200)
    mirrored, (mirrored_low, mirrored_high) = stats.paired_bootstrap_difference(second, first, seed=seed, resamples=200)
    assert (mirrored, mirrored_low, mirrored_high) == pytest.approx((-difference, -high, -low))
    assert low <= high


def test_a_paired_bootstrap_covers_the_true_difference_about_19_times_in_20():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        first, second = rng.random(200) < 0.9, rng.random(200) < 0.8
        _, (low, high) = stats.paired_bootstrap_difference(first, second, seed=trial, resamples=400)
        covered += low <= 0.1 <= high
    assert 0.9 <= covered / 200 <= 0.99


def test_a_model_compared_with_itself_shows_no_difference():
    correct = np.random.default_rng(0).random(100) < 0.9
    told = stats.compare_accuracy(correct, correct, against="itself")
    assert (told.difference, told.interval, told.p_value, told.verdict) == (0, (0, 0), 1, "no difference shown")


def test_verdicts_say_which_way_a_shown_difference_goes():
    good, bad = np.repeat([True, False], [95, 5]), np.repeat([True, False], [80, 20])
    assert stats.compare_accuracy(good, bad, against="bad").verdict == "better"
    assert stats.compare_accuracy(bad, good, against="good").verdict == "worse"


def test_a_regression_with_smaller_errors_is_better():
    rng = np.random.default_rng(0)
    small, large = rng.random(200), rng.random(200) + 0.5
    told = stats.compare_errors(small, large, against="large")
    assert told.verdict == "better"
    assert told.interval[0] > 0
    assert stats.compare_errors(small, small, against="itself").verdict == "no difference shown"


def test_more_rows_could_have_shown_a_smaller_difference():
    rng = np.random.default_rng(0)
    few, many = (rng.choice([-1.0, 0.0, 1.0], rows) for rows in (100, 10_000))
    assert stats.smallest_shown(many) < stats.smallest_shown(few) / 5
