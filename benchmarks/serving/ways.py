"""How rows are written into requests and read from answers: the same numbers in the words of each protocol."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.graphs import Case, Rows

Answers = NDArray[np.float32]
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Message:
    """One request, as bytes; `path` and `headers` without those of the connection."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Way:
    """A protocol: how to ask for rows, and how to read `(headers, body)` of the answer."""

    ask: Callable[[Case, Rows], Message]
    read: Callable[[Mapping[str, str], bytes], Answers]


def _numbers(rows: Rows) -> str:
    """Write rows as JSON with the shortest digits, the same for every server."""
    return json.dumps(np.round(rows.astype(np.float64), 4).tolist(), separators=(",", ":"))


def instances(path: str) -> Callable[[Case, Rows], Message]:
    """Return TensorFlow Serving's request, which most servers take in much the same form."""

    def ask(case: Case, rows: Rows) -> Message:
        body = f'{{"instances":{_numbers(rows)}}}'
        return Message(path.format(model=case.model), JSON, body.encode())

    return ask


def tensor_json(path: str) -> Callable[[Case, Rows], Message]:
    """Return the Open Inference Protocol's request in JSON, its data flat."""

    def ask(_case: Case, rows: Rows) -> Message:
        shape = json.dumps(list(rows.shape))
        tensor = f'{{"name":"x","shape":{shape},"datatype":"FP32","data":{_numbers(rows.reshape(-1))}}}'
        return Message(path, JSON, f'{{"inputs":[{tensor}]}}'.encode())

    return ask


def tensor_binary(case: Case, rows: Rows) -> Message:
    """Return the Open Inference Protocol's request with its binary data extension, the answer binary as well."""
    data = rows.astype("<f4").tobytes()
    tensor = {"name": "x", "shape": rows.shape, "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    output = {"name": "probabilities", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [output]}, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Message(f"/v2/models/{case.model}/infer", headers, head + data)


def read_predictions(_headers: Mapping[str, str], body: bytes) -> Answers:
    """Read `{"predictions": [...]}`, or the rows alone; a row may be named by its output."""
    found: Any = json.loads(body)
    return np.array(found["predictions"] if isinstance(found, dict) else found, dtype=np.float32)


def read_tensor_json(_headers: Mapping[str, str], body: bytes) -> Answers:
    """Read the first output of an answer of the Open Inference Protocol."""
    output = json.loads(body)["outputs"][0]
    return np.array(output["data"], dtype=np.float32).reshape(output["shape"])


def read_tensor_binary(headers: Mapping[str, str], body: bytes) -> Answers:
    """Read the first output, whose data follow the JSON."""
    length = int(headers["inference-header-content-length"])
    output = json.loads(body[:length])["outputs"][0]
    size = output["parameters"]["binary_data_size"]
    return np.frombuffer(body[length : length + size], dtype="<f4").reshape(output["shape"])


TENSOR_BINARY = Way(tensor_binary, read_tensor_binary)
