"""Compare members that are trained together with a loop of plain `model.fit`.

Run `python -m benchmarks.members_at_once`: it writes benchmarks/results/members_at_once.json. Eight networks of one
architecture and eight seeds learn from the same rows for the same number of updates, with the accuracy followed and the
selection rows evaluated after every epoch. Each way has a process of its own, and they take turns. What is timed holds
building and compiling, for both are paid once per member or once per group; importing Keras is not.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from app.domain.layers import Conv1D, Dense, Flatten
from app.domain.presets import MLP, Graph
from app.domain.training_specs import TrainingSpec
from benchmarks.training_overhead import Case, plain, write_rows

RESULT = Path(__file__).parent / "results" / "members_at_once.json"
MEMBERS, ROUNDS = 8, 3
CNN = Graph(
    layers=(
        Conv1D(name="conv1", filters=25, kernel_size=5, strides=2, activation="relu"),
        Conv1D(name="conv2", filters=25, strides=2, activation="relu"),
        Conv1D(name="conv3", filters=25, strides=2, activation="relu"),
        Flatten(name="flat"),
        Dense(name="answer", units=10),
    )
)
CASES = {
    "CNN of MNIST-1D, 5,210 parameters, 4,000 rows": Case(
        CNN, "signal", (40, 1), 4000, TrainingSpec(epochs=20, batch_size=100)
    ),
    "mlp on a table of 32 columns, 4,000 rows": Case(
        MLP(hidden=(64, 32)), "table", (32,), 4000, TrainingSpec(epochs=20, batch_size=64)
    ),
}


def one_by_one(case: Case, directory: Path) -> Callable[[], object]:
    """Return the loop of `model.fit`."""
    run = plain(case, directory)
    return lambda: [run() for _ in range(MEMBERS)]


def together(case: Case, directory: Path) -> Callable[[], object]:
    """Return our way: all members as one graph."""
    import keras

    from worker.nn.objectives import plain_objective
    from worker.nn.together import Pupil, Task, fit_together
    from worker.nn.training import Rows

    x, targets = np.load(directory / "x.npy", mmap_mode="r"), np.load(directory / "targets.npy")
    rows = Rows(x[: case.rows], targets[: case.rows], x[case.rows :], targets[case.rows :])
    task = Task(case.network, plain_objective("classification"), case.training)
    pupils = [Pupil(seed, replace(rows), {}) for seed in range(MEMBERS)]

    def run() -> object:
        keras.backend.clear_session()
        return fit_together(task, pupils, Silent())

    return run


class Silent:
    """Report nothing, and never ask for a stop."""

    def progress(self, step: int, total_steps: int) -> None: ...

    def metric(self, epoch: int, values: object) -> None: ...

    def log(self, text: str) -> None: ...

    def stop_requested(self) -> None: ...

    def checkpoint_due(self) -> bool:
        return False

    def checkpoint(self, write: object, step: int) -> None: ...


def serve(way: str, case: Case, directory: Path) -> None:
    """Run a way once for every line of stdin; answer the seconds by the clock and of the processor."""
    run = {"fit": one_by_one, "together": together}[way](case, directory)
    for _ in sys.stdin:
        started, busy = time.perf_counter(), time.process_time()
        run()
        print(json.dumps([time.perf_counter() - started, time.process_time() - busy]), flush=True)


def measure(name: str, directory: Path) -> dict[str, object]:
    """Let both ways take turns; return the times and ratios of the rounds."""
    write_rows(CASES[name], directory)
    command = [sys.executable, "-m", "benchmarks.members_at_once", name, str(directory)]
    ways = {
        way: subprocess.Popen([*command, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for way in ("fit", "together")
    }
    taken: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, process in ways.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            taken[way].append(json.loads(process.stdout.readline()))
    for process in ways.values():
        process.stdin.close()
        process.wait()
    return {unit: compared(taken, place) for place, unit in enumerate(("seconds", "processor_seconds"))}


def compared(taken: dict[str, list[list[float]]], place: int) -> dict[str, object]:
    """Return what the rounds say of one unit of time."""
    times = {way: [round(answer[place], 3) for answer in answers] for way, answers in taken.items()}
    ratios = [mine / other for mine, other in zip(times["together"], times["fit"], strict=True)]
    return {**times, "ratios": [round(ratio, 3) for ratio in ratios], "median_ratio": round(median(ratios), 3)}


def main() -> None:
    """Measure all cases; write what is known after each."""
    results = {}
    before = os.getloadavg()
    for name in CASES:
        with tempfile.TemporaryDirectory() as directory:
            results[name] = measure(name, Path(directory))
        print(name, json.dumps(results[name], indent=2), flush=True)
        settings = {
            "members": MEMBERS,
            "rounds": ROUNDS,
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
