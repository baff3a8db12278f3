"""Engines in memory, by the digest of their graph, within a budget."""

import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from app.domain.datasets import FileRef
from app.domain.errors import LeanfuseError
from app.logging import get_logger
from app.metrics import Metrics
from app.store.base import Store

if TYPE_CHECKING:
    from app.serving.plans import Plan

log = get_logger(__name__)
# A session keeps the weights once more than the graph does, and its arena.
_BYTES_PER_GRAPH_BYTE = 2
_BYTES_PER_ENGINE = 4 * 2**20


class Maker(Protocol):
    """Make plans of graphs."""

    tunes: bool

    def load(self, path: Path) -> "Plan":
        """Return a plan that serves at once."""

    def improve(self, path: Path, plan: "Plan") -> "Plan":
        """Return a faster plan, if there is one."""


@dataclass(frozen=True)
class _Loaded:
    plan: "Plan"

    @property
    def bytes(self) -> int:
        """Estimate the memory that it takes."""
        return self.plan.graph_bytes * _BYTES_PER_GRAPH_BYTE + _BYTES_PER_ENGINE


class EnginePool:
    """Load graphs on first use, tune them beside, keep the latest used ones. Safe to use from many threads."""

    def __init__(self, store: Store, maker: Maker, *, metrics: Metrics, budget_bytes: int = 2 * 2**30) -> None:
        self._store = store
        self._maker = maker
        self._metrics = metrics
        self._budget_bytes = budget_bytes
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._pinned: frozenset[str] = frozenset()
        self._guard = threading.Lock()
        self._to_tune: SimpleQueue[FileRef | None] = SimpleQueue()
        self._tuner: threading.Thread | None = None

    def find(self, graph: FileRef) -> "Plan | None":
        """Return the plan of a graph that is in memory, at once."""
        with self._guard:
            found = self._loaded.get(graph.sha256)
            if found is None:
                return None
            self._loaded.move_to_end(graph.sha256)
            return found.plan

    def holds(self, graph: FileRef) -> bool:
        """Tell whether a graph is in memory, without counting that as a use."""
        return graph.sha256 in self._loaded

    def bytes_of(self, graph: FileRef) -> int:
        """Estimate the memory that a graph takes: 0 where it is not in memory."""
        found = self._loaded.get(graph.sha256)
        return found.bytes if found else 0

    def plan(self, graph: FileRef) -> "Plan":
        """Return the plan of a stored graph, loading it first if needed.

        The store checks the digest at every load, so a corrupted graph never serves: ArtifactCorruptedError.
        """
        found = self.find(graph)
        if found is not None:
            return found
        with self._guard:
            turn = self._loading.setdefault(graph.sha256, threading.Lock())
        with turn:
            # Whoever waited here finds what the first has loaded.
            return self.find(graph) or self._load_now(graph)

    def pin(self, graphs: Collection[str]) -> None:
        """Keep the graphs with these digests in memory from now on, whatever else is asked for, and no others."""
        self._pinned = frozenset(graphs)

    def unload(self, graph: FileRef) -> None:
        """Free what a graph takes; the next request loads it again, and one that runs on it ends well."""
        with self._guard:
            self._loaded.pop(graph.sha256, None)
            self._metrics.set_loaded(len(self._loaded))

    @property
    def size(self) -> int:
        """Count the graphs in memory."""
        return len(self._loaded)

    def close(self) -> None:
        """End the tuning after the graph that it is at."""
        if self._tuner is not None:
            self._to_tune.put(None)

    def _load_now(self, graph: FileRef) -> "Plan":
        started = time.perf_counter()
        plan = self._maker.load(self._store.fetch(graph.sha256))
        self._keep(graph, plan)
        with self._guard:
            self._loading.pop(graph.sha256, None)
        self._metrics.observe_load(time.perf_counter() - started)
        if self._maker.tunes:
            self._tune_later(graph)
        return plan

    def _keep(self, graph: FileRef, plan: "Plan") -> None:
        with self._guard:
            self._loaded[graph.sha256] = _Loaded(plan)
            self._evict()
            self._metrics.set_loaded(len(self._loaded))

    def _evict(self) -> None:
        """Let the longest unused graphs go; a request that runs on one keeps it until it ends."""
        used = sum(item.bytes for item in self._loaded.values())
        newest = next(reversed(self._loaded))
        for sha256 in [known for known in self._loaded if known != newest and known not in self._pinned]:
            if used <= self._budget_bytes:
                return
            used -= self._loaded.pop(sha256).bytes

    def _tune_later(self, graph: FileRef) -> None:
        with self._guard:
            if self._tuner is None:
                self._tuner = threading.Thread(target=self._tune_all, name="tuning", daemon=True)
                self._tuner.start()
        self._to_tune.put(graph)

    def _tune_all(self) -> None:
        while (graph := self._to_tune.get()) is not None:
            found = self.find(graph)
            if found is None:
                continue
            try:
                improved = self._maker.improve(self._store.fetch(graph.sha256), found)
            except (LeanfuseError, OSError) as failed:
                log.warning("graph_not_tuned", sha256=graph.sha256, reason=str(failed))
                continue
            if self.find(graph) is not None:
                self._keep(graph, improved)
