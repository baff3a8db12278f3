"""Turn what a client sent into the array that a model takes; say exactly what is wrong with it."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain import errors, prediction_errors
from app.domain.models import InputSignature
from app.serving.pictures import pictures_to_rows, takes_pictures

TENSOR = "x"
MOST_ROWS = 10_000
_MOST_NESTED = 64
Rows = NDArray[Any]


def instances_to_rows(instances: object, signature: InputSignature) -> Rows:
    """Return rows from TF Serving's row form: `[row, ...]` or `[{"x": row}, ...]`.

    Args:
        instances: What JSON gave.
        signature: Shape of one row and dtype.

    Returns:
        [batch, *row shape] of the signature's dtype.
    """
    if isinstance(instances, list) and instances and isinstance(instances[0], dict):
        instances = [_named(item, f"instances[{index}]") for index, item in enumerate(instances)]
    return _to_rows(instances, signature)


def inputs_to_rows(inputs: object, signature: InputSignature) -> Rows:
    """Return rows from TF Serving's column form: `[row, ...]` or `{"x": [row, ...]}`."""
    if isinstance(inputs, dict):
        inputs = _named(inputs, "inputs")
    return _to_rows(inputs, signature)


def texts_to_rows(texts: Sequence[str], signature: InputSignature) -> Rows:
    """Return rows from a query's values: numbers split by commas, in C order, or plain text for a model of text."""
    if _takes_text(signature):
        return _text_rows(texts, signature)
    flat = [_numbers(text, index) for index, text in enumerate(texts)]
    wanted = prod(signature.shape)
    for index, numbers in enumerate(flat):
        if len(numbers) != wanted:
            raise prediction_errors.InputShapeMismatchError(
                f"x[{index}] has {len(numbers)} numbers; `{TENSOR}` takes {wanted}, the shape {list(signature.shape)}.",
                hint="Send one `x` per row, its numbers split by commas.",
            )
    rows = np.array(flat, dtype=np.float64).reshape(len(flat), *signature.shape)
    return _cast(rows, signature)


def array_to_rows(array: Rows, signature: InputSignature) -> Rows:
    """Return rows from an array [batch, *row shape] of numbers, in the signature's dtype."""
    if array.ndim:
        _check_count(len(array))
    return _cast(_check_shape(array, signature), signature)


def _named(item: object, where: str) -> object:
    if isinstance(item, Mapping) and set(item) in ({TENSOR}, {"b64"}):
        return item.get(TENSOR, item)
    found = ", ".join(sorted(map(str, item))) if isinstance(item, Mapping) else repr(item)[:40]
    raise prediction_errors.InputShapeMismatchError(f"{where} names {found or 'nothing'}; the model takes `{TENSOR}`.")


def _to_rows(values: object, signature: InputSignature) -> Rows:
    if not isinstance(values, list):
        raise prediction_errors.InputShapeMismatchError(
            f"The input is no list of rows; tensor `{TENSOR}` takes {_shown(signature)}.", hint="Send a list of rows."
        )
    _check_count(len(values))
    if _takes_text(signature) and isinstance(values[0], str | dict):
        return _text_rows([_text(item, index) for index, item in enumerate(values)], signature)
    if takes_pictures(signature) and isinstance(values[0], dict):
        return pictures_to_rows(values, signature)
    return _cast(_check_shape(_array(values), signature), signature)


def _check_count(rows: int) -> None:
    if not rows:
        raise prediction_errors.EmptyInputError("The input has no rows.", hint="Send at least one row.")
    if rows > MOST_ROWS:
        raise prediction_errors.BatchTooLargeError(
            f"{rows:,} rows are more than {MOST_ROWS:,}, the limit of one prediction.", hint="Send several batches."
        )


def _array(values: list[Any]) -> Rows:
    # First, since one long text among numbers would make numpy ask for as much memory for each of them.
    if not _kinds(values) <= {int, float, list}:
        _refuse_non_numbers(values)
    try:
        array = np.array(values)
    except ValueError:
        raise _ragged(values) from None
    if array.dtype.kind not in "fiu":
        raise prediction_errors.InvalidInputValueError(
            "The input has an integer beyond 64 bits.", hint="Send smaller numbers."
        )
    return array


def _kinds(values: list[Any]) -> set[type]:
    """Return the types of all values at any depth; raise MalformedJsonError beyond the depth that any body may have."""
    found: set[type] = set()
    level = [values]
    for _ in range(_MOST_NESTED):
        below: list[list[Any]] = []
        for items in level:
            here = set(map(type, items))
            found |= here
            if list in here:
                below.extend(item for item in items if type(item) is list)
        if not below:
            return found
        level = below
    raise errors.MalformedJsonError(f"Rows are nested more than {_MOST_NESTED} levels deep.", hint="Nest them less.")


def _refuse_non_numbers(values: list[Any]) -> None:
    for path, leaf in _leaves(values):
        if isinstance(leaf, str | bool | dict) or leaf is None:
            raise prediction_errors.InvalidInputValueError(
                f"{_path(path)} is {repr(leaf)[:40]}, not a number.", hint="Send numbers."
            )


def _leaves(values: list[Any], path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    for index, item in enumerate(values):
        if isinstance(item, list):
            yield from _leaves(item, (*path, index))
        else:
            yield (*path, index), item


def _ragged(values: list[Any]) -> prediction_errors.RaggedInputError:
    shapes = [np.shape(item) if _is_even(item) else None for item in values]
    odd = next((index for index, shape in enumerate(shapes) if shape != shapes[0] or shape is None), 0)
    return prediction_errors.RaggedInputError(
        f"Row {odd} has another shape than row 0, or rows within it differ in length.",
        hint="All rows of a batch have one shape.",
    )


def _is_even(item: object) -> bool:
    try:
        np.array(item)
    except ValueError:
        return False
    return True


def _check_shape(array: Rows, signature: InputSignature) -> Rows:
    if array.shape[1:] == signature.shape:
        return array
    got, wanted = array.shape, signature.shape
    if 0 in got:
        raise prediction_errors.EmptyInputError(
            f"The input of shape {list(got)} has no values.", hint="Send at least one value."
        )
    raise prediction_errors.InputShapeMismatchError(
        f"Tensor `{TENSOR}` takes {_shown(signature)}; got {list(got)}.", hint=_likely_cause(got, wanted)
    )


def _likely_cause(got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if got == wanted:
        return "This is one row: wrap it in a list."
    if sorted(got[1:]) == sorted(wanted) and len(wanted) == 3:
        return "Channels first? Images have the shape (height, width, channels)."
    if wanted[-1:] == (1,) and got[1:] == wanted[:-1]:
        return "Add the channel axis: every pixel is a list of one number."
    if prod(got[1:]) == prod(wanted):
        return "The number of values fits: give every row its shape."
    return "GET the model's /metadata for its signature."


def _cast(array: Rows, signature: InputSignature) -> Rows:
    _refuse_where(~np.isfinite(array), array, "is not finite")
    if signature.dtype == "uint8":
        _refuse_where((array < 0) | (array > 255) | (array != np.floor(array)), array, "is no integer from 0 to 255")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array, dtype=signature.dtype)
    if signature.dtype == "float32":
        _refuse_where(~np.isfinite(rows), array, "does not fit a 32-bit float")
    return rows


def _refuse_where(wrong: NDArray[np.bool_], array: Rows, what: str) -> None:
    if wrong.any():
        index = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        raise prediction_errors.InvalidInputValueError(
            f"{_path([int(step) for step in index])} is {array[index]}, which {what}.", hint="Mend the value."
        )


def _takes_text(signature: InputSignature) -> bool:
    return signature.dtype == "uint8" and len(signature.shape) == 1


def _text(item: object, index: int) -> str:
    if isinstance(item, str):
        return item
    try:
        return base64.b64decode(_encoded(item), validate=True).decode("utf-8")
    except (KeyError, TypeError, ValueError):
        raise prediction_errors.InvalidInputValueError(
            f"[{index}] is neither text nor base64 of UTF-8.", hint='Send strings, or {"b64": "..."}.'
        ) from None


def _encoded(item: object) -> str:
    if not isinstance(item, dict):
        raise TypeError(item)
    return str(item["b64"])


def _text_rows(texts: Sequence[str], signature: InputSignature) -> Rows:
    """Write texts as the data set holds them: UTF-8, cut or padded with 0 to the length of a row."""
    rows = np.zeros((len(texts), signature.shape[0]), dtype=np.uint8)
    for row, text in zip(rows, texts, strict=True):
        encoded = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)[: signature.shape[0]]
        row[: len(encoded)] = encoded
    return rows


def _numbers(text: str, index: int) -> list[float]:
    try:
        # Python reads more as a number than others do: 1_0, or the digits of any script.
        return [float(_as_number(part)) for part in text.split(",")]
    except ValueError:
        raise prediction_errors.InvalidInputValueError(
            f"x[{index}] is {text[:40]!r}, not numbers split by commas.", hint="Write for example `x=5.1,3.5,1.4,0.2`."
        ) from None


def _as_number(part: str) -> str:
    if not part.isascii() or "_" in part:
        raise ValueError(part)
    return part


def _path(path: Sequence[int]) -> str:
    return "".join(f"[{step}]" for step in path)


def _shown(signature: InputSignature) -> str:
    return f"{signature.dtype} [batch, {', '.join(map(str, signature.shape))}]"
