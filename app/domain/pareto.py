"""The Pareto front, and the best that meets limits: what no other beats, and what comes nearest when nothing fits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Interval = tuple[float, float]


class Limit(NamedTuple):
    """Bound a figure: at most, or with `is_least` at least, this value."""

    figure: str
    bound: float
    is_least: bool = False


def pareto_front(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Tell for each point whether no other is at least as low in every cost and lower in one.

    >>> pareto_front([(1.0, 9.0), (2.0, 5.0), (3.0, 5.0)])
    [True, True, False]
    """
    front: list[int] = []
    # A point is dominated only by points that come before it in this order, and if by any, then by one of the front.
    for index in sorted(range(len(costs)), key=lambda place: tuple(costs[place])):
        if not any(_dominates(costs[other], costs[index]) for other in front):
            front.append(index)
    found = set(front)
    return [index in found for index in range(len(costs))]


def overlapping(intervals: Sequence[Interval | None], candidates: Iterable[int]) -> list[list[int]]:
    """Return for each point the candidates, itself left out, whose interval overlaps its own; ends that touch overlap.

    >>> overlapping([(0.1, 0.3), (0.2, 0.4), (0.35, 0.5), None], [0, 2])
    [[], [0, 2], [], []]
    """
    chosen = [(place, interval) for place in candidates if (interval := intervals[place]) is not None]
    return [
        []
        if own is None
        else [place for place, (low, high) in chosen if place != index and low <= own[1] and own[0] <= high]
        for index, own in enumerate(intervals)
    ]


def shortfalls(limits: Sequence[Limit], figures: Mapping[str, float | None]) -> dict[str, float] | None:
    """Return by how much, relative to its bound, each limit is missed; {} when all are met.

    None where a figure that a limit is about was not measured.

    >>> shortfalls([Limit("bytes", 100.0), Limit("accuracy", 0.9, is_least=True)], {"bytes": 150.0, "accuracy": 0.95})
    {'bytes': 0.5}
    """
    missed: dict[str, float] = {}
    for figure, bound, is_least in limits:
        value = figures[figure]
        if value is None:
            return None
        excess = bound - value if is_least else value - bound
        if excess > 0:
            missed[figure] = excess / (abs(bound) or 1.0)
    return missed


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
