"""Engines are loaded once, kept while they fit, and let go longest unused first."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.domain.datasets import FileRef
from app.domain.errors import ArtifactCorruptedError
from app.metrics import Metrics
from app.serving.pool import EnginePool
from app.store.local import LocalStore

MEBIBYTE = 2**20


class FakeEngine:
    """Stand in for an engine: the pool only hands it out."""

    shape = (1,)
    dtype = "float32"
    outputs = ("probabilities",)
    graph_bytes = 7

    def run(self, inputs: Any, outputs: Sequence[str]) -> list[Any]:
        return [inputs for _ in outputs]


def keep(store: LocalStore, folder: Path, content: bytes) -> FileRef:
    path = folder / "graph"
    path.write_bytes(content)
    return store.put(path)


def test_many_who_ask_at_once_load_an_engine_once(store: LocalStore, tmp_path: Path) -> None:
    graph = keep(store, tmp_path, b"graph")
    loads: list[Path] = []

    def load(path: Path) -> FakeEngine:
        loads.append(path)
        time.sleep(0.05)
        return FakeEngine()

    pool = EnginePool(store, load, metrics=Metrics())
    engines: list[object] = []
    threads = [threading.Thread(target=lambda: engines.append(pool.engine(graph))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(set(map(id, engines))) == 1


def test_the_longest_unused_engine_goes_when_memory_is_short(store: LocalStore, tmp_path: Path) -> None:
    graphs = [keep(store, tmp_path, f"graph {index}".encode()) for index in range(3)]
    loads: list[str] = []

    def load(path: Path) -> FakeEngine:
        loads.append(path.name)
        return FakeEngine()

    pool = EnginePool(store, load, metrics=Metrics(), budget_bytes=9 * MEBIBYTE)
    for index in (0, 1, 0, 2, 0, 1):
        pool.engine(graphs[index])
    assert pool.size == 2
    assert loads == [graphs[index].sha256 for index in (0, 1, 2, 1)]


def test_a_corrupted_graph_is_not_loaded(store: LocalStore, tmp_path: Path) -> None:
    graph = keep(store, tmp_path, b"graph")
    path = store.fetch(graph.sha256)
    path.chmod(0o600)
    path.write_bytes(b"grapH")
    pool = EnginePool(store, lambda _: FakeEngine(), metrics=Metrics())
    with pytest.raises(ArtifactCorruptedError):
        pool.engine(graph)
    assert pool.size == 0
