"""Read requests and write replies: bytes to values and back, knowing nothing of models."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import orjson
import simdjson

from app.api.bodies import read_tensors
from app.api.v2 import binary
from app.api.v2.datatypes import TEXTS, Array, datatype_of
from app.domain.errors import InvalidRequestError, NotSupportedError
from app.domain.prediction_errors import InvalidInputValueError
from app.serving.decoding import is_nested_like

NonFinite = Literal["error", "null"]
_MOST_AXES = 32
_MOST_SIZE = 2**31
# From here on it pays to spare the numbers their way through Python's objects.
_LARGE_BYTES = 2048


class Tensor(NamedTuple):
    """Hold an input as it came: JSON's values, flat numbers, or the bytes of the binary extension."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any

    @property
    def elements(self) -> int:
        """Count its elements."""
        return prod(self.shape)


class Asked(NamedTuple):
    """Say in what form an output is asked for: as bytes or as JSON, and as its `classes` best classes unless 0."""

    name: str
    binary: bool = False
    classes: int = 0


class InferRequest(NamedTuple):
    """Hold a request; without `outputs` the default one is meant, in the form that `binary_outputs` tells."""

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Asked, ...] = ()
    binary_outputs: bool = False
    timeout_microseconds: int = 0
    non_finite: NonFinite = "error"


class Reply(NamedTuple):
    """Hold the body of a reply; `json_length` is None unless binary data follows the JSON."""

    body: bytes
    json_length: int | None


def read_request(body: bytes, json_length: int | None) -> InferRequest:
    """Return what a body asks for; raise InvalidRequestError that names the field or the input that is wrong."""
    head = body if json_length is None else body[:json_length]
    content = _flat_numbers(head)
    if content is None:
        content = _object(read_tensors(head), "The body")
    parameters = _parameters(content, "The request")
    binary_outputs = _flag(parameters, "binary_data_output", "The request") or False
    return InferRequest(
        id=_id(content.get("id")),
        inputs=_inputs(content.get("inputs"), memoryview(body)[len(head) :]),
        outputs=tuple(_asked(item, binary=binary_outputs) for item in _list(content.get("outputs", []), "`outputs`")),
        binary_outputs=binary_outputs,
        timeout_microseconds=_timeout(parameters),
        non_finite=_non_finite(parameters),
    )


def _flat_numbers(head: bytes) -> dict[str, Any] | None:
    """Return a large request of one tensor, its `data` as an array; None where it must be read thoroughly."""
    if len(head) < _LARGE_BYTES:
        return None
    try:
        # A parser of its own for every body: one that is shared refuses to work while its last document lives.
        document: Any = simdjson.Parser().parse(head)
        (tensor,) = document["inputs"]
        if tensor["datatype"] in ("INT64", "UINT64"):
            return None  # they do not fit a double
        values = tensor["data"]
        data = np.frombuffer(values.as_buffer(of_type="d"), dtype=np.float64)
        given = {key: _plain(tensor[key]) for key in tensor if key != "data"}
        content = {key: _plain(document[key]) for key in document if key != "inputs"}
        # No lists but those that there must be: then there is none within the data.
        is_flat = head.count(b"[") == 3 + ("outputs" in content)
        if not is_flat and not _is_nested(values.mini, given["shape"], data.size):
            return None
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return None
    return {**content, "inputs": [{**given, "data": data}]}


def _is_nested(text: bytes, shape: object, size: int) -> bool:
    if not isinstance(shape, list) or not 0 < len(shape) <= _MOST_AXES or not all(_is_count(item) for item in shape):
        return False
    return size > 0 and prod(shape) == size and is_nested_like(text, tuple(shape))


def _plain(value: object) -> object:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _inputs(given: object, rest: memoryview) -> tuple[Tensor, ...]:
    items = [_object(item, "An item of `inputs`") for item in _list(given, "`inputs`")]
    sizes = [(_name(item, "An input"), _size(item)) for item in items]
    parts = binary.split(rest, sizes)
    return tuple(_tensor(item, part) for item, part in zip(items, parts, strict=True))


def _size(item: Mapping[str, Any]) -> int | None:
    where = f"Input `{item['name']}`"
    size = _parameters(item, where).get("binary_data_size")
    if size is None:
        return None
    if not _is_count(size):
        raise _refused(f"{where}: `binary_data_size` is {_shown(size)}, no number of bytes.")
    if "data" in item:
        raise _refused(f"{where} has both `data` and `binary_data_size`.", "Send one of them.")
    found: int = size
    return found


def _tensor(item: Mapping[str, Any], part: memoryview | None) -> Tensor:
    name, datatype, shape = item["name"], item.get("datatype"), item.get("shape")
    if not isinstance(datatype, str):
        raise _refused(f"Input `{name}` has no `datatype`.", 'Send for example "FP32".')
    if not isinstance(shape, list) or len(shape) > _MOST_AXES or not all(_is_count(size) for size in shape):
        raise _refused(f"Input `{name}`: `shape` is {_shown(shape)}, no list of sizes.", "Send for example [1, 4].")
    if part is None and "data" not in item:
        raise _refused(f"Input `{name}` has no `data`.", "Send its values, or `binary_data_size` and its bytes.")
    return Tensor(name, datatype, tuple(shape), item["data"] if part is None else part)


def _asked(given: object, *, binary: bool) -> Asked:
    item = _object(given, "An item of `outputs`")
    name = _name(item, "An output")
    where = f"Output `{name}`"
    parameters = _parameters(item, where)
    _refuse_shared_memory(parameters, where)
    classes = parameters.get("classification", 0)
    if not _is_count(classes):
        raise _refused(f"{where}: `classification` is {_shown(classes)}, no number of classes.")
    wanted = _flag(parameters, "binary_data", where)
    return Asked(name, binary if wanted is None else wanted, classes)


def _id(given: object) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise _refused(f"`id` is {_shown(given)}, no string.")


def _timeout(parameters: Mapping[str, Any]) -> int:
    for name in ("timeout", "priority"):
        if not _is_count(parameters.get(name, 0), most=2**64):
            raise _refused(f"`{name}` is {_shown(parameters[name])}, no whole number from 0 up.")
    timeout: int = parameters.get("timeout", 0)
    return timeout


def _non_finite(parameters: Mapping[str, Any]) -> NonFinite:
    given = parameters.get("non_finite", "error")
    if given not in get_args(NonFinite):
        raise _refused(f"`non_finite` is {_shown(given)}.", "Choose `error` or `null`.")
    chosen: NonFinite = given
    return chosen


def _parameters(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    given = item.get("parameters")
    parameters = {} if given is None else _object(given, f"{where}: `parameters`")
    _refuse_shared_memory(parameters, where)
    return parameters


def _refuse_shared_memory(parameters: Mapping[str, Any], where: str) -> None:
    if "shared_memory_region" in parameters:
        raise NotSupportedError(
            f"{where} names shared memory, which this service does not have.", hint="Send binary data."
        )


def _flag(parameters: Mapping[str, Any], name: str, where: str) -> bool | None:
    given = parameters.get(name)
    if given is None or isinstance(given, bool):
        return given
    raise _refused(f"{where}: `{name}` is {_shown(given)}, neither true nor false.")


def _name(item: Mapping[str, Any], what: str) -> str:
    name = item.get("name")
    if isinstance(name, str):
        return name
    raise _refused(f"{what} has no `name`.")


def _object(value: object, what: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise _refused(f"{what} is {_shown(value)}, no object.")


def _list(value: object, what: str) -> list[Any]:
    if isinstance(value, list):
        return value
    raise _refused(f"{what} is {_shown(value)}, no list.")


def _is_count(value: object, *, most: int = _MOST_SIZE) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < most


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:40]


def _refused(detail: str, hint: str = "") -> InvalidRequestError:
    return InvalidRequestError(detail, hint=hint)


def write_reply(
    head: Mapping[str, Any], outputs: Sequence[tuple[Asked, Array]], *, non_finite: NonFinite = "error"
) -> Reply:
    """Return a reply: `head`, and the outputs as each is asked for.

    An array of objects holds bytes, any other one numbers. Raise InvalidInputValueError for numbers that JSON cannot
    write, unless they are to be written as null.
    """
    described: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for asked, array in outputs:
        tensor, blob = write_tensor(asked.name, array, binary_data=asked.binary, non_finite=non_finite)
        described.append(tensor)
        blobs += [] if blob is None else [blob]
    text = orjson.dumps({**head, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Reply(b"".join([text, *blobs]), len(text)) if blobs else Reply(text, None)


def write_tensor(
    name: str, array: Array, *, binary_data: bool, non_finite: NonFinite = "error"
) -> tuple[dict[str, Any], bytes | None]:
    """Return a tensor's JSON and, if it is to be binary, its bytes."""
    is_text = array.dtype.kind == "O"
    datatype = TEXTS if is_text else datatype_of(array.dtype)
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    if binary_data:
        blob = binary.write_texts(array.ravel()) if is_text else array.tobytes()
        return {**tensor, "parameters": {"binary_data_size": len(blob)}}, blob
    return {**tensor, "data": _texts(array.flat) if is_text else _writable(name, array, non_finite)}, None


def _texts(elements: Iterable[bytes]) -> list[str]:
    return [element.decode("utf-8", "replace") for element in elements]


def _writable(name: str, array: Array, non_finite: NonFinite) -> Array:
    flat = np.ascontiguousarray(array).ravel()
    if non_finite == "error" and array.dtype.kind == "f" and not np.isfinite(flat).all():
        raise InvalidInputValueError(
            f"Output `{name}` has values that are not finite, which JSON cannot write.",
            hint='Ask for binary data, or send the parameter `"non_finite": "null"`.',
        )
    return flat
