"""Run graphs on a GPU by ONNX Runtime's CUDA build, where that and a GPU are there."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.serving.runtime import Engine, batches_of, load_engine

Array = NDArray[Any]

ROWS = 64
PROVIDER = "CUDAExecutionProvider"
OPTIONS = {
    # TensorFloat-32 rounds the factors of products to ten bits, and answers would be up to 5e-4 off.
    "use_tf32": "0",
    # The default tries what there is, and may find something else after every start.
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}


def is_installed() -> bool:
    """Tell whether this build of ONNX Runtime knows GPUs; whether one can be used shows when a graph is loaded."""
    return PROVIDER in onnxruntime.get_available_providers()


def visible_gpus(driver: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """Name the GPUs that NVIDIA's driver shows, and which of them may be used: what was measured holds for these."""
    files = sorted(driver.glob("*/information"))
    models = [line for file in files for line in file.read_text("utf-8", "replace").splitlines() if "Model:" in line]
    return [*models, os.environ.get("CUDA_VISIBLE_DEVICES", "all")]


def load_cuda_engine(graph: bytes, outputs: Sequence[str]) -> Engine:
    """Return a warm engine on the GPU; raise RuntimeError where its libraries or a GPU are missing.

    What a GPU has no kernel for runs on the CPU.
    """
    onnxruntime.preload_dlls()
    engine = FixedRows(load_engine(graph, provider=(PROVIDER, OPTIONS)), ROWS)
    engine.run(np.zeros((1, *engine.shape), dtype=engine.dtype), outputs)
    return engine


class FixedRows:
    """Run another engine on always so many rows: what is missing is filled up, more go one after the other.

    For another number of rows than the one before, cuDNN plans a graph's convolutions anew. That takes 2 to 100 ms, and
    plans differ in the last bits, so that an answer would depend on who else is asking. Small models leave most of a
    GPU idle anyhow: 64 rows take about as long as one.
    """

    def __init__(self, engine: Engine, rows: int) -> None:
        self._engine = engine
        self._rows = rows
        self.shape: tuple[int, ...] = engine.shape
        self.dtype: Literal["float32", "uint8"] = engine.dtype
        self.outputs: tuple[str, ...] = engine.outputs
        self.graph_bytes: int = engine.graph_bytes

    def run(self, inputs: Array, outputs: Sequence[str]) -> list[Array]:
        """Answer `outputs` for rows."""
        answers = [self._run_filled(batch, outputs) for batch in batches_of(inputs, self._rows)]
        return answers[0] if len(answers) == 1 else [np.concatenate(parts) for parts in zip(*answers, strict=True)]

    def _run_filled(self, rows: Array, outputs: Sequence[str]) -> list[Array]:
        if len(rows) == self._rows:
            return self._engine.run(rows, outputs)
        filled = np.zeros((self._rows, *rows.shape[1:]), dtype=rows.dtype)
        filled[: len(rows)] = rows
        return [answer[: len(rows)] for answer in self._engine.run(filled, outputs)]
