"""Read idx files, the format of MNIST and its kin: a magic, the sizes, then bytes (also gzipped)."""

import gzip
import math
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from app.datasets.options import Limits
from app.datasets.rows import Array
from app.domain.errors import UnreadableFileError
from app.domain.upload_errors import DeclaredSizeMismatchError, DecompressionBombError

UINT8 = 0x08
_HINT = "Install the data set again."


def read_idx(path: Path, limits: Limits) -> Array:
    """Return the array, uint8 of the shape that the header declares."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as handle:
            shape = _read_shape(handle, path.name)
            size = math.prod(shape)
            if size > limits.expanded_bytes:
                raise DecompressionBombError(f"{path.name} declares {size} bytes.", hint=_HINT)
            values = handle.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFileError(f"{path.name} cannot be read: {error}.", hint=_HINT) from None
    if len(values) != size:
        raise DeclaredSizeMismatchError(f"{path.name} declares {size} values and holds another number.", hint=_HINT)
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_shape(handle: BufferedIOBase, name: str) -> tuple[int, ...]:
    magic = handle.read(4)
    if len(magic) < 4 or magic[:2] != b"\x00\x00" or magic[2] != UINT8 or not 1 <= magic[3] <= 4:
        raise UnreadableFileError(f"{name} is no idx file of bytes.", hint=_HINT)
    axes = magic[3]
    sizes = handle.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise UnreadableFileError(f"{name} is cut off in its header.", hint=_HINT)
    return struct.unpack(f">{axes}I", sizes)
