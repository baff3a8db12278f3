"""Run ONNX graphs. What serves is also what measures: latency and export parity come through here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.serving.packed import is_packed, is_packed_file, unpack

Array = NDArray[Any]

# It would move the rounding to int8 in front of a pooling, which then takes five times as long.
_HARMFUL = ["QDQPropagationTransformer"]


class Engine(Protocol):
    """Run one graph. An engine may be used by several threads at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one row, without the batch axis."""

    @property
    def dtype(self) -> Literal["float32", "uint8"]:
        """Return the type that `run` takes."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of everything that the graph can answer."""

    @property
    def graph_bytes(self) -> int:
        """Return the size of the graph in memory; a packed file is smaller."""

    def run(self, inputs: Array, outputs: Sequence[str]) -> list[Array]:
        """Answer `outputs`, each (rows, ...), for rows (rows, *shape) of this dtype. Only what is asked is computed."""


class OnnxEngine:
    """Run a graph by ONNX Runtime."""

    def __init__(self, session: onnxruntime.InferenceSession, graph_bytes: int) -> None:
        self._session = session
        self.graph_bytes = graph_bytes
        taken = session.get_inputs()[0]
        self._input: str = taken.name
        self.shape: tuple[int, ...] = tuple(taken.shape[1:])
        self.dtype: Literal["float32", "uint8"] = "uint8" if taken.type == "tensor(uint8)" else "float32"
        self.outputs: tuple[str, ...] = tuple(output.name for output in session.get_outputs())

    def run(self, inputs: Array, outputs: Sequence[str]) -> list[Array]:
        """Answer `outputs` for rows."""
        answers: list[Array] = self._session.run(list(outputs), {self._input: inputs})
        return answers


Provider: TypeAlias = tuple[str, dict[str, str]]
CPU: Provider = ("CPUExecutionProvider", {})


def load_engine(graph: Path | bytes, *, threads: int = 1, provider: Provider = CPU) -> Engine:
    """Return an engine for a plain or packed graph (a path or its bytes) that uses at most `threads` CPU threads.

    The threads never spin while they wait: a service with many loaded models would burn its cores. Raise RuntimeError
    where the provider cannot be used.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source, graph_bytes = _source(graph)
    providers = [provider] if provider == CPU else [provider, CPU]
    session = onnxruntime.InferenceSession(source, options, providers=providers, disabled_optimizers=_HARMFUL)
    if provider[0] not in session.get_providers():
        # ONNX Runtime itself only warns, and goes on with the next provider.
        raise RuntimeError(f"{provider[0]} cannot be used here: a device, its driver or its libraries are missing.")
    return OnnxEngine(session, graph_bytes)


def plain_bytes(path: Path) -> bytes:
    """Return the plain ONNX graph of a plain or packed file."""
    content = path.read_bytes()
    return bytes(unpack(content).SerializeToString()) if is_packed(content) else content


def _source(graph: Path | bytes) -> tuple[str | bytes, int]:
    """Return what the runtime reads, with its size: a plain file as it lies there, a packed one unpacked."""
    if isinstance(graph, Path):
        if not is_packed_file(graph):
            return str(graph), graph.stat().st_size
        graph = graph.read_bytes()
    plain = unpack(graph).SerializeToString() if is_packed(graph) else graph
    return plain, len(plain)


def predict_rows(engine: Engine, rows: Array, output: str, *, batch_size: int = 256) -> Array:
    """Answer one output for many rows (rows, *shape), cast batch by batch; rows may be memory-mapped."""
    answers = [
        engine.run(np.ascontiguousarray(batch, engine.dtype), [output])[0] for batch in batches_of(rows, batch_size)
    ]
    return np.concatenate(answers)


def batches_of(rows: Array, batch_size: int) -> Iterator[Array]:
    """Yield the rows in order, at most `batch_size` at a time; no rows are one empty batch."""
    for start in range(0, max(1, len(rows)), batch_size):
        yield rows[start : start + batch_size]
