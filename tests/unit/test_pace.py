"""The time left: exact at an even pace, never negative, and it follows a pace that changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.pace import Mark, add_mark, is_long_ago, remaining_seconds

seconds = st.floats(0.001, 1e4)


def told(*marks: Mark) -> tuple[Mark, ...]:
    kept: tuple[Mark, ...] = ()
    for mark in marks:
        kept = add_mark(kept, mark)
    return kept


@given(seconds_per_step=seconds, done=st.integers(2, 2000), more=st.integers(1, 10_000), start=st.floats(0, 1e4))
def test_an_even_pace_is_continued(seconds_per_step: float, done: int, more: int, start: float) -> None:
    marks = told(*(Mark(start + step * seconds_per_step, step) for step in range(1, done + 1)))
    assert remaining_seconds(marks, done + more) == pytest.approx(more * seconds_per_step, rel=1e-3)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**9)), max_size=300), st.integers(0, 10**9))
def test_whatever_was_told_the_time_left_is_unknown_or_not_negative(
    given_marks: list[tuple[float, int]], total: int
) -> None:
    times = sorted(time for time, _ in given_marks)
    marks = told(*(Mark(time, step) for time, (_, step) in zip(times, given_marks, strict=True)))
    left = remaining_seconds(marks, total)
    assert left is None or left >= 0
    assert len(marks) <= 128


@pytest.mark.parametrize("marks", [(), (Mark(5.0, 1),), (Mark(5.0, 1), Mark(9.0, 1))], ids=["none", "one", "no step"])
def test_it_is_unknown_before_two_steps(marks: tuple[Mark, ...]) -> None:
    assert remaining_seconds(marks, 10) is None


def test_nothing_is_left_after_the_last_step() -> None:
    assert remaining_seconds((Mark(5.0, 10),), 10) == 0


def test_a_slow_first_step_is_soon_forgotten() -> None:
    marks = told(Mark(0, 0), *(Mark(8 + step, step) for step in range(1, 11)))
    assert remaining_seconds(marks, 20) == pytest.approx(10)


def test_a_stage_of_another_pace_counts_after_as_long_as_what_came_before() -> None:
    marks = told(*(Mark(step, step) for step in range(101)), *(Mark(100 + 10 * step, 100 + step) for step in range(12)))
    assert remaining_seconds(marks, 211) == pytest.approx(1000)


def test_work_that_begins_anew_is_measured_anew() -> None:
    assert told(Mark(0, 0), Mark(10, 100), Mark(20, 1)) == (Mark(20, 1),)


def test_a_long_job_is_told_of_rarely() -> None:
    told_at, times = 0.0, []
    for now in range(7 * 86_400):
        if is_long_ago(told_at, began_seconds=0.0, now_seconds=float(now)):
            told_at = float(now)
            times.append(now)
    assert times[:3] == [2, 4, 6]
    assert len(times) < 150
