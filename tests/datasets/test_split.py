"""The three sets: disjoint, never parting equal rows or groups, true to the shares and the strata."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.options import Split
from app.datasets.split import DROPPED, REPORT, SELECTION, TRAIN, Assignment, assign_sets, hash_rows
from app.domain.upload_errors import NoSamplesError

DEFAULT = Split()


def hashes_of(values: np.ndarray) -> np.ndarray:
    return hash_rows(np.asarray(values, dtype=np.float32).reshape(len(values), -1))


def assign(
    values: np.ndarray, strata: np.ndarray, seed: int = 0, split: Split = DEFAULT, **more: np.ndarray
) -> Assignment:
    return assign_sets(hashes_of(values), strata, split=split, seed=seed, **more)


def sets_of(assignment: Assignment, column: np.ndarray) -> dict[object, set[int]]:
    """Map each value of a column to the sets in which it stands."""
    found: dict[object, set[int]] = {}
    for value, number in zip(column.tolist(), assignment.sets.tolist(), strict=True):
        found.setdefault(value, set()).add(number)
    return found


@given(st.integers(5, 400), st.integers(2, 6), st.integers(0, 9), st.sampled_from([(0.6, 0.2, 0.2), (0.1, 0.3, 0.6)]))
@settings(max_examples=40, deadline=None)
def test_distinct_rows_are_dealt_out_true_to_shares_and_classes(
    rows: int, classes: int, seed: int, shares: tuple[float, float, float]
) -> None:
    split = Split(train=shares[0], selection=shares[1], report=shares[2])
    strata = np.arange(rows * classes) % classes
    sets = assign(np.arange(rows * classes), strata, seed, split).sets
    for number, share in enumerate(shares):
        assert abs((sets == number).sum() - share * len(sets)) <= 1 + 1e-6
        for stratum in range(classes):
            assert abs(((sets == number) & (strata == stratum)).sum() - share * rows) <= 2


@given(st.lists(st.integers(0, 30), min_size=40, max_size=120), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_equal_rows_share_a_set(values: list[int], seed: int) -> None:
    column = np.array(values + list(range(100, 120)))
    assignment = assign(column, column % 3, seed)
    assert all(len(found) == 1 for found in sets_of(assignment, column).values())
    assert set(assignment.sets.tolist()) == {TRAIN, SELECTION, REPORT}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), min_size=30, max_size=150), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_neither_groups_nor_equal_rows_straddle_sets(rows: list[tuple[int, int]], seed: int) -> None:
    pairs = np.array(rows + [(1000 + index, 100 + index) for index in range(10)])
    values, groups = pairs[:, 0], pairs[:, 1]
    assignment = assign(values, values % 2, seed, groups=groups)
    for column in (values, groups):
        assert all(len(found) == 1 for found in sets_of(assignment, column).values())


@given(st.lists(st.integers(0, 40), min_size=30, max_size=100), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_an_official_report_part_stays_and_its_copies_leave_train(values: list[int], seed: int) -> None:
    column = np.array(values + list(range(100, 120)))
    official = np.arange(len(column)) % 5 == 0
    assignment = assign(column, column % 3, seed, official=official)
    assert (assignment.sets[official] == REPORT).all()
    copies = np.isin(column, column[official]) & ~official
    assert (assignment.sets[copies] == DROPPED).all()
    assert not np.isin(assignment.sets[~official & ~copies], [REPORT, DROPPED]).any()
    assert copies.any() == any(f"{copies.sum()} rows that equal" in note for note in assignment.notes)


@given(st.lists(st.integers(0, 50), min_size=30, max_size=100), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_by_time_train_holds_nothing_newer_than_what_is_kept_for_later(values: list[int], random: object) -> None:
    column = np.array(values + list(range(100, 140)))
    order = np.arange(len(column))
    random.shuffle(order)  # type: ignore[attr-defined]
    sets = assign(column, column % 2, order=order).sets
    newest = {value: order[column == value].max() for value in set(column.tolist())}
    age = np.array([newest[value] for value in column.tolist()])
    assert age[sets == TRAIN].max() < age[sets == SELECTION].min()
    assert age[sets == SELECTION].max() < age[sets == REPORT].min()
    assert all(len(found) == 1 for found in sets_of(Assignment(sets), column).values())


def test_the_seed_decides_and_nothing_else() -> None:
    values, strata = np.arange(200), np.arange(200) % 4
    first, again, other = (assign(values, strata, seed).sets for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_six_speakers_of_equal_size_are_shared_out_four_one_one() -> None:
    groups = np.repeat(np.arange(6), 50)
    sets = assign(np.arange(300), np.arange(300) % 10, groups=groups).sets
    assert np.bincount(sets).tolist() == [200, 50, 50]


def test_too_few_groups_for_three_sets_are_refused() -> None:
    with pytest.raises(NoSamplesError, match="report set would be empty"):
        assign(np.arange(100), np.arange(100) % 2, groups=np.arange(100) % 2)


def test_groups_of_one_class_each_still_fill_every_set() -> None:
    groups = np.arange(120) // 10
    sets = assign(np.arange(120), groups // 2, groups=groups).sets
    assert np.bincount(sets).min() >= 20


def test_equal_rows_under_different_labels_are_told() -> None:
    values = np.array([*range(50), 0, 1])
    strata = np.array([0, 1] * 25 + [1, 1])
    assert assign(values, strata).notes == (
        "2 rows repeat another row, 1 of them with another label; equal rows share a set.",
    )


def test_a_class_that_a_set_lacks_is_told() -> None:
    notes = assign(np.arange(100), np.array([2, *([0, 1] * 49), 0])).notes
    assert any("report set holds no row of 1 of the classes" in note for note in notes)


def test_every_row_has_a_hash_of_its_bytes() -> None:
    hashes = hash_rows(np.array([[1, 2], [1, 2], [2, 1]], np.uint8))
    assert hashes.shape == (3, 16)
    assert (hashes[0] == hashes[1]).all()
    assert (hashes[0] != hashes[2]).any()
