"""Pictures made of characters: a line of a metric's course, a scatter of models."""

import math
from collections.abc import Sequence
from typing import NamedTuple

BARS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT = 60, 14
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOG_FROM_RATIO = 10.0


class Point(NamedTuple):
    """Place something at (x, y); `mark` is the character that stands for it."""

    x: float
    y: float
    mark: str = "·"


def sparkline(values: Sequence[float], *, width: int = 20) -> str:
    """Draw the course of a metric in one line, the latest value last.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    finite = [value for value in values if math.isfinite(value)]
    shown = [finite[len(finite) * index // width] for index in range(width)] if len(finite) > width else finite
    if len(finite) > width:
        shown[-1] = finite[-1]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = high - low or 1.0
    return "".join(BARS[min(len(BARS) - 1, int((value - low) / span * len(BARS)))] for value in shown)


def scatter(
    points: Sequence[Point], *, x_label: str, y_label: str, width: int = WIDTH, height: int = HEIGHT
) -> list[str]:
    """Draw points in lines of text; a cost that spans more than a factor of ten is drawn by its logarithm."""
    if not points:
        return []
    logarithmic = _spans_decades([point.x for point in points])
    places = [Point(math.log10(point.x) if logarithmic else point.x, point.y, point.mark) for point in points]
    grid = [[" "] * width for _ in range(height)]
    x_low, x_high = _bounds([place.x for place in places])
    y_low, y_high = _bounds([place.y for place in places])
    # Letters are drawn last, the first one over all others: what stands on the front must be seen.
    for place in sorted(places, key=lambda place: (place.mark.isalpha(), -LETTERS.find(place.mark))):
        column = round((place.x - x_low) / (x_high - x_low) * (width - 1))
        row = round((y_high - place.y) / (y_high - y_low) * (height - 1))
        grid[row][column] = place.mark
    ends = [f"{10**value if logarithmic else value:.4g}" for value in (x_low, x_high)]
    return _framed(grid, [f"{value:.4g}" for value in (y_high, y_low)], ends, x_label, y_label)


def _framed(
    grid: Sequence[Sequence[str]], y_ends: Sequence[str], x_ends: Sequence[str], x_label: str, y_label: str
) -> list[str]:
    margin = max(map(len, y_ends))
    named = {0: y_ends[0], len(grid) - 1: y_ends[1]}
    lines = [f"{'':>{margin}}  {y_label}"]
    lines += [f"{named.get(index, ''):>{margin}} │{''.join(row).rstrip()}" for index, row in enumerate(grid)]
    lines.append(f"{'':>{margin}} └{'─' * len(grid[0])}")
    middle = x_label.center(len(grid[0]) - len(x_ends[0]) - len(x_ends[1]))
    lines.append(f"{'':>{margin}}  {x_ends[0]}{middle}{x_ends[1]}")
    return lines


def _spans_decades(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > LOG_FROM_RATIO


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    return low, high
