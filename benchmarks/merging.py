"""Time fused graphs whose members are computed as one against plain ones, under ONNX Runtime and OpenVINO.

Run `python -m benchmarks.merging` (one to two minutes): it writes benchmarks/results/merging.json. Each graph is timed
with all its answers, and with nothing but `probabilities`. The graphs of a job take turns, so that the machine's moods
hit them alike. Weights are random, which changes no time; the answers are compared before they are timed.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeAlias

import numpy as np
import onnx

from app.domain.datasets import DatasetSchema, Features
from app.domain.network import Network, trace
from app.domain.presets import CNN, MLP, Architecture, ReferenceCNN, ResNet, build_network
from app.serving.graph import WeightedMean, fuse
from app.serving.merging import variants
from app.serving.runtime import load_engine
from app.serving.sharing import asked_only
from worker.nn.export import to_onnx

RESULT = Path(__file__).parent / "results" / "merging.json"
ROUNDS = 3
CELL_SECONDS = 0.04
FEWEST_RUNS = 3
BATCHES = (1, 8, 32, 128)
THREADS = (1, 2)
TOLERANCE = 1e-5

Floats: TypeAlias = np.ndarray
Run: TypeAlias = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Job:
    """Say which members are fused, and what they take."""

    architecture: Architecture
    members: int
    shape: tuple[int, ...]
    features: Features = "image"

    @property
    def graph(self) -> onnx.ModelProto:
        """Return the mean of the members."""
        schema = DatasetSchema(
            features=self.features,
            shape=self.shape,
            dtype="float32",
            classes=tuple("0123456789"),
            rows={"train": 1, "selection": 0, "report": 0},
        )
        network = build_network(self.architecture, schema)
        members = [to_onnx(network, random_weights(network, seed)) for seed in range(self.members)]
        return fuse(members, WeightedMean((1.0,) * self.members))


JOBS = {
    "reference: 4 CNNs (conv 32, conv 64, dense 128) on 28x28x1": Job(ReferenceCNN(), 4, (28, 28, 1)),
    "4 MLPs (256, 128) on 28x28x1": Job(MLP(), 4, (28, 28, 1)),
    "8 MLPs (64, 32) on a table of 32 columns": Job(MLP(hidden=(64, 32)), 8, (32,), "table"),
    "8 CNNs (conv 8, conv 16, dense 32) on 8x8x1": Job(CNN(filters=(8, 16), dense=(32,)), 8, (8, 8, 1)),
    "4 resnets (width 16, 2 blocks) on 28x28x1": Job(ResNet(width=16, blocks=2), 4, (28, 28, 1)),
}


def random_weights(network: Network, seed: int) -> dict[str, Floats]:
    """Return weights that keep the scale of what they meet; statistics of the data are those of all members."""
    rng, data = np.random.default_rng(seed), np.random.default_rng(0)
    weights = {}
    for name, shape in trace(network).variables.items():
        kind = name.rsplit("/", 1)[1]
        if kind in ("mean", "deviation"):
            values = data.uniform(0.5, 2, shape)
        elif kind in ("gamma", "moving_variance"):
            values = rng.uniform(0.5, 2, shape)
        else:
            values = rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
        weights[name] = values.astype(np.float32)
    return weights


def onnx_runtime(graph: onnx.ModelProto, threads: int) -> Run:
    """Return the engine that serves."""
    engine = load_engine(graph.SerializeToString(), threads=threads)
    return lambda rows: engine.run(rows, ["probabilities"])[0]


def open_vino(graph: onnx.ModelProto, threads: int) -> Run:
    """Return a request of OpenVINO, set up for one caller at a time."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(graph.SerializeToString()), "CPU", settings).create_infer_request()

    def run(rows: Floats) -> Floats:
        request.set_input_tensor(openvino.Tensor(rows, shared_memory=True))
        request.infer()
        return request.get_tensor("probabilities").data

    return run


ENGINES: Mapping[str, Callable[[onnx.ModelProto, int], Run]] = {"onnxruntime": onnx_runtime, "openvino": open_vino}


def seconds_of(run: Run, rows: Floats) -> list[float]:
    """Return how long each run took, for as many as fit into a cell's time."""
    times: list[float] = []
    end = time.perf_counter() + CELL_SECONDS
    while len(times) < FEWEST_RUNS or time.perf_counter() < end:
        started = time.perf_counter()
        run(rows)
        times.append(time.perf_counter() - started)
    return times


def milliseconds(medians: Sequence[float]) -> list[float]:
    """Return minimum, median and maximum of the rounds' medians."""
    return [round(1000 * choose(medians), 3) for choose in (min, median, max)]


def measure(runs: Mapping[str, Run], shape: tuple[int, ...]) -> dict[str, dict[str, list[float]]]:
    """Return the milliseconds of each graph by batch size."""
    rows = {size: np.random.default_rng(0).normal(size=(size, *shape)).astype(np.float32) for size in BATCHES}
    answers = [run(rows[32]).copy() for run in runs.values()]
    if max(np.abs(answer - answers[0]).max() for answer in answers) > TOLERANCE:
        raise SystemExit("The graphs differ in what they answer.")
    taken: dict[str, dict[int, list[float]]] = {name: {size: [] for size in BATCHES} for name in runs}
    for _ in range(ROUNDS):
        for size in BATCHES:
            for name, run in runs.items():
                taken[name][size].append(median(seconds_of(run, rows[size])))
    return {
        name: {str(size): milliseconds(medians) for size, medians in sizes.items()} for name, sizes in taken.items()
    }


def measure_job(name: str, job: Job) -> dict[str, object]:
    """Measure one job under all engines and numbers of threads."""
    graph = job.graph
    started = time.perf_counter()
    made = variants(graph)
    found: dict[str, object] = {"seconds_to_make_variants": round(time.perf_counter() - started, 3)}
    print(f"{name}: {', '.join(which for which, _ in made)}, made in {found['seconds_to_make_variants']} s")
    graphs = {
        f"{which}, {answers}": asked_only(one, outputs) if outputs else one
        for which, one in made
        for answers, outputs in (("all answers", ()), ("one answer", ("probabilities",)))
    }
    for engine, load in ENGINES.items():
        for threads in THREADS:
            cells = measure({which: load(one, threads) for which, one in graphs.items()}, job.shape)
            found[f"{engine}, {threads} threads"] = cells
            for which, sizes in cells.items():
                shown = "  ".join(f"{size}: {'/'.join(map(str, numbers))}" for size, numbers in sizes.items())
                print(f"  {engine} {threads} {which:19} {shown}", flush=True)
    return found


def main() -> None:
    """Measure all jobs."""
    before = os.getloadavg()
    results = {name: measure_job(name, job) for name, job in JOBS.items()}
    settings = {
        "milliseconds": "minimum, median, maximum of the rounds' medians, by rows in a batch",
        "rounds": ROUNDS,
        "processors": os.cpu_count(),
        "processor": processor(),
        "load_average_before": [round(load, 1) for load in before],
        "load_average_after": [round(load, 1) for load in os.getloadavg()],
    }
    RESULT.write_text(json.dumps({"settings": settings, "results": results}, indent=2) + "\n")


def processor() -> str:
    """Return the name of the processor, and its widest vectors where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {key.strip(): value.strip() for key, value in told.items()}
    vectors = [kind for kind in ("amx_tile", "avx512f", "avx2") if kind in told.get("flags", "").split()]
    return ", ".join([told.get("model name", platform.processor()), *vectors[:1]])


if __name__ == "__main__":
    main()
