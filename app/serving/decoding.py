"""Read the rows of a prediction's JSON without making Python objects of their numbers.

Building lists of floats is what costs in reading JSON, not parsing. So the numbers go straight into a flat buffer
(simdjson), and the nesting is compared as bytes: what is left of the text without its numbers. A body in any other
form than the plain one is left to the thorough reader, which also says what is wrong.
"""

import re
from functools import lru_cache
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
import simdjson
from numpy.typing import NDArray

from app.domain.models import InputSignature

MOST_ROWS = 10_000
_HEAD = re.compile(rb'\s*\{\s*"(instances|inputs)"\s*:\s*')
_TAIL = re.compile(rb"\s*\}\s*")
_NUMBERS_AND_SPACE = b"0123456789.+-eE \t\r\n"


class PlainRows(NamedTuple):
    """Hold the rows of a body that has nothing but rows, and the field that they came in."""

    field: Literal["instances", "inputs"]
    rows: NDArray[Any]


def read_plain_rows(body: bytes, signature: InputSignature) -> PlainRows | None:
    """Return the rows of `{"instances": [...]}` or `{"inputs": [...]}`; None where the thorough reader must look.

    The rows are [batch, *row shape] in the signature's dtype, all of them finite.
    """
    head, end = _HEAD.match(body), body.rfind(b"}")
    if head is None or not _TAIL.fullmatch(body, end):
        return None
    numbers = _flat_numbers(body, head[1].decode())
    per_row = prod(signature.shape)
    if numbers is None or numbers.size == 0 or numbers.size % per_row or numbers.size > MOST_ROWS * per_row:
        return None
    batch = numbers.size // per_row
    if not is_nested_like(body[head.end() : end], (batch, *signature.shape)):
        return None
    rows = _cast(numbers, signature.dtype)
    if rows is None:
        return None
    field: Literal["instances", "inputs"] = "instances" if head[1] == b"instances" else "inputs"
    return PlainRows(field, rows.reshape(batch, *signature.shape))


def is_nested_like(text: bytes, shape: tuple[int, ...]) -> bool:
    """Tell whether valid JSON of as many numbers as an array of this shape has is also nested like it."""
    return text.translate(None, _NUMBERS_AND_SPACE) == _skeleton(shape[1:], shape[0])


def _flat_numbers(body: bytes, field: str) -> NDArray[np.float64] | None:
    try:
        # A parser of its own for every body: one that is shared refuses to work while its last document lives.
        document: Any = simdjson.Parser().parse(body)
        return np.frombuffer(document[field].as_buffer(of_type="d"), dtype=np.float64)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return None


def _cast(numbers: NDArray[np.float64], dtype: str) -> NDArray[Any] | None:
    """Return the numbers in another type; None where one of them does not fit it."""
    with np.errstate(over="ignore", invalid="ignore"):
        cast = numbers.astype(dtype)
    fit = np.isfinite(cast).all() if dtype == "float32" else np.array_equal(cast, numbers)
    return cast if fit else None


def _skeleton(shape: tuple[int, ...], batch: int) -> bytes:
    """Return what the JSON of such rows consists of beside numbers and white space.

    Since the body is valid JSON, commas stand between numbers, so equal bytes and an equal count mean an equal shape.
    """
    return _nested(_row_skeleton(shape), batch)


@lru_cache(maxsize=64)
def _row_skeleton(shape: tuple[int, ...]) -> bytes:
    written = b""
    for size in reversed(shape):
        written = _nested(written, size)
    return written


def _nested(item: bytes, size: int) -> bytes:
    return b"[" + b",".join([item] * size) + b"]"
