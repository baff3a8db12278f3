"""Pictures made of characters."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.charts import BARS, Point, scatter, sparkline

finite = st.floats(-1e6, 1e6)


def test_a_course_rises_from_the_lowest_to_the_highest_bar() -> None:
    assert sparkline([0.1, 0.2, 0.9]) == "▁▂█"


def test_a_course_that_never_changes_is_flat() -> None:
    assert sparkline([0.5, 0.5, 0.5]) == "▁▁▁"


def test_what_is_no_number_is_left_out() -> None:
    assert sparkline([math.nan, 1.0, math.inf, 2.0]) == "▁█"
    assert sparkline([math.nan]) == ""


@given(st.lists(finite, min_size=1, max_size=300))
def test_a_long_course_fits_its_width_and_ends_with_the_latest_value(values: list[float]) -> None:
    drawn = sparkline(values, width=20)
    assert 0 < len(drawn) <= 20
    assert set(drawn) <= set(BARS)
    longer = sparkline([*values, max(values) + 1.0], width=20)
    assert longer[-1] == BARS[-1]


def test_the_better_model_stands_above_and_the_cheaper_one_to_the_left() -> None:
    lines = scatter([Point(1.0, 0.9, "A"), Point(5.0, 0.95, "B"), Point(5.0, 0.8)], x_label="ms", y_label="accuracy")
    rows = {mark: index for index, line in enumerate(lines) for mark in "AB·" if mark in line.partition("│")[2]}
    columns = {mark: line.index(mark) for line in lines for mark in "AB·" if mark in line.partition("│")[2]}
    assert rows["B"] < rows["A"] < rows["·"]
    assert columns["A"] < columns["B"] == columns["·"]
    assert "accuracy" in lines[0]
    assert "ms" in lines[-1]


def test_a_cost_over_decades_is_drawn_by_its_logarithm() -> None:
    lines = scatter([Point(10, 0, "A"), Point(100, 0.5, "B"), Point(1000, 1, "C")], x_label="bytes", y_label="y")
    columns = [next(line.index(mark) for line in lines if mark in line) for mark in "ABC"]
    assert columns[1] - columns[0] == pytest.approx(columns[2] - columns[1], abs=1)
    assert lines[-1].split()[0] == "10"
    assert lines[-1].split()[-1] == "1000"


def test_what_is_on_the_front_is_never_hidden() -> None:
    same = [Point(1, 1, "A"), Point(1, 1), Point(1, 1)]
    assert any("A" in line for line in scatter(same, x_label="x", y_label="y"))


@given(st.lists(st.tuples(st.floats(1e-3, 1e9), finite), min_size=1, max_size=30))
def test_any_points_fit_the_picture(points: list[tuple[float, float]]) -> None:
    lines = scatter([Point(x, y) for x, y in points], x_label="x", y_label="y", width=30, height=8)
    assert len(lines) == 8 + 3
    assert all(len(line.partition("│")[2]) <= 30 for line in lines)
    assert any("·" in line for line in lines)


def test_no_points_are_no_picture() -> None:
    assert scatter([], x_label="x", y_label="y") == []
