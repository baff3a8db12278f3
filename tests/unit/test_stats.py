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


def test_a_model_compared_with_itself_shows_no_difference_and_no_certainty():
    correct = np.random.default_rng(0).random(100) < 0.9
    told = stats.compare_accuracy(correct, correct, against="itself")
    assert (told.difference, told.p_value, told.verdict) == (0, 1, "no difference shown")
    assert told.interval == pytest.approx((-0.037, 0.037), abs=1e-3)
    assert told.smallest_shown == 0.06


def test_six_rows_that_differ_are_the_fewest_that_show_anything():
    other, rows = np.zeros(1000, bool), np.arange(1000)
    five, six = (stats.compare_accuracy(rows < count, other, against="none") for count in (5, 6))
    assert (five.verdict, six.verdict) == ("no difference shown", "better")
    assert five.smallest_shown >= six.difference == 0.006


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


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(p_values)
def test_holm_only_ever_raises_p_values_and_keeps_their_order(values):
    adjusted = stats.holm(values)
    assert all(before <= after <= 1 for before, after in zip(values, adjusted, strict=True))
    assert [adjusted[place] for place in np.argsort(values, kind="stable")] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1, len(values) * min(values)))


def test_holm_keeps_false_alarms_over_many_comparisons_below_one_in_twenty():
    rng = np.random.default_rng(0)
    alarms = [min(stats.holm(list(rng.random(10)))) < 0.05 for _ in range(2000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)


def test_a_verdict_follows_the_p_value_that_is_adjusted_for_many_comparisons():
    first, second = np.repeat([True, False], [9, 91]), np.repeat([False, True, False], [9, 1, 90])
    alone = stats.compare_accuracy(first, second, against="the other")
    assert (alone.verdict, alone.adjusted_p_value) == ("better", None)
    same = stats.compare_accuracy(first, first, against="itself")
    corrected = stats.correct_for_many([alone, same, same, same])
    assert corrected[0].verdict == "no difference shown"
    assert corrected[0].adjusted_p_value == pytest.approx(4 * alone.p_value)
    assert corrected[0].p_value == alone.p_value


def test_a_copy_is_as_good_as_its_rows_can_show():
    correct = np.random.default_rng(0).random(300) < 0.9
    told = stats.non_inferior(correct, correct, 0.005)
    assert (told.passed, told.difference) == (False, 0)
    assert told.smallest_margin == -told.lower_bound == pytest.approx(2.706 / 302.706, rel=1e-3)
    assert stats.non_inferior(correct, correct, told.smallest_margin + 1e-9).passed


@pytest.mark.parametrize(("better", "worse", "rows"), [(0, 1, 44), (9, 16, 200), (1, 40, 300), (120, 80, 10_000)])
def test_the_bound_of_a_paired_difference_is_where_its_score_says_so(better, worse, rows):
    optimize = pytest.importorskip("scipy.optimize")
    bound = stats.paired_score_bound(better, worse, rows, confidence=0.95)

    def unlikely(share):
        """Tango 1998: the likelihood of `share` for what the second alone gets right, if the bound were true."""
        return -(
            better * np.log(share + bound)
            + worse * np.log(share)
            + (rows - better - worse) * np.log(1 - 2 * share - bound)
        )

    least, most = max(0.0, -bound) + 1e-12, (1 - bound) / 2 - 1e-12
    share = optimize.minimize_scalar(unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    deviation = np.sqrt(rows * (2 * share + bound - bound**2))
    assert (better - worse - rows * bound) / deviation == pytest.approx(1.6449, abs=2e-3)


@pytest.mark.parametrize(
    ("rows", "lost", "won", "margin"), [(359, 0.005, 0.0, 0.005), (1000, 0.005, 0.0, 0.005), (88, 0.02, 0.0, 0.02),
                                        (2000, 0.02, 0.015, 0.005), (10_000, 0.02, 0.015, 0.005)]
)  # fmt: skip
def test_a_model_just_as_bad_as_is_forbidden_passes_one_time_in_twenty(rows, lost, won, margin):
    rng = np.random.default_rng(0)
    draws = rng.multinomial(rows, (won, lost, 1 - won - lost), size=2000).tolist()
    bounds = [stats.paired_score_bound(better, worse, rows, confidence=0.95) for better, worse, _ in draws]
    assert np.mean(np.array(bounds) >= -margin) <= 0.06


def test_the_share_of_a_lead_has_an_interval_only_where_the_lead_is_shown():
    rng = np.random.default_rng(0)
    control = rng.random(2000) < 0.8
    teacher, student = control | (rng.random(2000) < 0.4), control | (rng.random(2000) < 0.2)
    share, (low, high) = stats.share_of_lead(student * 1.0, teacher * 1.0, control * 1.0)
    assert share == pytest.approx((student.mean() - control.mean()) / (teacher.mean() - control.mean()))
    assert 0.2 < low < share < high < 0.8
    few = slice(0, 20)
    assert stats.share_of_lead(student[few] * 1.0, teacher[few] * 1.0, control[few] * 1.0)[1] is None
    assert stats.share_of_lead(student * 1.0, control * 1.0, teacher * 1.0) == (None, None)


def test_a_drop_beyond_the_margin_fails_and_one_far_within_it_passes():
    rows = np.arange(5000)
    parent, slightly, clearly = rows < 4500, rows < 4498, rows < 4300
    assert stats.non_inferior(slightly, parent, 0.005).passed
    assert not stats.non_inferior(clearly, parent, 0.005).passed
    assert stats.non_inferior(clearly, parent, 0.05).passed


def test_few_rows_cannot_show_that_nothing_was_lost():
    parent, child = np.repeat([True, False, True], [10, 10, 180]), np.repeat([False, True], [10, 190])
    told = stats.non_inferior(child, parent, 0.005)
    assert (told.difference, told.passed) == (0, False)
    assert told.smallest_margin > 0.05


def test_an_equal_model_passes_its_smallest_margin_about_four_times_in_five():
    rng = np.random.default_rng(0)
    passed = []
    for _ in range(200):
        parent, child = rng.random(400) < 0.9, rng.random(400) < 0.9
        margin = stats.non_inferior(child, parent, 1.0).smallest_margin
        passed.append(stats.non_inferior(child, parent, margin).passed)
    assert 0.7 <= np.mean(passed) <= 0.9


def test_a_regression_may_lose_a_share_of_its_rmse():
    squared = np.square(np.random.default_rng(0).normal(size=2000))
    worse = squared * 1.03**2
    told = stats.non_inferior_errors(worse, squared, 0.05)
    assert told.difference == pytest.approx(-0.03)
    assert told.passed
    assert not stats.non_inferior_errors(worse, squared, 0.02).passed


def test_the_interval_of_a_mean_over_runs_is_that_of_scipy():
    scipy_stats = pytest.importorskip("scipy.stats")
    values = list(np.random.default_rng(0).normal(0.9, 0.01, 8))
    found = stats.mean_over_runs(values)
    expected = scipy_stats.t.interval(0.95, 7, np.mean(values), scipy_stats.sem(values))
    assert found.interval == pytest.approx(expected)
    assert found.mean == pytest.approx(np.mean(values))


def test_one_run_has_no_interval_and_shows_nothing():
    found = stats.mean_over_runs([0.4])
    assert (found.interval, found.deviation) == (None, None)
    assert stats.p_value_over_runs(found) == 1


def test_the_p_value_over_runs_is_that_of_the_t_test():
    scipy_stats = pytest.importorskip("scipy.stats")
    values = [0.01, 0.012, -0.003, 0.009]
    assert stats.p_value_over_runs(stats.mean_over_runs(values)) == pytest.approx(
        scipy_stats.ttest_1samp(values, 0).pvalue
    )
    assert stats.p_value_over_runs(stats.mean_over_runs([0.0, 0.0])) == 1
    assert stats.p_value_over_runs(stats.mean_over_runs([0.5, 0.5])) == 1


def test_the_corrected_resampled_t_is_wider_than_the_plain_one():
    # Nadeau & Bengio 2003: with ten folds the variance is 1/10 + 1/9 instead of 1/10 of the differences' variance.
    differences = list(np.random.default_rng(0).normal(0.01, 0.02, 10))
    plain = stats.mean_over_runs(differences)
    mean, (low, high), p_value = stats.corrected_resampled_t(differences, 0.1)
    assert mean == plain.mean
    assert (high - low) / (plain.interval[1] - plain.interval[0]) == pytest.approx(np.sqrt(1 + 10 / 9))
    assert (p_value < 0.05) == (not low <= 0 <= high)
    with pytest.raises(ValueError, match="at least two"):
        stats.corrected_resampled_t([0.1], 0.1)
