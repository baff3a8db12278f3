"""The header of an array as `numpy.save` writes it (NPY), read before anything that it declares is believed."""

from typing import IO, Any

import numpy as np

from app.domain.upload_errors import UnsupportedDtypeError

MOST_HEADER_BYTES = 10_000
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


def read_npy_header(handle: IO[bytes], what: str) -> Header:
    """Return shape, whether in Fortran's order, and dtype, and leave the handle at the data.

    Raise ValueError for what is no NPY, and UnsupportedDtypeError, which calls the array `what`, for a structured one.
    """
    try:
        version = np.lib.format.read_magic(handle)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(handle, max_header_size=MOST_HEADER_BYTES)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(handle, max_header_size=MOST_HEADER_BYTES)
    except Exception as failed:  # noqa: BLE001 - what Python's tokenizer and parser raise comes through
        said = str(failed).splitlines() or [type(failed).__name__]
        raise ValueError(said[0][:300]) from None
    raise UnsupportedDtypeError(
        f"{what} is NPY version {version[0]}.{version[1]}, which only structured arrays need.",
        hint="Save plain arrays of numbers.",
    )
