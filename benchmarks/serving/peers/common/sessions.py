"""What every peer runs: the graphs in GRAPHS under ONNX Runtime, chosen by the shape of a row."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime


@cache
def sessions() -> dict[tuple[int, ...], onnxruntime.InferenceSession]:
    """Load `ens.onnx` and `large.onnx` once in this process."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    loaded = [
        onnxruntime.InferenceSession(
            str(Path(os.environ["GRAPHS"]) / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        for name in ("ens", "large")
    ]
    return {tuple(session.get_inputs()[0].shape[1:]): session for session in loaded}


def answer(rows: np.ndarray) -> np.ndarray:
    """Return the probabilities of rows (rows, *shape)."""
    inputs = np.ascontiguousarray(rows, dtype=np.float32)
    return sessions()[inputs.shape[1:]].run(["probabilities"], {"x": inputs})[0]


def parts_of(rows: np.ndarray, counts: list[int]) -> list[np.ndarray]:
    """Split the answers of a batch back into those of its requests."""
    return np.split(rows, np.cumsum(counts)[:-1])
