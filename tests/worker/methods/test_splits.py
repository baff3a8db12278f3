"""Folds that leak nothing, whatever the rows, groups and times."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.job_errors import MethodNotApplicableError
from worker.ensemble.splits import cut_by_time, fold_numbers, grouped_numbers, numbers_of, share_tested, without

seeds = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, folds=st.integers(2, 5), groups=st.integers(5, 20), stratified=st.booleans())
def test_trap_20_no_group_stands_in_two_folds(seed, folds, groups, stratified):
    rng = np.random.default_rng(seed)
    of_row = np.concatenate([np.arange(groups), rng.integers(groups, size=60)])
    labels = rng.integers(3, size=len(of_row))
    numbers = grouped_numbers(of_row, labels, folds=folds, seed=seed, stratified=stratified)
    assert sorted(np.unique(numbers)) == list(range(folds))
    for group in range(groups):
        assert len(np.unique(numbers[of_row == group])) == 1


@settings(max_examples=80, deadline=None)
@given(seed=seeds, folds=st.integers(2, 5), units=st.integers(20, 60), times=st.integers(12, 80))
def test_trap_20_no_model_learns_from_later_rows_than_it_answers_for(seed, folds, units, times):
    rng = np.random.default_rng(seed)
    of_row, order = rng.integers(units, size=80), rng.integers(times, size=80)
    try:
        cuts = cut_by_time(of_row, order, folds=folds)
    except MethodNotApplicableError:
        assume(False)
    for cut in cuts:
        assert not (cut.learned & cut.held_out).any()
        assert not set(of_row[cut.learned]) & set(of_row[cut.held_out])
        assert order[cut.learned].max() <= order[cut.held_out].min(initial=times)
    held_out = np.sum([cut.held_out for cut in cuts], axis=0)
    assert held_out.max() == 1, "no row is answered for twice"
    np.testing.assert_array_equal(numbers_of(cuts) >= 0, held_out == 1)


def test_every_row_of_a_time_series_but_the_first_block_is_answered_for():
    cuts = cut_by_time(np.arange(60), np.arange(60), folds=5)
    assert [(cut.learned.sum(), cut.held_out.sum()) for cut in cuts] == [(10 * n, 10) for n in range(1, 6)]
    assert numbers_of(cuts).tolist() == [-1] * 10 + [number for number in range(5) for _ in range(10)]


def test_folds_in_time_test_a_larger_share_of_their_rows_than_others_do():
    plain = [without(np.arange(60) // 12 == number) for number in range(5)]
    assert share_tested(plain) == pytest.approx(1 / 5)
    ratio = np.mean([1 / number for number in range(1, 6)])
    assert share_tested(cut_by_time(np.arange(60), np.arange(60), folds=5)) == pytest.approx(ratio / (1 + ratio))


def test_rows_of_one_time_share_a_block():
    order = np.repeat(np.arange(6), 10)
    numbers = numbers_of(cut_by_time(np.arange(60), order, folds=3))
    for time in range(6):
        assert len(np.unique(numbers[order == time])) == 1


def test_one_time_cannot_be_cut():
    with pytest.raises(MethodNotApplicableError, match="blocks of different times"):
        cut_by_time(np.arange(20), np.zeros(20, np.int64), folds=2)


def test_trap_20_equal_rows_share_a_fold():
    groups = np.repeat(np.arange(60), 2)
    folds = fold_numbers(groups, groups % 3, folds=5, seed=1, stratified=True)
    np.testing.assert_array_equal(folds[::2], folds[1::2])
    assert sorted(np.unique(folds)) == [0, 1, 2, 3, 4]
    assert np.bincount(folds).min() >= 20


def test_folds_spread_the_classes_evenly():
    labels = np.repeat([0, 1], [90, 10])
    folds = fold_numbers(np.arange(100), labels, folds=5, seed=1, stratified=True)
    assert [int(labels[folds == number].sum()) for number in range(5)] == [2] * 5


def test_more_folds_than_different_rows_or_groups_are_refused():
    for cut in (fold_numbers, grouped_numbers):
        with pytest.raises(MethodNotApplicableError, match="too few for 2 folds"):
            cut(np.zeros(50), np.zeros(50), folds=2, seed=0, stratified=True)


def test_a_cut_without_a_fold_learns_from_all_others():
    cut = without(np.array([True, False, False]))
    assert cut.learned.tolist() == [False, True, True]
