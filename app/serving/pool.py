"""Engines in memory, by the digest of their graph, within a budget."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.domain.datasets import FileRef
from app.metrics import Metrics
from app.store.base import Store

if TYPE_CHECKING:
    from app.serving.runtime import Engine  # which would load ONNX Runtime before the first model needs it

# A session keeps the weights once more than the graph does, and its arena.
_BYTES_PER_GRAPH_BYTE = 2
_BYTES_PER_ENGINE = 4 * 2**20


@dataclass(frozen=True)
class _Loaded:
    engine: "Engine"
    bytes: int


class EnginePool:
    """Load graphs on first use, keep the latest used ones. Safe to use from many threads."""

    def __init__(
        self, store: Store, load: "Callable[[Path], Engine]", *, metrics: Metrics, budget_bytes: int = 2 * 2**30
    ) -> None:
        self._store = store
        self._load = load
        self._metrics = metrics
        self._budget_bytes = budget_bytes
        self._engines: OrderedDict[str, _Loaded] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def engine(self, graph: FileRef) -> "Engine":
        """Return the engine of a stored graph, loading it first if needed.

        The store checks the digest at every load, so a corrupted graph never serves: ArtifactCorruptedError.
        """
        found = self._find(graph.sha256)
        if found is not None:
            return found
        with self._guard:
            turn = self._loading.setdefault(graph.sha256, threading.Lock())
        with turn:
            # Whoever waited here finds what the first has loaded.
            return self._find(graph.sha256) or self._load_now(graph)

    @property
    def size(self) -> int:
        """Count the engines in memory."""
        return len(self._engines)

    def _find(self, sha256: str) -> "Engine | None":
        with self._guard:
            found = self._engines.get(sha256)
            if found is None:
                return None
            self._engines.move_to_end(sha256)
            return found.engine

    def _load_now(self, graph: FileRef) -> "Engine":
        started = time.perf_counter()
        engine = self._load(self._store.fetch(graph.sha256))
        with self._guard:
            self._engines[graph.sha256] = _Loaded(
                engine, engine.graph_bytes * _BYTES_PER_GRAPH_BYTE + _BYTES_PER_ENGINE
            )
            self._loading.pop(graph.sha256, None)
            self._evict()
            loaded = len(self._engines)
        self._metrics.observe_load(time.perf_counter() - started, loaded=loaded)
        return engine

    def _evict(self) -> None:
        """Let the longest unused engines go; a request that runs on one keeps it until it ends."""
        used = sum(item.bytes for item in self._engines.values())
        while used > self._budget_bytes and len(self._engines) > 1:
            _, gone = self._engines.popitem(last=False)
            used -= gone.bytes
