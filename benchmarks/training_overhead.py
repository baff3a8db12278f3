"""Compare the speed of our resumable training with that of a plain `model.fit` on arrays in memory.

Run `python -m benchmarks.training_overhead`: it writes benchmarks/results/training_overhead.json. Both train the same
network on the same rows for the same number of updates, with the accuracy followed and the selection rows evaluated
after every epoch. Ours does so as the worker does: with its reporter, a checkpoint every few seconds, the best weights
kept, deterministic operators, and rows from a memory-mapped file. Each way has a process of its own, since
deterministic operators are a setting of the process; they take turns, so that the machine's moods hit both alike.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from app.domain.datasets import DatasetSchema, Features
from app.domain.network import Network
from app.domain.presets import CNN1D, MLP, Architecture, ReferenceCNN, build_network
from app.domain.training_specs import TrainingSpec

RESULT = Path(__file__).parent / "results" / "training_overhead.json"
ROUNDS = 3
CHECKPOINT_SECONDS = 2.0
SELECTION_ROWS = 1000
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """Say what is trained on what."""

    architecture: Architecture
    features: Features
    shape: tuple[int, ...]
    rows: int
    training: TrainingSpec

    @property
    def network(self) -> Network:
        schema = DatasetSchema(
            features=self.features,
            shape=self.shape,
            dtype="uint8" if self.features == "image" else "float32",
            classes=tuple("0123456789"),
            rows={"train": self.rows, "selection": SELECTION_ROWS, "report": 0},
        )
        return build_network(self.architecture, schema)


CASES = {
    "mlp on a table of 32 columns, 10,000 rows": Case(
        MLP(), "table", (32,), 10_000, TrainingSpec(epochs=6, batch_size=64)
    ),
    "cnn1d on signals of 40 steps, 4,000 rows": Case(
        CNN1D(), "signal", (40, 1), 4000, TrainingSpec(epochs=10, batch_size=64)
    ),
    "reference_cnn on 28x28 images, 4,000 rows": Case(
        ReferenceCNN(), "image", (28, 28, 1), 4000, TrainingSpec(epochs=2, batch_size=64)
    ),
}


def write_rows(case: Case, directory: Path) -> None:
    """Write random rows with labels that can be learned."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, case.rows + SELECTION_ROWS)
    x = rng.normal(size=(len(labels), *case.shape)) + labels.reshape(-1, *(1,) * len(case.shape)) / 3
    np.save(
        directory / "x.npy",
        (20 * x + 100).clip(0, 255).astype(np.uint8) if case.features == "image" else x.astype(np.float32),
    )
    np.save(directory / "targets.npy", np.eye(CLASSES, dtype=np.float32)[labels])


def plain(case: Case, directory: Path) -> Callable[[], object]:
    """Return the plain way: arrays in memory, Keras alone."""
    import keras

    from worker.nn.architectures import build_model

    x, targets = np.load(directory / "x.npy").astype(np.float32), np.load(directory / "targets.npy")

    def run() -> object:
        model = build_model(case.network, seed=0)
        rate = keras.optimizers.schedules.CosineDecay(0.001, case.training.epochs * -(-case.rows // 64))
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        return model.fit(
            x[: case.rows],
            targets[: case.rows],
            batch_size=case.training.batch_size,
            epochs=case.training.epochs,
            validation_data=(x[case.rows :], targets[case.rows :]),
            validation_batch_size=512,
            verbose=0,
        )

    return run


def ours(case: Case, directory: Path) -> Callable[[], object]:
    """Return our way, with the worker's own reporter."""
    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import Rows, fit
    from worker.trainer import Inbox, Outbox, PipeReporter

    x, targets = np.load(directory / "x.npy", mmap_mode="r"), np.load(directory / "targets.npy")
    rows = Rows(x[: case.rows], targets[: case.rows], x[case.rows :], targets[case.rows :])
    nowhere = Path(os.devnull)

    def run() -> object:
        kept = directory / "checkpoints"
        shutil.rmtree(kept, ignore_errors=True)
        with nowhere.open("wb") as outbox, nowhere.open("rb") as inbox:
            reporter = PipeReporter(Outbox(outbox), Inbox(inbox), kept, checkpoint_seconds=CHECKPOINT_SECONDS)
            model, objective = build_model(case.network, seed=0), plain_objective("classification")
            return fit(model, rows, objective=objective, training=case.training, seed=0, reporter=reporter)

    return run


def serve(way: str, case: Case, directory: Path) -> None:
    """Run a way once for every line of stdin; answer the seconds by the clock and of the processor."""
    run = {"plain": plain, "ours": ours}[way](case, directory)
    for _ in sys.stdin:
        started, busy = time.perf_counter(), time.process_time()
        run()
        print(json.dumps([time.perf_counter() - started, time.process_time() - busy]), flush=True)


def measure(name: str, directory: Path) -> dict[str, object]:
    """Let both ways take turns; return medians, and the median and extremes of the rounds' ratios."""
    write_rows(CASES[name], directory)
    command = [sys.executable, "-m", "benchmarks.training_overhead", name, str(directory)]
    ways = {
        way: subprocess.Popen([*command, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for way in ("plain", "ours")
    }
    taken: dict[str, list[list[float]]] = {way: [] for way in ways}
    for turn in range(ROUNDS + 1):
        for way, process in ways.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if turn:  # the first warms up: libraries are loaded at first use
                taken[way].append(answer)
    for process in ways.values():
        process.stdin.close()
        process.wait()
    return {unit: compared(taken, place) for place, unit in enumerate(("seconds", "processor_seconds"))}


def compared(taken: dict[str, list[list[float]]], place: int) -> dict[str, object]:
    """Return what the rounds say of one unit of time."""
    plain_times, our_times = ([answer[place] for answer in taken[way]] for way in ("plain", "ours"))
    ratios = sorted(mine / other for mine, other in zip(our_times, plain_times, strict=True))
    return {
        "plain": round(median(plain_times), 3),
        "ours": round(median(our_times), 3),
        "ratio_of_rounds": [round(ratio, 3) for ratio in ratios],
        "median_ratio": round(median(ratios), 3),
    }


def main() -> None:
    """Measure all cases; write what is known after each."""
    results = {}
    before = os.getloadavg()
    RESULT.parent.mkdir(exist_ok=True)
    for name in CASES:
        with tempfile.TemporaryDirectory() as directory:
            results[name] = measure(name, Path(directory))
        print(name, json.dumps(results[name], indent=2), flush=True)
        settings = {
            "rounds": ROUNDS,
            "checkpoint_seconds": CHECKPOINT_SECONDS,
            "processors": os.cpu_count(),
            "load_average_before": [round(load, 1) for load in before],
            "load_average_after": [round(load, 1) for load in os.getloadavg()],
            "counted": "building, compiling, training and evaluating; not the import of Keras",
        }
        RESULT.write_text(json.dumps({"settings": settings, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        serve(sys.argv[3], CASES[sys.argv[1]], Path(sys.argv[2]))
    else:
        main()
