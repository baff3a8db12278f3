"""Cascades: a cheap member answers where it is sure enough, else the next one is asked (Viola & Jones 2001)."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.fusion import Floats, Labels

MOST_CANDIDATES = 64


class Passed(NamedTuple):
    """Hold a cascade's answers (rows, classes), and which member (rows,) gave each."""

    probabilities: Floats
    answered_by: NDArray[np.int64]


def pass_on(members: Floats, thresholds: Sequence[float]) -> Passed:
    """Return for each row the answer of the first member whose largest probability is at least its threshold.

    Members' calibrated probabilities are (members, rows, classes), cheapest first; the last one has no threshold.
    """
    sure = members[:-1].max(axis=-1) >= np.asarray(thresholds)[:, None]
    last = np.ones((1, members.shape[1]), bool)
    answered_by = np.concatenate([sure, last]).argmax(axis=0)
    return Passed(members[answered_by, np.arange(members.shape[1])], answered_by.astype(np.int64))


def asked(answered_by: NDArray[np.int64], members: int) -> Floats:
    """Return the share of rows that each member is asked for: the first one for all."""
    return np.array([(answered_by >= member).mean() for member in range(members)])


class Choice(NamedTuple):
    """Hold thresholds, and what they promise of the rows that they were chosen on."""

    thresholds: tuple[float, ...]
    accuracy: float
    cost: float
    asked: tuple[float, ...]


def choose_thresholds(members: Floats, labels: Labels, costs: Sequence[float], *, max_loss: float) -> Choice:
    """Return the thresholds of least cost per row whose accuracy is at most `max_loss` below the last member's.

    `costs` are those of asking each member for one row, in any unit. Tried are quantiles of each member's confidence,
    all combinations; of equal costs the more accurate. Asking the last member for every row is always among them.
    """
    ways = [_judged(members, labels, costs, thresholds) for thresholds in _candidates(members)]
    least = float((members[-1].argmax(axis=-1) == labels).mean()) - max_loss
    return min((way for way in ways if way.accuracy >= least - 1e-12), key=lambda way: (way.cost, -way.accuracy))


def judge_thresholds(members: Floats, labels: Labels, costs: Sequence[float], thresholds: Sequence[float]) -> Choice:
    """Return what given thresholds come to on rows."""
    return _judged(members, labels, costs, tuple(thresholds))


def _judged(members: Floats, labels: Labels, costs: Sequence[float], thresholds: tuple[float, ...]) -> Choice:
    passed = pass_on(members, thresholds)
    shares = asked(passed.answered_by, len(members))
    accuracy = float((passed.probabilities.argmax(axis=-1) == labels).mean())
    return Choice(thresholds, accuracy, float(shares @ np.asarray(costs)), tuple(shares.tolist()))


def _candidates(members: Floats) -> list[tuple[float, ...]]:
    """Return combinations of thresholds: never sure (above 1), and quantiles, fewer for more members."""
    gates = len(members) - 1
    each = max(3, int(MOST_CANDIDATES ** (1 / gates)))
    quantiles = np.linspace(0, 1, each)
    options = [[2.0, *np.quantile(member.max(axis=-1), quantiles).tolist()] for member in members[:-1]]
    return list(product(*options))
