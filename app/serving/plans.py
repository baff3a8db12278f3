"""What serves one graph: which engine runs how many rows, on how many threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.serving.runtime import Engine


@dataclass(frozen=True)
class Step:
    """Run batches of at least so many rows on this engine, which takes so many threads.

    `seconds` is the measured time of `at_least_rows`; infinite where nothing was measured.
    """

    at_least_rows: int
    engine: "Engine"
    threads: int
    name: str = "onnxruntime/1"
    seconds: float = inf

    def seconds_of(self, rows: int) -> float:
        """Estimate the time of a batch, from above: more rows never cost more than their share."""
        return self.seconds * max(1.0, rows / self.at_least_rows)


@dataclass(frozen=True)
class Plan:
    """Say how to run a graph.

    `base` answers any output; `steps`, by rows, answer only `outputs` but do that faster. `most_rows` is the batch
    beyond which more rows no longer make a row cheaper; 1 means that batching does not pay. A batch of `least_rows` is
    about as cheap a row, so what waits is shared among threads down to that.
    """

    base: Step
    outputs: frozenset[str] = frozenset()
    steps: tuple[Step, ...] = ()
    most_rows: int = 32
    least_rows: int = 8

    def step_for(self, rows: int, outputs: Sequence[str]) -> Step:
        """Return the fastest step that answers these outputs for so many rows."""
        if not self.outputs.issuperset(outputs):
            return self.base
        fitting = [step for step in self.steps if step.at_least_rows <= rows]
        return fitting[-1] if fitting else self.base

    @property
    def graph_bytes(self) -> int:
        """Return the size of what is in memory: of every engine's graph."""
        engines = {id(step.engine): step.engine for step in (self.base, *self.steps)}
        return sum(engine.graph_bytes for engine in engines.values())
