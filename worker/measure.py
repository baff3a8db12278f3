"""Measure an exported graph where it will serve: in a fresh process without any training framework.

`python -m worker.measure` reads a request from stdin and answers on stdout; `measure` starts it and asks.
"""

import gzip
import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.domain import quality
from app.domain.datasets import Task
from app.domain.errors import JobError
from app.domain.fusion import mean_squared_error, negative_log_likelihood
from app.domain.stats import wilson_interval
from app.serving.packed import is_packed_file, read_graph
from app.serving.runtime import Engine, load_engine, predict_rows
from worker.timing import (
    BATCHES,
    SIZES,
    Contestant,
    Times,
    peak_memory_bytes,
    ratio_of_times,
    rows_per_second,
    time_side_by_side,
)

# Beyond so many classes a matrix of all pairs is no reading any more.
LARGEST_CONFUSION = 200


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Part):
    """Ask for a served file's figures on rows; `answers` is where its answers are to be written, as .npy.

    `rival` is the served file of the model that it is compared with: both are timed in turns, in one process.
    """

    model: Path
    rows: Path
    targets: Path
    task: Task
    answers: Path
    rival: Path | None = None


class Figures(_Part):
    """Hold the figures of a served file that a version's metrics list, by the names that they have there."""

    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    nll: float | None = None
    brier: float | None = None
    ece: float | None = None
    rmse: float | None = None
    served_bytes: int
    gzip_bytes: int
    latency_ms_batch_1: float
    latency_ms_batch_1_p95: float
    latency_ms_batch_32: float
    latency_ms_batch_32_p95: float
    rows_per_second: float
    peak_memory_bytes: int


class Measured(_Part):
    """Hold everything that was measured on the file of this digest.

    `quality` tells more of its answers, `speed` how its times relate to the rival's, `memory` what the peak holds.
    """

    sha256: str
    figures: Figures
    quality: dict[str, Any]
    speed: dict[str, Any] | None
    memory: dict[str, Any]


def measure(request: Request) -> Measured:
    """Measure in a fresh process; raise JobError when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.measure"],
        input=request.model_dump_json(),
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise JobError(f"The exported graph could not be measured: {last[:500]}")
    return Measured.model_validate_json(done.stdout)


def judge(answers: NDArray[Any], targets: NDArray[Any], task: Task) -> dict[str, Any]:
    """Return a classification's accuracy, its Wilson interval, NLL, Brier score and ECE, or a regression's RMSE."""
    if task == "regression":
        return {"rmse": mean_squared_error(answers, targets.reshape(answers.shape)) ** 0.5}
    correct = int(np.count_nonzero(answers.argmax(axis=1) == targets))
    return {
        "accuracy": correct / len(targets),
        "accuracy_interval": wilson_interval(correct, len(targets)),
        "nll": negative_log_likelihood(answers, targets),
        "brier": quality.brier_score(answers, targets),
        "ece": quality.expected_calibration_error(answers, targets),
    }


def examine(answers: NDArray[Any], targets: NDArray[Any], task: Task) -> dict[str, Any]:
    """Return what a report tells beyond the metrics: by class and by confidence, or of the size of the errors."""
    if task == "regression":
        wanted = targets.reshape(answers.shape)
        error = quality.mean_absolute_error(answers, wanted)
        return {"mae": error, "r2": quality.determination(answers, wanted)}
    classes = answers.shape[1]
    calibration = {
        "adaptive_ece": quality.adaptive_calibration_error(answers, targets),
        "bins": [asdict(found) for found in quality.reliability(answers, targets)],
    }
    if classes > LARGEST_CONFUSION:
        return {"calibration": calibration}
    confusion = quality.confusion_matrix(targets, answers.argmax(axis=1), classes=classes)
    return {
        "balanced_accuracy": quality.balanced_accuracy(confusion),
        "macro_f1": quality.macro_f1(confusion),
        "matthews_correlation": quality.matthews_correlation(confusion),
        "by_class": [asdict(found) for found in quality.class_figures(confusion)],
        "confusion": confusion.tolist(),
        "calibration": calibration,
    }


def answer(request: Request) -> Measured:
    """Measure in this process: memory first, while nothing but the model is loaded, then times, then answers."""
    rows, targets = (np.load(path, mmap_mode="r", allow_pickle=False) for path in (request.rows, request.targets))
    output = "probabilities" if request.task == "classification" else "prediction"
    before = peak_memory_bytes()
    engine = load_engine(request.model)
    batch = np.resize(np.asarray(rows[: BATCHES[-1]], dtype=engine.dtype), (BATCHES[-1], *rows.shape[1:]))
    throughput = rows_per_second(engine, batch, output)
    memory = _memory(before)
    raced = [request.model, *([request.rival] if request.rival else [])]
    times = time_side_by_side([Contestant(loader_of(path), batch, output) for path in raced])
    answers = predict_rows(engine, rows, output)
    np.save(request.answers, answers, allow_pickle=False)
    content = request.model.read_bytes()
    figures: dict[str, Any] = {
        **judge(answers, targets, request.task),
        **_latencies({size: found[0] for size, found in times.items()}),
        "served_bytes": len(content),
        "gzip_bytes": len(gzip.compress(content, 6, mtime=0)),
        "rows_per_second": throughput,
        "peak_memory_bytes": memory["peak_bytes"],
    }
    return Measured(
        sha256=hashlib.sha256(content).hexdigest(),
        figures=Figures(**figures),
        quality=examine(answers, targets, request.task),
        speed=_speed(times) if request.rival else None,
        memory=memory,
    )


def _memory(before: int) -> dict[str, Any]:
    peak = peak_memory_bytes()
    return {
        "peak_bytes": peak,
        "added_bytes": peak - before,
        "meaning": f"the process with interpreter and runtime, at its peak over batches of up to {BATCHES[-1]} rows; "
        "added_bytes is what loading and running the model added",
    }


def loader_of(path: Path) -> Callable[[], Engine]:
    """Return what loads a served file, a packed one as the graph that it holds: decoding it is not what is timed."""
    return partial(load_engine, read_graph(path).SerializeToString() if is_packed_file(path) else path)


def _latencies(times: Mapping[int, Times]) -> dict[str, float]:
    return {
        f"latency_ms_batch_{size}{name}": float(np.quantile(found, share))
        for size, found in times.items()
        for name, share in (("", 0.5), ("_p95", 0.95))
    }


def _speed(times: Mapping[int, Sequence[Times]]) -> dict[str, Any]:
    """Relate the times of the model and its rival, which were taken in turns."""
    told: dict[str, Any] = {}
    for size in SIZES:
        own, other = times[size]
        found = ratio_of_times(own, other)
        told[f"ratio_batch_{size}"] = found.ratio
        told[f"ratio_batch_{size}_interval"] = found.interval
        told[f"verdict_batch_{size}"] = found.verdict
        told[f"against_latency_ms_batch_{size}"] = float(np.median(other))
    return told


def main() -> None:
    """Answer the request on stdin."""
    sys.stdout.write(answer(Request.model_validate_json(sys.stdin.read())).model_dump_json())


if __name__ == "__main__":
    main()
