"""The protocol's datatypes and numpy's, and values taken from one to another without changing them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.prediction_errors import InvalidInputValueError

Array = NDArray[Any]
TEXTS = "BYTES"
BRAIN_FLOAT = "BF16"
# Little-endian, as they travel. BF16 travels as its upper 16 bits; BYTES elements tell their lengths.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BRAIN_FLOAT: np.dtype("<u2"),
}
BINARY_ONLY = ("FP16", BRAIN_FLOAT)
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != BRAIN_FLOAT}
_EXACT_IN_DOUBLE = 2**53


def datatype_of(dtype: "np.dtype[Any] | str") -> str:
    """Return the protocol's name of a dtype."""
    return _NAMES[np.dtype(dtype)]


def exactly(array: Array, dtype: "np.dtype[Any] | str", *, tensor: str) -> Array:
    """Return the values in another dtype; InvalidInputValueError names the first one that does not fit.

    Integers must stay what they are; floats are rounded to a shorter float, and must be finite before and after.
    """
    wanted = np.dtype(dtype)
    with np.errstate(all="ignore"):
        cast = array if array.dtype == wanted else array.astype(wanted)
    wrong = _misfits(array, cast)
    if wrong is not None and wrong.any():
        index = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        place = "".join(f"[{step}]" for step in index)
        needed = f"a finite {datatype_of(wanted)}" if array.dtype.kind == "f" == wanted.kind else datatype_of(wanted)
        raise InvalidInputValueError(
            f"Tensor `{tensor}`: {place} is {array[index]}, which cannot become {needed} unchanged.",
            hint="Send finite values that fit the datatype.",
        )
    return cast


def _misfits(array: Array, cast: Array) -> "NDArray[np.bool_] | None":
    if cast.dtype.kind == "f" and array.dtype.kind == "f":
        return ~np.isfinite(cast)
    if cast.dtype == array.dtype or array.dtype.kind == "b":
        return None
    with np.errstate(all="ignore"):
        wrong: NDArray[np.bool_] = cast.astype(np.float64) != array.astype(np.float64)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        # Doubles round these, so the few of them are compared as Python's integers.
        for index in np.argwhere((array > _EXACT_IN_DOUBLE) | (array < -_EXACT_IN_DOUBLE)):
            place = tuple(index)
            wrong[place] = not np.isfinite(cast[place]) or int(cast[place]) != int(array[place])
    return wrong


def brain_floats(halves: Array) -> Array:
    """Return BF16 values, given as their upper 16 bits, as 32-bit floats."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
