"""Choose how to run a graph by measuring: which engine, how many threads, how many rows at once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.logging import get_logger
from app.serving.plans import Plan, Step
from app.serving.runtime import Engine

log = get_logger(__name__)
Array = NDArray[Any]
BATCHES = (1, 4, 16, 64)
# A batch is worth while if a row of it costs at most this part of a lone row.
_PAYS = 0.9
# What is nearly as cheap a row as the cheapest is preferred where it keeps callers waiting less.
_NEARLY = 1.15
_TOLERANCE = 1e-4


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
) -> Plan:
    """Measure all candidates at several batches and return the plan that takes the fastest for each.

    Args:
        base: Answers every output, on one thread; what it answers is the reference that candidates must match.
        candidates: Ways to run the same graph.
        outputs: What is mostly asked for.
        threads: The budget of this process. One row goes where it is answered soonest, more rows where a thread
            answers most of them, because so many runs as fit the budget go on side by side.
        row: [*shape], to be repeated; default: random numbers.
        seconds: Time spent on each candidate and batch.
    """
    samples = {batch: _rows(base, batch, row) for batch in BATCHES}
    first = Step(1, base, 1, "onnxruntime/1")
    steps = [first, *(_loaded(candidate, base, samples, outputs) for candidate in candidates)]
    fitting = [step for step in steps if step is not None and step.threads <= threads]
    timed = {batch: _fastest(fitting, rows, outputs, seconds) for batch, rows in samples.items()}
    cost = {batch: duration * step.threads / batch for batch, (step, duration) in timed.items()}
    best = min(cost.values())
    worth = [batch for batch in BATCHES if cost[batch] <= best * _NEARLY]
    pays = best < _PAYS * cost[1]
    plan = Plan(
        base=first,
        outputs=frozenset(outputs),
        steps=tuple(
            Step(batch, step.engine, step.threads, step.name, duration) for batch, (step, duration) in timed.items()
        ),
        most_rows=worth[-1] if pays else 1,
        least_rows=worth[0] if pays else 1,
    )
    log.info("graph_tuned", steps=[(step.at_least_rows, step.name) for step in plan.steps], most_rows=plan.most_rows)
    return plan


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


def _fastest(steps: Sequence[Step], rows: Array, outputs: Sequence[str], seconds: float) -> tuple[Step, float]:
    """Return the step that answers these rows best, with its median time in seconds."""
    timed = [(step, _seconds(step.engine, rows, outputs, seconds)) for step in steps]
    alone = len(rows) == 1
    return min(timed, key=lambda item: item[1] * (1 if alone else item[0].threads))


def _seconds(engine: Engine, rows: Array, outputs: Sequence[str], seconds: float) -> float:
    engine.run(rows, outputs)
    durations: list[float] = []
    until = time.perf_counter() + seconds
    while not durations or (time.perf_counter() < until and len(durations) < 50):
        started = time.perf_counter()
        engine.run(rows, outputs)
        durations.append(time.perf_counter() - started)
    return median(durations)
