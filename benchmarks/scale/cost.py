"""What one prediction costs in this process: by members, rows of a batch, and size of a member."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from app.domain.layers import Conv2D, Dense, Flatten, MaxPool2D
from app.domain.network import InputSpec, Network, trace
from app.serving.loading import PlanMaker
from app.serving.plans import Plan
from benchmarks.serving.graphs import CLASSES, SMALL, ensemble, members

MEMBERS = (1, 2, 4, 8)
BATCHES = (1, 8, 32, 128)
SIZES = {"small": (8, 16, 32), "reference": (32, 64, 128), "large": (64, 128, 512)}
_OUTPUTS = ("probabilities",)


def network_of(size: str) -> Network:
    """Return a CNN of two convolutions and a dense layer; `reference` is that of the serving benchmark."""
    first, second, units = SIZES[size]
    layers = (
        Conv2D(name="conv1", filters=first, activation="relu"),
        MaxPool2D(name="pool1"),
        Conv2D(name="conv2", filters=second, activation="relu"),
        MaxPool2D(name="pool2"),
        Flatten(name="flat"),
        Dense(name="dense", units=units, activation="relu"),
        Dense(name="answer", units=CLASSES),
    )
    return Network(input=InputSpec(shape=SMALL), layers=layers, classes=CLASSES)


def measure_cost(folder: Path, *, seconds: float, threads: int) -> list[dict[str, Any]]:
    """Return one entry for each graph and batch, run by the plan that the service chooses for it."""
    maker = PlanMaker(folder / "plans", threads=threads)
    return [entry for name, graph in _graphs() for entry in _of_graph(maker, folder, name, graph, seconds)]


def _graphs() -> Iterator[tuple[dict[str, Any], onnx.ModelProto]]:
    for size in SIZES:
        network = network_of(size)
        figures = {"size": size, "parameters": trace(network).parameters, "macs": trace(network).macs}
        for count in MEMBERS if size == "reference" else (1, 4):
            parts = members(count, network)
            yield {**figures, "members": count}, parts[0] if count == 1 else ensemble(parts)


def _of_graph(
    maker: PlanMaker, folder: Path, figures: dict[str, Any], graph: onnx.ModelProto, seconds: float
) -> Iterator[dict[str, Any]]:
    path = folder / "graph.onnx"
    path.write_bytes(graph.SerializeToString())
    plan = maker.improve(path, maker.load(path))
    for batch in BATCHES:
        step = plan.step_for(batch, _OUTPUTS)
        taken = _seconds_of_a_run(plan, batch, seconds)
        run = {"batch": batch, "engine": step.name, "ms": round(1000 * taken, 4)}
        yield {**figures, **run, "microseconds_of_a_row": round(1e6 * taken / batch, 2)}


def _seconds_of_a_run(plan: Plan, batch: int, seconds: float) -> float:
    engine = plan.step_for(batch, _OUTPUTS).engine
    rows = np.random.default_rng(0).random((batch, *SMALL), dtype=np.float32)
    engine.run(rows, _OUTPUTS)
    taken, until = [], time.perf_counter() + seconds
    while not taken or time.perf_counter() < until:
        started = time.perf_counter()
        engine.run(rows, _OUTPUTS)
        taken.append(time.perf_counter() - started)
    return median(taken)
