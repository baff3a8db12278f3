"""The graphs that every server gets, and the rows that every client sends. Weights are random: they cost the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from app.domain.layers import Conv2D, Dense, Flatten, GlobalAvgPool, Layer, MaxPool2D
from app.domain.network import InputSpec, Network, trace
from app.serving.graph import WeightedMean, fuse
from worker.nn.export import to_onnx

Rows = NDArray[np.float32]
MEMBERS = 4
CLASSES = 10
SMALL, LARGE = (28, 28, 1), (224, 224, 3)


@dataclass(frozen=True)
class Case:
    """What one request brings: `rows` rows for a model."""

    name: str
    title: str
    model: str
    rows: int
    shape: tuple[int, ...]


CASES = {
    case.name: case
    for case in (
        Case("one", "1 image of 28x28x1", "ens", 1, SMALL),
        Case("many", "32 images of 28x28x1", "ens", 32, SMALL),
        Case("large", "1 image of 224x224x3", "large", 1, LARGE),
        Case("member", "1 image of 28x28x1, one member alone", "ens-m0", 1, SMALL),
    )
}


def reference_network() -> Network:
    """Return the reference CNN: 421,642 parameters."""
    return _network(
        SMALL,
        Conv2D(name="conv1", filters=32, activation="relu"),
        MaxPool2D(name="pool1"),
        Conv2D(name="conv2", filters=64, activation="relu"),
        MaxPool2D(name="pool2"),
        Flatten(name="flat"),
        Dense(name="dense", units=128, activation="relu"),
    )


def large_network() -> Network:
    """Return a small CNN of large images."""
    convolutions = [
        Conv2D(name=f"conv{place}", filters=filters, strides=(2, 2), activation="relu")
        for place, filters in enumerate((16, 32, 64, 64))
    ]
    return _network(LARGE, *convolutions, GlobalAvgPool(name="pool"))


def _network(shape: tuple[int, ...], *layers: Layer) -> Network:
    answer = Dense(name="answer", units=CLASSES)
    return Network(input=InputSpec(shape=shape), layers=(*layers, answer), classes=CLASSES)


def members(count: int = MEMBERS, network: Network | None = None) -> list[onnx.ModelProto]:
    """Return graphs of one network with different weights."""
    return [graph_of(network or reference_network(), seed=seed) for seed in range(count)]


def graph_of(network: Network, *, seed: int) -> onnx.ModelProto:
    """Return the graph of a network with random weights (He et al. 2015) that depend on the seed alone."""
    generator = np.random.default_rng(seed)
    return to_onnx(network, {name: _weights(shape, generator) for name, shape in trace(network).variables.items()})


def _weights(shape: Sequence[int], generator: np.random.Generator) -> Rows:
    return generator.normal(scale=sqrt(2 / prod(shape[:-1])), size=shape).astype(np.float32)


def ensemble(parts: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Return the mean of the members as one graph."""
    return fuse(parts, WeightedMean((1.0,) * len(parts)))


def graphs() -> dict[str, onnx.ModelProto]:
    """Return every graph by the name of its model, the members of the ensemble first."""
    parts = members()
    named = {f"ens-m{place}": graph for place, graph in enumerate(parts)}
    return named | {"ens": ensemble(parts), "large": graph_of(large_network(), seed=0)}


def write_graphs(folder: Path, named: Mapping[str, onnx.ModelProto]) -> None:
    """Write `<name>.onnx` of each graph."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in named.items():
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())


@cache
def rows_of(case: Case) -> Rows:
    """Return the rows of a request, as pixels in 0 to 1 with four digits: equal in JSON and in binary."""
    pixels = np.random.default_rng(case.rows).integers(0, 256, (case.rows, *case.shape))
    return (np.round(pixels / 255, 4)).astype(np.float32)


def expected(graph: Path, rows: Rows) -> NDArray[Any]:
    """Return what a graph answers for rows, computed here and not by a server."""
    session = onnxruntime.InferenceSession(graph.read_bytes(), providers=["CPUExecutionProvider"])
    answers: NDArray[Any] = session.run(["probabilities"], {"x": rows})[0]
    return answers
