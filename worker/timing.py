"""Time engines where they serve, several side by side so that they can be compared, and read the memory they take."""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.stats import mean_over_runs
from app.serving.runtime import Engine

SIZES = (1, 32)
_LONGEST_SECONDS = 8.0
_WARM_UP_RUNS = 3
_THROUGHPUT_SECONDS, _SLOW_BATCH_SECONDS = 0.05, 0.5
BATCHES = (32, 64, 128, 256)
Times = NDArray[np.float64]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Contestant:
    """Name what is timed: how to load it, what it answers, and at least as many rows as the largest batch."""

    load: Callable[[], Engine]
    rows: NDArray[Any]
    output: str


SpeedVerdict = Literal["faster", "slower", "no difference shown"]


@dataclass(frozen=True)
class Ratio:
    """Say how many times less time one engine takes than another: the mean ratio of the rounds, its 95 % interval."""

    ratio: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> SpeedVerdict:
        """Name what the interval shows."""
        if self.interval[0] > 1:
            return "faster"
        return "slower" if self.interval[1] < 1 else "no difference shown"


class Plan(NamedTuple):
    """Say in how many rounds, of how many turns, of how many runs each engine is timed; rounds and turns are even."""

    rounds: int
    turns: int
    runs: int


class Order(NamedTuple):
    """Say in which order a round loads the contestants, and who runs turn by turn."""

    loads: list[int]
    turns: list[int]


# As many runs as give a steady median of a fast model, and no more than a slow one deserves.
_PLANS = (Plan(10, 4, 5), Plan(10, 4, 2), Plan(6, 2, 2), Plan(4, 2, 1))


def time_side_by_side(
    contestants: Sequence[Contestant],
    sizes: Sequence[int] = SIZES,
    *,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> dict[int, list[Times]]:
    """Return by batch size every contestant's times of one run in milliseconds, (rounds, runs).

    All are loaded anew in every round, since where a graph comes to lie in memory makes its times differ by some per
    cent until it is loaded again. In a round they take turns in a random order and then in its reverse, and in the next
    round the first and the last change places, so that nobody is first more often, in loading or in running. A turn
    starts with a run that does not count, as the caches hold what another used.
    """
    rng = np.random.default_rng(seed)
    race = _Race(contestants, sizes, clock)
    plan = race.plan()
    rounds = [race.round(order, runs=plan.runs) for order in orders_of(len(contestants), plan, rng)]
    return {
        size: [np.array([found[size][place] for found in rounds]) * 1000 for place in range(len(contestants))]
        for size in sizes
    }


@dataclass(frozen=True)
class _Race:
    """Run rounds of turns among contestants."""

    contestants: Sequence[Contestant]
    sizes: Sequence[int]
    clock: Clock

    def plan(self) -> Plan:
        """Return the longest plan that takes but a few seconds, judged by one round of single runs; or the shortest."""
        began = self.clock()
        engines = self._load(range(len(self.contestants)))
        load_seconds = self.clock() - began
        self._run_all(engines, 1)
        began = self.clock()
        self._run_all(engines, 1)
        run_seconds = self.clock() - began
        return next(
            (plan for plan in _PLANS if _seconds(plan, load_seconds, run_seconds) <= _LONGEST_SECONDS), _PLANS[-1]
        )

    def round(self, order: Order, *, runs: int) -> dict[int, list[list[float]]]:
        """Load all anew and return by batch size the seconds of every contestant's runs."""
        engines = self._load(order.loads)
        self._run_all(engines, _WARM_UP_RUNS)
        seconds: dict[int, list[list[float]]] = {size: [[] for _ in engines] for size in self.sizes}
        for size, found in seconds.items():
            for place in order.turns:
                found[place] += self._run(place, engines[place], size, 1 + runs)[1:]
        return seconds

    def _load(self, order: Sequence[int]) -> list[Engine]:
        loaded = {place: self.contestants[place].load() for place in order}
        return [loaded[place] for place in range(len(self.contestants))]

    def _run_all(self, engines: Sequence[Engine], count: int) -> None:
        for size in self.sizes:
            for place, engine in enumerate(engines):
                self._run(place, engine, size, count)

    def _run(self, place: int, engine: Engine, size: int, count: int) -> list[float]:
        contestant = self.contestants[place]
        return _run(engine, contestant.rows[:size], contestant.output, count, clock=self.clock)


def orders_of(contestants: int, plan: Plan, rng: np.random.Generator) -> Iterator[Order]:
    """Yield the rounds' orders: pairs of a random one and the same with the first and the last contestant swapped."""
    for _ in range(plan.rounds // 2):
        loads = [int(place) for place in rng.permutation(contestants)]
        order = Order(loads, list(_turns_of(contestants, plan.turns, rng)))
        yield order
        yield Order(*([contestants - 1 - place for place in places] for places in order))


def _turns_of(contestants: int, turns: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield who runs next: pairs of turns, each a random order of all and its reverse."""
    for _ in range(turns // 2):
        order = [int(place) for place in rng.permutation(contestants)]
        yield from order
        yield from reversed(order)


def _seconds(plan: Plan, load_seconds: float, run_seconds: float) -> float:
    return plan.rounds * (load_seconds + run_seconds * (_WARM_UP_RUNS + plan.turns * (1 + plan.runs)))


def _run(
    engine: Engine, rows: NDArray[Any], output: str, count: int, *, clock: Clock = time.perf_counter
) -> list[float]:
    seconds = []
    for _ in range(count):
        began = clock()
        engine.run(rows, [output])
        seconds.append(clock() - began)
    return seconds


def ratio_of_times(own: Times, other: Times) -> Ratio:
    """Return how many times the time of `own` the other takes: above 1 means that `own` takes less time.

    It is the geometric mean of the rounds' ratios of medians, with the t interval over the rounds: the runs of a round
    are alike, the rounds are not.
    """
    found = mean_over_runs(np.log(np.median(other, axis=1) / np.median(own, axis=1)).tolist())
    low, high = found.interval or (-math.inf, math.inf)
    return Ratio(math.exp(found.mean), (math.exp(low), math.exp(high)))


def rows_per_second(engine: Engine, rows: NDArray[Any], output: str) -> float:
    """Return how many rows an engine answers in a second, at the best of several batch sizes.

    Batches grow no further once one takes half a second: a larger one would gain little and need much memory.
    """
    best = 0.0
    for size in BATCHES:
        seconds = _time_batches(engine, rows[:size], output)
        best = max(best, len(seconds) * size / sum(seconds))
        if min(seconds) > _SLOW_BATCH_SECONDS:
            break
    return best


def _time_batches(engine: Engine, rows: NDArray[Any], output: str) -> list[float]:
    _run(engine, rows, output, 1)
    seconds: list[float] = []
    while sum(seconds) < _THROUGHPUT_SECONDS:
        seconds += _run(engine, rows, output, 1)
    return seconds


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held at once.

    Linux counts it anew for every program; `ru_maxrss` would start from what the parent held when it forked.
    """
    path = Path("/proc/self/status")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
