"""Engines are loaded once, kept while they fit, and let go longest unused first."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.domain.datasets import FileRef
from app.domain.errors import ArtifactCorruptedError
from app.metrics import Metrics
from app.serving.plans import Plan, Step
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


class FakeMaker:
    """Make plans of fake engines, and note for which files."""

    def __init__(self, *, tunes: bool = False, seconds: float = 0.0) -> None:
        self.tunes = tunes
        self.loads: list[str] = []
        self.improved = threading.Event()
        self._seconds = seconds

    def load(self, path: Path) -> Plan:
        self.loads.append(path.name)
        time.sleep(self._seconds)
        return Plan(Step(1, FakeEngine(), 1))  # type: ignore[arg-type]

    def improve(self, path: Path, plan: Plan) -> Plan:
        self.improved.set()
        return replace(plan, most_rows=7)


def keep(store: LocalStore, folder: Path, content: bytes) -> FileRef:
    path = folder / "graph"
    path.write_bytes(content)
    return store.put(path)


def test_many_who_ask_at_once_load_a_graph_once(store: LocalStore, tmp_path: Path) -> None:
    graph = keep(store, tmp_path, b"graph")
    maker = FakeMaker(seconds=0.05)
    pool = EnginePool(store, maker, metrics=Metrics())
    plans: list[object] = []
    threads = [threading.Thread(target=lambda: plans.append(pool.plan(graph))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(maker.loads) == 1
    assert len(set(map(id, plans))) == 1


def test_the_longest_unused_graph_goes_when_memory_is_short(store: LocalStore, tmp_path: Path) -> None:
    graphs = [keep(store, tmp_path, f"graph {index}".encode()) for index in range(3)]
    maker = FakeMaker()
    pool = EnginePool(store, maker, metrics=Metrics(), budget_bytes=9 * MEBIBYTE)
    for index in (0, 1, 0, 2, 0, 1):
        pool.plan(graphs[index])
    assert pool.size == 2
    assert maker.loads == [graphs[index].sha256 for index in (0, 1, 2, 1)]


def test_a_pinned_graph_stays_whatever_else_is_asked_for(store: LocalStore, tmp_path: Path) -> None:
    graphs = [keep(store, tmp_path, f"graph {index}".encode()) for index in range(4)]
    pool = EnginePool(store, FakeMaker(), metrics=Metrics(), budget_bytes=9 * MEBIBYTE)
    pool.pin({graphs[0].sha256})
    for graph in graphs:
        pool.plan(graph)
    assert [pool.find(graph) is not None for graph in graphs] == [True, False, False, True]


def test_an_unloaded_graph_is_loaded_again_when_it_is_asked_for(store: LocalStore, tmp_path: Path) -> None:
    graph, maker = keep(store, tmp_path, b"graph"), FakeMaker()
    pool = EnginePool(store, maker, metrics=Metrics())
    pool.plan(graph)
    pool.unload(graph)
    assert pool.find(graph) is None
    pool.plan(graph)
    assert len(maker.loads) == 2


def test_a_loaded_graph_is_tuned_beside(store: LocalStore, tmp_path: Path) -> None:
    graph, maker = keep(store, tmp_path, b"graph"), FakeMaker(tunes=True)
    pool = EnginePool(store, maker, metrics=Metrics())
    assert pool.plan(graph).most_rows == 32
    assert maker.improved.wait(10)
    until = time.monotonic() + 10
    while pool.plan(graph).most_rows != 7:
        assert time.monotonic() < until
        time.sleep(0.01)
    pool.close()


def test_a_corrupted_graph_is_not_loaded(store: LocalStore, tmp_path: Path) -> None:
    graph = keep(store, tmp_path, b"graph")
    path = store.fetch(graph.sha256)
    path.chmod(0o600)
    path.write_bytes(b"grapH")
    pool = EnginePool(store, FakeMaker(), metrics=Metrics())
    with pytest.raises(ArtifactCorruptedError):
        pool.plan(graph)
    assert pool.size == 0
