"""Fronts, overlaps and limits against what they are by definition."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.pareto import Limit, overlapping, pareto_front, shortfalls

points = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=30)


def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


@given(points)
def test_a_point_is_on_the_front_when_no_other_beats_it(costs: list[tuple[int, int, int]]) -> None:
    assert pareto_front(costs) == [not any(beats(other, point) for other in costs) for point in costs]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda ends: (min(ends), max(ends))), max_size=12))
def test_overlap_is_mutual_and_never_with_oneself(intervals: list[tuple[float, float]]) -> None:
    near = overlapping(intervals, range(len(intervals)))
    for place, others in enumerate(near):
        assert place not in others
        assert all(place in near[other] for other in others)


def test_intervals_that_only_touch_overlap() -> None:
    assert overlapping([(0.0, 0.5), (0.5, 1.0)], [0, 1]) == [[1], [0]]


def test_what_is_missed_is_told_relative_to_its_bound() -> None:
    limits = [Limit("bytes", 200.0), Limit("accuracy", 0.8, is_least=True), Limit("latency", 1.0)]
    assert shortfalls(limits, {"bytes": 300, "accuracy": 0.6, "latency": 1.0}) == {
        "bytes": 0.5,
        "accuracy": (0.8 - 0.6) / 0.8,
    }


def test_a_figure_that_was_not_measured_meets_no_limit() -> None:
    assert shortfalls([Limit("memory", 1.0)], {"memory": None}) is None
