"""Compare the speed of our resumable training with that of a plain `model.fit` on arrays in memory.

Run `python -m benchmarks.training_overhead`: it writes benchmarks/results/training_overhead.json. Both train the same
network on the same rows for the same number of updates and are evaluated on the selection rows after every epoch; ours
also keeps the best weights, can stop at any batch, and reads a memory-mapped file of bytes.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from app.domain.datasets import DatasetSchema
from app.domain.network import Network
from app.domain.presets import MLP, Architecture, ReferenceCNN, build_network
from app.domain.training_specs import TrainingSpec

RESULT = Path(__file__).parent / "results" / "training_overhead.json"
TRAINING = TrainingSpec(epochs=4, batch_size=64)
REPEATS = 3
CASES: dict[str, tuple[Architecture, int, int]] = {
    "reference_cnn on 28x28 images, 2,000 rows": (ReferenceCNN(), 28, 2000),
    "mlp on 8x8 images, 10,000 rows": (MLP(), 8, 10_000),
}


class Silence:
    """Be a reporter that nobody listens to."""

    def progress(self, step: int, total_steps: int) -> None: ...

    def metric(self, epoch: int, values: object) -> None: ...

    def log(self, text: str) -> None: ...

    def stop_requested(self) -> None: ...

    def checkpoint_due(self) -> bool:
        return False

    def checkpoint(self, write: object, step: int) -> None: ...


def measure(architecture: Architecture, side: int, count: int, directory: Path) -> dict[str, float]:
    """Return the least seconds of each way, by the clock and of the processor.

    The ways take turns, so that the machine's moods hit both alike.
    """
    schema = DatasetSchema(
        features="image",
        shape=(side, side, 1),
        dtype="uint8",
        classes=tuple("0123456789"),
        rows={"train": count, "selection": 1000, "report": 0},
    )
    network = build_network(architecture, schema)
    rng = np.random.default_rng(0)
    np.save(directory / "x.npy", rng.integers(0, 256, (count + 1000, side, side, 1)).astype(np.uint8))
    targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, count + 1000)]
    ways = {"plain": _plain(network, directory, targets, count), "ours": _ours(network, directory, targets, count)}
    found: dict[str, float] = {}
    for _ in range(REPEATS):
        for name, run in ways.items():
            started, busy = time.perf_counter(), time.process_time()
            run()
            taken = {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - busy}
            for unit, value in taken.items():
                found[f"{name}_{unit}"] = min(round(value, 3), found.get(f"{name}_{unit}", value))
    return found


def _plain(network: Network, directory: Path, targets: np.ndarray, count: int) -> Callable[[], object]:
    import keras

    from worker.nn.architectures import build_model

    x = np.load(directory / "x.npy").astype(np.float32)

    def run() -> object:
        model = build_model(network, seed=0)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
        held_out = (x[count:], targets[count:])
        return model.fit(
            x[:count],
            targets[:count],
            batch_size=TRAINING.batch_size,
            epochs=TRAINING.epochs,
            validation_data=held_out,
            validation_batch_size=512,
            verbose=0,
        )

    return run


def _ours(network: Network, directory: Path, targets: np.ndarray, count: int) -> Callable[[], object]:
    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import Rows, fit

    x = np.load(directory / "x.npy", mmap_mode="r")
    rows = Rows(x[:count], targets[:count], selection_x=x[count:], selection_targets=targets[count:])

    def run() -> object:
        model = build_model(network, seed=0)
        objective = plain_objective("classification")
        return fit(model, rows, objective=objective, training=TRAINING, seed=0, reporter=Silence())

    return run


def main() -> None:
    """Measure all cases and write the result."""
    results = {}
    for name, (architecture, side, count) in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            found = measure(architecture, side, count, Path(directory))
        for unit in ("seconds", "processor_seconds"):
            ratio = found[f"ours_{unit}"] / found[f"plain_{unit}"]
            found[f"overhead_percent_of_{unit}"] = round(100 * (ratio - 1), 1)
        results[name] = found
        print(name, found)
    settings = {"epochs": TRAINING.epochs, "batch_size": TRAINING.batch_size, "repeats": REPEATS, "kept": "fastest"}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"settings": settings, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
