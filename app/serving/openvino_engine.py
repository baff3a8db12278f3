"""Run graphs by OpenVINO, where it is installed: often the faster one from a few rows on."""

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.serving.runtime import Engine

Array = NDArray[Any]


def is_installed() -> bool:
    """Tell whether OpenVINO can be imported, without importing it."""
    return find_spec("openvino") is not None


class OpenVinoEngine:
    """Run a graph by OpenVINO on the CPU; it computes all of `outputs` at every run, so they are chosen at loading."""

    def __init__(self, graph: bytes, outputs: Sequence[str], *, like: Engine, threads: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(graph)
        for result in model.get_results():
            if not set(outputs) & set(result.input_value(0).get_names()):
                model.remove_result(result)
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Processors that have it would compute in bfloat16, and no longer answer what was measured.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._compiled = core.compile_model(model, "CPU", settings)
        self._answers = [self._compiled.output(name) for name in outputs]
        self._requests = threading.local()
        self.shape: tuple[int, ...] = like.shape
        self.dtype: Literal["float32", "uint8"] = like.dtype
        self.outputs = tuple(outputs)
        self.graph_bytes = len(graph)

    def run(self, inputs: Array, outputs: Sequence[str]) -> list[Array]:
        """Answer `outputs` for rows."""
        found = self._request().infer({0: np.ascontiguousarray(inputs)}, share_inputs=True)
        by_name = dict(zip(self.outputs, self._answers, strict=True))
        return [found[by_name[name]] for name in outputs]

    def _request(self) -> Any:  # noqa: ANN401 - OpenVINO ships no types
        """Return this thread's own request: one request is not safe for two threads."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        return request
