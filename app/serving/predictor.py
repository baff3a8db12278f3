"""Run predictions off the event loop: a bounded queue, a bounded number of threads, a deadline."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.db.registry import VersionRow
from app.domain.datasets import FileRef
from app.domain.errors import LeanfuseError, ModelNotReadyError, OverloadedError, PredictionTimeoutError
from app.domain.models import served_file
from app.metrics import Metrics
from app.serving.pool import EnginePool

_BATCH_ROWS = 256
Rows = NDArray[Any]


class Predictor:
    """Answer predictions of registered versions."""

    def __init__(
        self,
        pool: EnginePool,
        *,
        metrics: Metrics,
        threads: int = 2,
        most_waiting: int = 256,
        deadline_seconds: float = 60.0,
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._most_waiting = most_waiting
        self._deadline_seconds = deadline_seconds
        self._waiting = 0

    async def predict(self, version: VersionRow, rows: Rows, outputs: Sequence[str]) -> list[Rows]:
        """Return the named outputs for all rows.

        Args:
            version: A version that can serve.
            rows: [batch, *row shape], of the dtype of its signature.
            outputs: Names of outputs of its graph.

        Raises:
            OverloadedError: More predictions wait than the queue holds.
            PredictionTimeoutError: The deadline passed.
        """
        if self._waiting >= self._most_waiting:
            raise OverloadedError("Too many predictions wait already.", hint="Try again in a moment.")
        self._waiting += 1
        try:
            return await self._run(version, rows, outputs)
        except LeanfuseError as failed:
            self._metrics.count_failure(version.name, version.version, failed.slug)
            raise
        finally:
            self._waiting -= 1

    async def _run(self, version: VersionRow, rows: Rows, outputs: Sequence[str]) -> list[Rows]:
        queued = time.perf_counter()
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._compute, version, rows, outputs)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                answers, started, ended = await work
        except TimeoutError:
            seconds = f"{self._deadline_seconds:g} seconds"
            raise PredictionTimeoutError(
                f"The prediction took longer than {seconds}.", hint="Send fewer rows."
            ) from None
        seconds_by_stage = {"queue": started - queued, "run": ended - started}
        self._metrics.observe_prediction(version.name, version.version, rows=len(rows), seconds=seconds_by_stage)
        return answers

    def _compute(self, version: VersionRow, rows: Rows, outputs: Sequence[str]) -> tuple[list[Rows], float, float]:
        started = time.perf_counter()
        engine = self._pool.engine(_graph(version))
        batches = [
            engine.run(np.ascontiguousarray(rows[start : start + _BATCH_ROWS]), outputs)
            for start in range(0, len(rows), _BATCH_ROWS)
        ]
        answers = [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*batches, strict=True)]
        return answers, started, time.perf_counter()

    def load(self, version: VersionRow) -> None:
        """Verify and load the graph of a version now, so that its first prediction does not wait for it."""
        self._pool.engine(_graph(version))

    def close(self) -> None:
        """Let running predictions end, drop those that wait."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _graph(version: VersionRow) -> FileRef:
    files = version.manifest.files
    graph = files.get(served_file(files))
    if graph is None:
        raise ModelNotReadyError(
            f"{version.name}/{version.version} has no graph to serve.", hint="Name another version."
        )
    return graph
