"""Read the rows of a prediction from an array as `numpy.save` writes it (NPY), and write answers as one."""

import io
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import UnreadableFileError
from app.domain.models import InputSignature
from app.domain.npy import read_npy_header
from app.domain.prediction_errors import InvalidInputValueError
from app.domain.upload_errors import DeclaredSizeMismatchError, PickleNotAllowedError
from app.serving.inputs import array_to_rows

# An array says by itself what it is, so the type that every client knows will do.
NPY = "application/octet-stream"
NPY_TYPES = (NPY, "application/x-npy")
_SAVE = "Send what numpy.save writes of an array of numbers."
Rows = NDArray[Any]


def npy_to_rows(body: bytes, signature: InputSignature) -> Rows:
    """Return rows from one array [batch, *row shape] of numbers.

    Raises:
        UnreadableFileError: The body is no NPY array.
        UnsupportedDtypeError: It is a structured one with names beyond Latin-1.
        PickleNotAllowedError: It holds objects, which are stored as code of the sender.
        DeclaredSizeMismatchError: The header declares another number of bytes than follow.
        InvalidInputError: The array does not fit the signature.
    """
    stream = io.BytesIO(body)
    try:
        shape, fortran, dtype = read_npy_header(stream, "The body")
    except ValueError as broken:
        raise UnreadableFileError(f"The body is no NPY array: {broken}.", hint=_SAVE) from None
    if dtype.hasobject:
        raise PickleNotAllowedError("The array holds Python objects, which are stored as a pickle.", hint=_SAVE)
    if dtype.kind not in "iuf" or dtype.itemsize == 0:
        raise InvalidInputValueError(f"The array has the type {str(dtype)[:100]}, no numbers.", hint=_SAVE)
    declared, stored = prod(shape) * dtype.itemsize, len(body) - stream.tell()
    if declared != stored or min(shape, default=1) < 0:
        raise DeclaredSizeMismatchError(
            f"The header declares {dtype} {list(shape)[:20]}, {declared} bytes; {stored} follow.", hint=_SAVE
        )
    array = np.frombuffer(body, dtype=dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    return array_to_rows(array, signature)


def wants_npy(accept: str) -> bool:
    """Tell whether a client asks for an array; one that would read JSON as well gets that."""
    return any(media_type in accept for media_type in NPY_TYPES) and "json" not in accept


def to_npy(array: Rows) -> bytes:
    """Write an array as `numpy.load` reads it."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()
