"""Predict with registered versions: loaded on first use, in batches, within a deadline."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from app.db.registry import VersionRow
from app.domain.datasets import FileRef
from app.domain.errors import LeanfuseError, ModelNotReadyError
from app.domain.models import served_file
from app.domain.prediction_errors import ModelLoadingError, PredictionTimeoutError
from app.metrics import Metrics
from app.serving.batching import Answer, Batch, Batcher
from app.serving.pool import EnginePool
from app.serving.request_log import RequestLog
from app.serving.statistics import Statistics

if TYPE_CHECKING:
    from app.serving.plans import Plan

Rows = NDArray[Any]
_LOADING_THREADS = 2


class Label(NamedTuple):
    """Name the version that metrics are counted under."""

    name: str
    version: int


class Predictor:
    """Answer predictions of registered versions."""

    def __init__(
        self,
        pool: EnginePool,
        *,
        metrics: Metrics,
        threads: int = 2,
        most_waiting_rows: int = 4096,
        deadline_seconds: float = 60.0,
        loading_seconds: float = 20.0,
        logged_share: float = 0.0,
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._batcher = Batcher(threads=threads, most_waiting_rows=most_waiting_rows, on_batch=self._count_batch)
        # Loading has threads of its own: while one model loads, others answer.
        self._loader = ThreadPoolExecutor(_LOADING_THREADS, thread_name_prefix="load")
        self._deadline_seconds = deadline_seconds
        self._loading_seconds = loading_seconds
        self._log = RequestLog(logged_share)
        self.statistics = Statistics()

    @property
    def waiting_rows(self) -> int:
        """Count the rows that wait for an engine."""
        return self._batcher.waiting_rows

    async def predict(
        self, version: VersionRow, rows: Rows, outputs: Sequence[str], *, deadline_seconds: float | None = None
    ) -> list[Rows]:
        """Return the named outputs for all rows.

        Args:
            version: A version that can serve.
            rows: [batch, *row shape], of the dtype of its signature.
            outputs: Names of outputs of its graph.
            deadline_seconds: When to give up; default and upper limit: the service's.

        Raises:
            OverloadedError: More rows wait than the queue holds.
            ModelLoadingError: The graph is not in memory yet, and takes longer to load than a caller shall wait.
            PredictionTimeoutError: The deadline passed.
        """
        label = Label(version.name, version.version)
        seconds = min(self._deadline_seconds, deadline_seconds or self._deadline_seconds)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                answer = await self._run(version, rows, outputs, label)
        except TimeoutError:
            self._count_failure(version, rows, PredictionTimeoutError.slug, started)
            raise PredictionTimeoutError(
                f"The prediction took longer than {seconds:g} seconds.", hint="Send fewer rows, or try again later."
            ) from None
        except LeanfuseError as failed:
            self._count_failure(version, rows, failed.slug, started)
            raise
        queued, run = answer.queue_seconds, answer.run_seconds
        self._metrics.observe_prediction(*label, queue_seconds=queued, run_seconds=run)
        taken = time.perf_counter() - started
        self.statistics.of(*label).count_success(seconds=taken, queue_seconds=queued, run_seconds=run)
        self._log.note(version, rows=len(rows), outcome="ok", queue_seconds=queued, run_seconds=run)
        return answer.arrays

    def _count_failure(self, version: VersionRow, rows: Rows, outcome: str, started: float) -> None:
        self.statistics.of(version.name, version.version).failure.add(time.perf_counter() - started)
        self._metrics.count_failure(version.name, version.version, outcome)
        self._log.note(version, rows=len(rows), outcome=outcome)

    async def _run(self, version: VersionRow, rows: Rows, outputs: Sequence[str], label: Label) -> Answer:
        graph = graph_of(version)
        plan = self._pool.find(graph) or await self._load(version, graph)
        return await self._batcher.run(graph.sha256, plan, rows, outputs, label)

    async def _load(self, version: VersionRow, graph: FileRef) -> "Plan":
        work = asyncio.get_running_loop().run_in_executor(self._loader, self._pool.plan, graph)
        work.add_done_callback(_look_at)
        try:
            # Whoever gives up leaves the loading going: the next one finds it done.
            return await asyncio.wait_for(asyncio.shield(work), self._loading_seconds)
        except TimeoutError:
            raise ModelLoadingError(
                f"{version.name}/{version.version} is being loaded.", hint="Try again in a moment."
            ) from None

    def _count_batch(self, batch: Batch) -> None:
        name, version = batch.label if isinstance(batch.label, Label) else ("", 0)
        self._metrics.observe_batch(name, version, rows=batch.rows, seconds=batch.seconds)
        self.statistics.of(name, version).count_batch(batch.rows, batch.seconds)

    def is_loaded(self, version: VersionRow) -> bool:
        """Tell whether a version's graph is in memory."""
        return self._pool.holds(graph_of(version))

    def memory_bytes(self, version: VersionRow) -> int:
        """Estimate the memory that a version takes now."""
        return self._pool.bytes_of(graph_of(version))

    def pin(self, versions: Sequence[VersionRow]) -> None:
        """Load these versions and keep them in memory from now on, and no others."""
        graphs = [graph_of(version) for version in versions]
        self._pool.pin([graph.sha256 for graph in graphs])
        for graph in graphs:
            self._pool.plan(graph)

    def load(self, version: VersionRow) -> None:
        """Verify, load and warm up the graph of a version now, so that its first prediction does not wait for it."""
        self._pool.plan(graph_of(version))

    def unload(self, version: VersionRow) -> None:
        """Free the memory of a version; its next prediction loads it again."""
        self._pool.unload(graph_of(version))

    def close(self) -> None:
        """Let running predictions end, drop those that wait."""
        self._pool.close()
        self._batcher.close()
        self._loader.shutdown(wait=False, cancel_futures=True)


def _look_at(work: "asyncio.Future[Plan]") -> None:
    """Take note of a failure that nobody waits for any more; whoever still waits is told."""
    if not work.cancelled():
        work.exception()


def graph_of(version: VersionRow) -> FileRef:
    """Return the graph that serves a version; raise ModelNotReadyError where there is none."""
    files = version.manifest.files
    graph = files.get(served_file(files))
    if graph is None:
        raise ModelNotReadyError(
            f"{version.name}/{version.version} has no graph to serve.", hint="Name another version."
        )
    return graph
