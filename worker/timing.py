"""Time engines where they serve, several side by side so that they can be compared, and read the memory they take."""

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving.runtime import Engine

# Enough runs for a steady median of a fast model, and no more than a slow one deserves.
_SECONDS, _LONGEST_SECONDS = 0.2, 4.0
_SMALLEST_RUNS, _LARGEST_RUNS = 20, 200
_BLOCK = 5
_THROUGHPUT_SECONDS, _SLOW_BATCH_SECONDS = 0.05, 0.5
BATCHES = (32, 64, 128, 256)
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """Say how many times less time one engine takes than another: the ratio of medians and its 95 % interval."""

    ratio: float
    interval: tuple[float, float]


def time_side_by_side(engines: Sequence[Engine], rows: NDArray[Any], output: str) -> list[Times]:
    """Return each engine's times of one run on these rows, in milliseconds.

    The engines take turns, five runs each, so that whatever else the machine does meets all of them alike.
    """
    for engine in engines:
        _run(engine, rows, output, 3)
    times: list[list[float]] = [[] for _ in engines]
    while _goes_on(times):
        for engine, found in zip(engines, times, strict=True):
            found.extend(_run(engine, rows, output, _BLOCK))
    return [np.array(found) * 1000 for found in times]


def _goes_on(times: list[list[float]]) -> bool:
    runs, seconds = len(times[0]), max(map(sum, times))
    if runs < _SMALLEST_RUNS:
        return runs == 0 or seconds < _LONGEST_SECONDS
    return runs < _LARGEST_RUNS and seconds < _SECONDS


def _run(engine: Engine, rows: NDArray[Any], output: str, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        engine.run(rows, [output])
        seconds.append(time.perf_counter() - began)
    return seconds


def ratio_of_medians(own: Times, other: Times, *, resamples: int = 1000) -> Ratio:
    """Return median(other) / median(own): above 1 means that `own` takes less time.

    The interval resamples whole turns, since the runs of one turn are alike (block bootstrap, Künsch 1989).
    """
    turns = np.random.default_rng(0).integers(len(own) // _BLOCK, size=(resamples, len(own) // _BLOCK))
    medians = [np.median(_turns(times)[turns].reshape(resamples, -1), axis=1) for times in (own, other)]
    low, high = np.quantile(medians[1] / medians[0], [0.025, 0.975])
    return Ratio(float(np.median(other) / np.median(own)), (float(low), float(high)))


def _turns(times: Times) -> Times:
    return times[: len(times) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)


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
