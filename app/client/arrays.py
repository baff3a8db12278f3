"""Arrays on the wire: as `numpy.save` writes them (NPY), and as tensors of the Open Inference Protocol.

numpy is imported by the first array, so that a command that has none starts without it.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from app.domain import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NPY = "application/x-npy"
LENGTH_HEADER = "Inference-Header-Content-Length"
LARGEST_BODY_BYTES = 8 * 2**20
MOST_ROWS = 4096
_DATATYPES = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
_DTYPES = {datatype: dtype for dtype, datatype in _DATATYPES.items()}


class TensorRequest(NamedTuple):
    """Hold a request of the binary tensor extension."""

    body: bytes
    headers: dict[str, str]


def is_array(rows: object) -> bool:
    """Tell whether rows are a numpy array, without importing numpy for those that are none."""
    return type(rows).__module__ == "numpy" and hasattr(rows, "tobytes") and hasattr(rows, "dtype")


def is_numeric(array: "Array") -> bool:
    """Tell whether an array has numbers, which travel as bytes; texts travel as JSON."""
    return array.dtype.kind in "biuf"


def plain(rows: Iterable[Any]) -> list[Any]:
    """Return rows as JSON can write them: nested lists, where some were arrays."""
    return [row.tolist() if hasattr(row, "tolist") else row for row in rows]


def batches(array: "Array") -> "list[Array]":
    """Cut an array into parts that the service takes as one request each."""
    row_bytes = max(1, prod(array.shape[1:]) * array.dtype.itemsize)
    rows = max(1, min(MOST_ROWS, LARGEST_BODY_BYTES // row_bytes))
    return [array[start : start + rows] for start in range(0, max(1, len(array)), rows)]


def to_npy(array: "Array") -> bytes:
    """Write an array as `numpy.save` does; truth values become 0 and 1.

    >>> import numpy as np
    >>> from_npy(to_npy(np.array([[1.0, 2.0]])))
    array([[1., 2.]])
    """
    import numpy as np

    stream = io.BytesIO()
    numbers = array.astype(np.uint8) if array.dtype.kind == "b" else array
    np.lib.format.write_array(stream, np.ascontiguousarray(numbers), allow_pickle=False)
    return stream.getvalue()


def from_npy(content: bytes) -> "Array":
    """Read an array as `numpy.load` does, never a pickle."""
    import numpy as np

    found: Array = np.load(io.BytesIO(content), allow_pickle=False)
    return found


def to_tensor(array: "Array", outputs: Sequence[str]) -> TensorRequest:
    """Write a request of the Open Inference Protocol: JSON, then the array's bytes; all answers come as bytes too."""
    import numpy as np

    if str(array.dtype) not in _DATATYPES:
        raise errors.InvalidInputValueError(
            f"An array of {array.dtype} is no tensor.", hint=f"Send one of {', '.join(_DATATYPES)}."
        )
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    tensor = {"name": "x", "shape": list(array.shape), "datatype": _DATATYPES[str(array.dtype)]}
    head: dict[str, Any] = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True},
    }
    if outputs:
        head["outputs"] = [{"name": name} for name in outputs]
    text = json.dumps(head).encode()
    return TensorRequest(text + data, {LENGTH_HEADER: str(len(text)), "Content-Type": "application/octet-stream"})


def from_tensors(content: bytes, headers: Mapping[str, str]) -> "dict[str, Array]":
    """Read the arrays of an answer of the Open Inference Protocol, by name."""
    length = int(headers.get(LENGTH_HEADER, len(content)))
    found: dict[str, Array] = {}
    start = length
    for tensor in json.loads(content[:length])["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size", 0)
        found[tensor["name"]] = _tensor(tensor, content[start : start + size])
        start += size
    return found


def _tensor(tensor: Mapping[str, Any], data: bytes) -> "Array":
    import numpy as np

    if "data" in tensor:
        values: Array = np.array(tensor["data"])
    else:
        values = np.frombuffer(data, np.dtype(_DTYPES[tensor["datatype"]]).newbyteorder("<"))
    return values.reshape(tensor["shape"])
