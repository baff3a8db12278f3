"""The Pareto front: what no other beats in every respect."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Tell for each point whether no other is at least as low in every cost and lower in one.

    >>> pareto_front([(1.0, 9.0), (2.0, 5.0), (3.0, 5.0)])
    [True, True, False]
    """
    return [not any(_dominates(other, point) for other in costs) for point in costs]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
