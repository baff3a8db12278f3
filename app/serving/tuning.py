"""Choose how to run a graph by measuring: which engine, how many threads, how many rows at once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from statistics import median
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.logging import get_logger
from app.serving.plans import Plan, Step
from app.serving.runtime import Engine

log = get_logger(__name__)
Array = NDArray[Any]
Timer: TypeAlias = Callable[[Engine, Array, Sequence[str]], float]
BATCHES = (1, 4, 16, 64)
# A batch is worth while if a row of it costs at most this part of a lone row.
_PAYS = 0.9
# What is nearly as cheap a row as the cheapest is preferred where it keeps callers waiting less.
_NEARLY = 1.15
_TOLERANCE = 1e-4
# A further thread for a lone row must save this much: while it runs, the event loop waits for a core.
_SECONDS_OF_A_FURTHER_THREAD = 0.0005


@dataclass(frozen=True)
class Candidate:
    """Name a way to run a graph; `load` makes its engine."""

    name: str
    threads: int
    load: Callable[[], Engine]


def tune(
    base: Engine,
    candidates: Sequence[Candidate],
    outputs: Sequence[str],
    *,
    threads: int,
    row: Array | None = None,
    seconds: float = 0.1,
    timer: Timer | None = None,
) -> Plan:
    """Measure all candidates at several batches and return the plan that takes the fastest for each.

    Args:
        base: Answers every output; what it answers is the reference that candidates must match.
        candidates: Ways to run the same graph.
        outputs: What is mostly asked for.
        threads: The budget of this process. One row goes where it is answered soonest, unless further threads save
            little; more rows where a thread answers most of them, because so many runs as fit the budget go on side by
            side.
        row: [*shape], to be repeated; default: random numbers.
        seconds: Time spent on each candidate and batch.
        timer: Tells how many seconds an engine takes for rows; default: the median of real runs.
    """
    samples = {batch: _rows(base, batch, row) for batch in BATCHES}
    steps = [_loaded(candidate, base, samples, outputs) for candidate in candidates if candidate.threads <= threads]
    timer = timer or partial(_seconds, seconds=seconds)
    measured = [_measured(step, samples, outputs, timer) for step in steps if step is not None]
    if not measured:
        return Plan(Step(1, base, 1))
    chosen = min(_by_runtime(measured), key=lambda found: _slowness(found, measured))
    cost = {step.at_least_rows: step.seconds * step.threads / step.at_least_rows for step in chosen}
    best = min(cost.values())
    worth = [batch for batch in BATCHES if cost[batch] <= best * _NEARLY]
    pays = best < _PAYS * cost[1]
    plan = Plan(
        base=Step(1, base, 1),
        outputs=frozenset(outputs),
        steps=chosen,
        most_rows=worth[-1] if pays else 1,
        least_rows=worth[0] if pays else 1,
    )
    log.info("graph_tuned", steps=[(step.at_least_rows, step.name) for step in chosen], most_rows=plan.most_rows)
    return plan


def _measured(step: Step, samples: dict[int, Array], outputs: Sequence[str], timer: Timer) -> list[Step]:
    """Return a step for each batch, with the time that it takes."""
    return [
        replace(step, at_least_rows=batch, seconds=timer(step.engine, rows, outputs)) for batch, rows in samples.items()
    ]


def _by_runtime(measured: Sequence[Sequence[Step]]) -> list[tuple[Step, ...]]:
    """Return the fastest steps of each runtime.

    A plan never mixes runtimes: they differ in the last bits, and an answer must not depend on who else is asking.
    """
    runtimes = {steps[0].name.partition("/")[0] for steps in measured}
    return [
        tuple(
            min((steps[place] for steps in measured if steps[0].name.startswith(f"{runtime}/")), key=_cost)
            for place in range(len(BATCHES))
        )
        for runtime in sorted(runtimes)
    ]


def _slowness(chosen: Sequence[Step], measured: Sequence[Sequence[Step]]) -> float:
    """Return how many times slower than the fastest of all a choice is, in the geometric mean over batches."""
    fastest = [min(_cost(steps[place]) for steps in measured) for place in range(len(BATCHES))]
    return prod(_cost(step) / least for step, least in zip(chosen, fastest, strict=True))


def _cost(step: Step) -> float:
    """Return what is to be small: how long a lone row keeps caller and loop; of more rows, all threads' time."""
    if step.at_least_rows == 1:
        return step.seconds + (step.threads - 1) * _SECONDS_OF_A_FURTHER_THREAD
    return step.seconds * step.threads


def _rows(base: Engine, batch: int, row: Array | None) -> Array:
    if row is not None:
        return np.repeat(row[np.newaxis], batch, axis=0)
    generator = np.random.default_rng(0)
    if base.dtype == "uint8":
        return generator.integers(0, 256, (batch, *base.shape), dtype=np.uint8)
    return generator.random((batch, *base.shape), dtype=np.float32)


def _loaded(candidate: Candidate, base: Engine, samples: dict[int, Array], outputs: Sequence[str]) -> Step | None:
    """Load a candidate; one that fails or answers something else is left out."""
    try:
        engine = candidate.load()
        for rows in (samples[1], samples[4]):
            for expected, got in zip(base.run(rows, outputs), engine.run(rows, outputs), strict=True):
                np.testing.assert_allclose(got, expected, rtol=_TOLERANCE, atol=_TOLERANCE)
    except (AssertionError, Exception) as failed:  # noqa: BLE001 - a runtime raises whatever it likes
        log.warning("engine_left_out", engine=candidate.name, reason=str(failed)[:300])
        return None
    return Step(1, engine, candidate.threads, candidate.name)


def _seconds(engine: Engine, rows: Array, outputs: Sequence[str], *, seconds: float) -> float:
    engine.run(rows, outputs)
    durations: list[float] = []
    until = time.perf_counter() + seconds
    while not durations or (time.perf_counter() < until and len(durations) < 50):
        started = time.perf_counter()
        engine.run(rows, outputs)
        durations.append(time.perf_counter() - started)
    return median(durations)
