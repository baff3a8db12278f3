"""Measure an exported graph where they will serve: in a fresh process without any training framework.

`python -m worker.measure` reads a request from stdin and answers on stdout; `measure` starts it and asks.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.domain.datasets import Task
from app.domain.errors import JobError
from app.domain.fusion import mean_squared_error, negative_log_likelihood
from app.domain.stats import wilson_interval
from app.serving.runtime import Engine, load_engine, predict_rows

_LATENCY_SECONDS = 0.25
_LATENCY_RUNS = 200


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Part):
    """Ask for a graph's figures on rows; `answers` is where its answers are to be written, as .npy."""

    model: Path
    rows: Path
    targets: Path
    task: Task
    answers: Path


class Measured(_Part):
    """Hold a graph's figures; latencies are medians in milliseconds on one thread."""

    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    nll: float | None = None
    rmse: float | None = None
    latency_ms_batch_1: float
    latency_ms_batch_32: float


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
    """Return accuracy with its Wilson interval and mean -log p, or the root mean squared error."""
    if task == "regression":
        return {"rmse": mean_squared_error(answers, targets.reshape(answers.shape)) ** 0.5}
    correct = int(np.count_nonzero(answers.argmax(axis=1) == targets))
    return {
        "accuracy": correct / len(targets),
        "accuracy_interval": wilson_interval(correct, len(targets)),
        "nll": negative_log_likelihood(answers, targets),
    }


def median_latency_ms(engine: Engine, rows: NDArray[Any], output: str) -> float:
    """Return the median time of one run on these rows, in milliseconds, after five runs to warm up."""
    for _ in range(5):
        engine.run(rows, [output])
    seconds: list[float] = []
    while len(seconds) < 10 or (sum(seconds) < _LATENCY_SECONDS and len(seconds) < _LATENCY_RUNS):
        began = time.perf_counter()
        engine.run(rows, [output])
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds)) * 1000


def answer(request: Request) -> Measured:
    """Measure in this process."""
    rows, targets = (np.load(path, mmap_mode="r", allow_pickle=False) for path in (request.rows, request.targets))
    output = "probabilities" if request.task == "classification" else "prediction"
    engine = load_engine(request.model)
    answers = predict_rows(engine, rows, output)
    np.save(request.answers, answers, allow_pickle=False)
    batch = np.resize(np.asarray(rows[:32], dtype=engine.dtype), (32, *rows.shape[1:]))
    one, many = (median_latency_ms(engine, batch[:size], output) for size in (1, 32))
    return Measured(**judge(answers, targets, request.task), latency_ms_batch_1=one, latency_ms_batch_32=many)


def main() -> None:
    """Answer the request on stdin."""
    sys.stdout.write(answer(Request.model_validate_json(sys.stdin.read())).model_dump_json())


if __name__ == "__main__":
    main()
