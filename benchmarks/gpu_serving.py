"""Time fused graphs on a GPU against the processor: `python -m benchmarks.gpu_serving` (a minute, onnxruntime-gpu).

It writes benchmarks/results/gpu_serving.json. Everything runs as it is served: on the GPU 64 rows at a time. `as it
comes` is a GPU engine without that, given batches of 1 to 64 rows by chance.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from app.serving.cuda_engine import OPTIONS, PROVIDER, load_cuda_engine
from app.serving.merging import variants
from app.serving.runtime import Engine, load_engine
from app.serving.sharing import asked_only
from benchmarks.machine import facts
from benchmarks.scale.cost import network_of
from benchmarks.serving.graphs import SMALL, ensemble, members

RESULT = Path(__file__).parent / "results" / "gpu_serving.json"
OUTPUTS = ["probabilities"]
SIZES = (1, 16, 64, 256)
SECONDS = 0.3
CALLERS = 8
ROWS = np.random.default_rng(0).random((256, *SMALL), dtype=np.float32)


def graphs() -> Iterator[tuple[str, bytes]]:
    """Yield networks alone and fused, the latter as they are and with their members merged."""
    for size in ("small", "reference", "large"):
        parts = members(4, network_of(size))
        yield f"{size}, 1", _asked(parts[0])
        for variant, graph in variants(ensemble(parts)):
            yield f"{size}, 4 {variant}", _asked(graph)


def _asked(graph: onnx.ModelProto) -> bytes:
    content: bytes = asked_only(graph, OUTPUTS).SerializeToString()
    return content


def engines(graph: bytes, threads: int) -> dict[str, Callable[[], Engine]]:
    """Return what is compared."""
    return {
        "1 thread": lambda: load_engine(graph),
        f"{threads} threads": lambda: load_engine(graph, threads=threads),
        "GPU": lambda: load_cuda_engine(graph, OUTPUTS),
    }


def measure(engine: Engine, expected: np.ndarray) -> dict[str, Any]:
    """Return the milliseconds of a run by rows, what eight callers get together, and how far answers are off."""
    off = float(np.abs(engine.run(ROWS, OUTPUTS)[0] - expected).max())
    ms = {str(size): round(1000 * median(_seconds(engine, ROWS[:size])), 3) for size in SIZES}
    return {"ms": ms, "rows_per_second_of_8_callers": _rows_per_second(engine), "largest_difference": off}


def _seconds(engine: Engine, rows: np.ndarray) -> list[float]:
    engine.run(rows, OUTPUTS)
    taken: list[float] = []
    until = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < until:
        started = time.perf_counter()
        engine.run(rows, OUTPUTS)
        taken.append(time.perf_counter() - started)
    return taken


def _rows_per_second(engine: Engine) -> int:
    counts = [0] * CALLERS
    started = time.perf_counter()

    def call(place: int) -> None:
        while time.perf_counter() < started + SECONDS:
            engine.run(ROWS[:64], OUTPUTS)
            counts[place] += 64

    callers = [threading.Thread(target=call, args=(place,)) for place in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return round(sum(counts) / (time.perf_counter() - started))


def as_it_comes(graph: bytes) -> float:
    """Return the mean milliseconds of batches of any size on the GPU, as the runtime takes them by itself."""
    engine = load_engine(graph, provider=(PROVIDER, OPTIONS))
    sizes = np.random.default_rng(1).integers(1, 65, 60)
    engine.run(ROWS[:64], OUTPUTS)
    started = time.perf_counter()
    for size in sizes:
        engine.run(ROWS[:size], OUTPUTS)
    return round(1000 * (time.perf_counter() - started) / len(sizes), 3)


def main() -> None:
    """Measure all graphs."""
    threads = os.cpu_count() or 1
    found: dict[str, Any] = {"machine": {**facts(("onnxruntime-gpu", "numpy")), "gpu": _gpu()}, "graphs": {}}
    for name, graph in graphs():
        expected = load_engine(graph).run(ROWS, OUTPUTS)[0]
        rows: dict[str, Any] = {which: measure(load(), expected) for which, load in engines(graph, threads).items()}
        rows["GPU"]["ms_as_it_comes"] = as_it_comes(graph)
        found["graphs"][name] = rows
        for which, figures in rows.items():
            print(f"{name:18} {which:10} {json.dumps(figures)}", flush=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _gpu() -> str:
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
