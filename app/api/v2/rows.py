"""Turn the tensors of a request into the rows that a model takes; say exactly what is wrong with them."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from app.api.v2 import binary
from app.api.v2.datatypes import BINARY_ONLY, BRAIN_FLOAT, DTYPES, TEXTS, Array, brain_floats, datatype_of, exactly
from app.api.v2.wire import Tensor
from app.domain import errors, prediction_errors
from app.domain.models import InputSignature
from app.serving.inputs import MOST_ROWS, TENSOR, texts_to_rows


def takes_texts(signature: InputSignature) -> bool:
    """Tell whether rows are texts: their bytes in UTF-8, padded with 0."""
    return signature.dtype == "uint8" and len(signature.shape) == 1


def rows_of(inputs: Sequence[Tensor], signature: InputSignature) -> Array:
    """Return [batch, *row shape] of the signature's dtype from a request's inputs."""
    tensor = _only(inputs, signature)
    if tensor.datatype == TEXTS and takes_texts(signature):
        return _text_rows(tensor, signature)
    if tensor.shape[1:] != signature.shape or not tensor.shape or tensor.datatype == TEXTS:
        raise prediction_errors.InputShapeMismatchError(
            f"Tensor `{tensor.name}` takes {shown(signature)}; got {tensor.datatype} {list(tensor.shape)}.",
            hint="GET the model's metadata: /v2/models/NAME.",
        )
    _check_batch(tensor)
    return exactly(array_of(tensor), signature.dtype, tensor=tensor.name)


def raw_rows(body: bytes, signature: InputSignature) -> Array:
    """Return one row from a body that is nothing but its bytes."""
    shape = (1, *signature.shape)
    return rows_of([Tensor(TENSOR, datatype_of(signature.dtype), shape, memoryview(body))], signature)


def shown(signature: InputSignature) -> str:
    """Describe the tensor that a model takes, for a message."""
    return f"{datatype_of(signature.dtype)} {[-1, *signature.shape]}" + (
        f" or {TEXTS} [-1]" if takes_texts(signature) else ""
    )


def array_of(tensor: Tensor) -> Array:
    """Return a tensor's numbers in its own datatype and shape."""
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise errors.InvalidRequestError(
            f"Input `{tensor.name}`: {tensor.datatype[:40]!r} is no datatype of numbers.",
            hint=f"Choose one of {', '.join(DTYPES)}.",
        )
    if isinstance(tensor.data, memoryview):
        numbers = binary.read_numbers(tensor.data, dtype, tensor.elements, name=tensor.name)
        if tensor.datatype == BRAIN_FLOAT:
            numbers = brain_floats(numbers)
        elif tensor.datatype == "BOOL" and (numbers.view(np.uint8) > 1).any():
            raise prediction_errors.InvalidInputValueError(f"Input `{tensor.name}`: a BOOL is neither 0 nor 1.")
    elif tensor.datatype in BINARY_ONLY:
        raise errors.InvalidRequestError(
            f"Input `{tensor.name}`: {tensor.datatype} has no form in JSON.", hint="Send it as binary data, or as FP32."
        )
    else:
        numbers = exactly(_from_json(tensor), dtype, tensor=tensor.name)
    return numbers.reshape(tensor.shape)


def _from_json(tensor: Tensor) -> Array:
    array = tensor.data if isinstance(tensor.data, np.ndarray) else _parsed(tensor)
    if array.shape in ((tensor.elements,), tensor.shape):
        return array.reshape(tensor.shape)
    raise prediction_errors.InputShapeMismatchError(
        f"Input `{tensor.name}`: `data` has the shape {list(array.shape)}; `shape` is {list(tensor.shape)}.",
        hint=f"Send a flat list of {tensor.elements} values, or nest them like `shape`.",
    )


def _parsed(tensor: Tensor) -> Array:
    if not isinstance(tensor.data, list):
        raise prediction_errors.InputShapeMismatchError(
            f"Input `{tensor.name}`: `data` is no list.", hint="Send a list."
        )
    try:
        array: Array = np.array(tensor.data)
    except ValueError:
        raise prediction_errors.RaggedInputError(
            f"Input `{tensor.name}`: the lists of `data` differ in length, or values and lists are mixed.",
            hint="Send a flat list, or nest every row alike.",
        ) from None
    types = _leaf_types(tensor.data, array.ndim)
    if tensor.datatype == "UINT64" and types == {int} and array.dtype.kind == "f":
        array = _large_integers(tensor)
    if not (types == {bool} if tensor.datatype == "BOOL" else array.dtype.kind in "fiu" and bool not in types):
        raise _no_values_of(tensor)
    # JSON has one kind of number: 7 is as good a float as 7.0.
    return array.astype(np.float64) if tensor.datatype in {"FP32", "FP64"} else array


def _leaf_types(values: list[Any], axes: int) -> set[type]:
    for _ in range(axes - 1):
        values = list(chain.from_iterable(values))
    return set(map(type, values))


def _large_integers(tensor: Tensor) -> Array:
    """Return integers of which some are beyond 63 bits: numpy would make floats of them and the others."""
    try:
        return np.array(tensor.data, dtype=np.uint64)
    except OverflowError:
        raise _no_values_of(tensor) from None


def _no_values_of(tensor: Tensor) -> prediction_errors.InvalidInputValueError:
    return prediction_errors.InvalidInputValueError(
        f"Input `{tensor.name}`: `data` has values that are no {tensor.datatype}.",
        hint="true and false are BOOL, strings are BYTES, integers have at most 64 bits, null is nothing.",
    )


def _only(inputs: Sequence[Tensor], signature: InputSignature) -> Tensor:
    names = [tensor.name for tensor in inputs]
    if names != [TENSOR]:
        found = ", ".join(f"`{name[:80]}`" for name in names) or "none"
        raise prediction_errors.InputShapeMismatchError(
            f"The model takes one input, `{TENSOR}` {shown(signature)}; got {found}.", hint=f"Name it `{TENSOR}`."
        )
    return inputs[0]


def _check_batch(tensor: Tensor) -> None:
    if tensor.shape[0] == 0:
        raise prediction_errors.EmptyInputError(f"Tensor `{tensor.name}` has no rows.", hint="Send at least one row.")
    if tensor.shape[0] > MOST_ROWS:
        raise prediction_errors.BatchTooLargeError(
            f"Tensor `{tensor.name}` has {tensor.shape[0]:,} rows; {MOST_ROWS:,} are the limit of one prediction.",
            hint="Send several batches.",
        )


def _text_rows(tensor: Tensor, signature: InputSignature) -> Array:
    if tensor.shape not in ((tensor.elements,), (tensor.elements, 1)):
        raise prediction_errors.InputShapeMismatchError(
            f"Tensor `{tensor.name}` takes {shown(signature)}; got {TEXTS} {list(tensor.shape)}.",
            hint="Send one text for each row.",
        )
    _check_batch(tensor)
    return texts_to_rows(_texts(tensor), signature)


def _texts(tensor: Tensor) -> list[str]:
    if isinstance(tensor.data, memoryview):
        elements = binary.read_texts(tensor.data, tensor.elements, name=tensor.name)
        return [_decoded(element, index, tensor.name) for index, element in enumerate(elements)]
    texts = _flat_texts(tensor.data)
    if len(texts) != tensor.elements:
        raise prediction_errors.InputShapeMismatchError(
            f"Input `{tensor.name}`: `data` has {len(texts)} elements; `shape` is {list(tensor.shape)}."
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise prediction_errors.InvalidInputValueError(
                f"Input `{tensor.name}`: [{index}] is {repr(text)[:40]}, no string.", hint="BYTES are strings in JSON."
            )
    return texts


def _flat_texts(data: object) -> list[Any]:
    """Return the elements of `["a", ...]` or `[["a"], ...]`."""
    items = data if isinstance(data, list) else []
    return [item[0] if isinstance(item, list) and len(item) == 1 else item for item in items]


def _decoded(element: bytes, index: int, name: str) -> str:
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        raise prediction_errors.InvalidInputValueError(
            f"Input `{name}`: [{index}] is no text in UTF-8.", hint="Encode texts in UTF-8."
        ) from None
