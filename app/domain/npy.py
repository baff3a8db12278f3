"""The header of an array as `numpy.save` writes it (NPY), read before anything that it declares is believed."""

from typing import IO, Any

import numpy as np

MOST_HEADER_BYTES = 10_000
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


def read_npy_header(handle: IO[bytes]) -> Header:
    """Return shape, whether in Fortran's order, and dtype, and leave the handle at the data; raise ValueError."""
    try:
        version = np.lib.format.read_magic(handle)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(handle, max_header_size=MOST_HEADER_BYTES)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(handle, max_header_size=MOST_HEADER_BYTES)
    except Exception as failed:  # noqa: BLE001 - what Python's tokenizer and parser raise comes through
        said = str(failed).splitlines() or [type(failed).__name__]
        raise ValueError(said[0][:300]) from None
    raise ValueError(f"NPY {version[0]}.{version[1]} is for structured arrays only")
