"""Rows a second without any server: `python -m benchmarks.serving.ceiling GRAPH` runs OpenVINO alone in its process."""

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.serving.graphs import SMALL

THREADS, BATCH = 2, 128


def rows_per_second(graph: Path, *, seconds: float) -> float | None:
    """Return how many rows one engine of two threads answers, in batches of 128; None without OpenVINO."""
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    rows = np.random.default_rng(0).random((BATCH, *SMALL), dtype=np.float32)
    for _ in range(3):
        request.infer([rows])
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        request.infer([rows])
        runs += 1
    return runs * BATCH / (time.perf_counter() - started)


if __name__ == "__main__":
    json.dump(rows_per_second(Path(sys.argv[1]), seconds=float(sys.argv[2])), sys.stdout)
