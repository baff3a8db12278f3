"""The binary tensor extension: JSON, then the tensors' bytes in order, little-endian, without padding."""

import struct
from collections.abc import Iterable, Sequence

import numpy as np

from app.api.v2.datatypes import Array
from app.domain.errors import InvalidRequestError

_LENGTH = struct.Struct("<I")


def json_length(header: str | None, body: bytes) -> int | None:
    """Return the length of the JSON in front of binary data; None without the header, 0 for a body of bytes alone."""
    if header is None:
        return None
    if not (header.isascii() and header.isdecimal()) or len(header) > 18 or int(header) > len(body):
        raise InvalidRequestError(
            f"`Inference-Header-Content-Length` is {header[:40]!r}; the body has {len(body):,} bytes.",
            hint="Send the length of the JSON, before any compression.",
        )
    return int(header)


def split(binary: memoryview, sizes: Sequence[tuple[str, int | None]]) -> list[memoryview | None]:
    """Return each input's bytes, None for one without; the sizes must use up the binary data."""
    parts: list[memoryview | None] = []
    start = 0
    for name, size in sizes:
        if size is None:
            parts.append(None)
            continue
        if size > len(binary) - start:
            raise InvalidRequestError(
                f"Input `{name}` announces {size:,} bytes of binary data; the body has {len(binary) - start:,} more.",
                hint="`binary_data_size` is the number of bytes that follow the JSON for this input.",
            )
        parts.append(binary[start : start + size])
        start += size
    if start != len(binary):
        names = ", ".join(f"`{name}`" for name, _ in sizes)
        raise InvalidRequestError(
            f"{len(binary) - start:,} bytes follow the binary data of the inputs {names}.",
            hint="The sizes of all inputs add up to what follows the JSON.",
        )
    return parts


def read_numbers(data: memoryview, dtype: "np.dtype[np.generic]", count: int, *, name: str) -> Array:
    """Return `count` numbers where they lie, read-only; they are copied only where the engines could not read them."""
    if len(data) != count * dtype.itemsize:
        raise InvalidRequestError(
            f"Input `{name}` has {len(data):,} bytes of binary data; its shape and datatype make "
            f"{count * dtype.itemsize:,}.",
            hint="Numbers are little-endian, in C order, without padding.",
        )
    return np.require(np.frombuffer(data, dtype), requirements="A")


def read_texts(data: memoryview, count: int, *, name: str) -> list[bytes]:
    """Return `count` elements, each written as its length (4 bytes, little-endian) and its bytes."""
    texts: list[bytes] = []
    start = 0
    while start < len(data) and len(texts) < count:
        end = start + _LENGTH.size
        length = _LENGTH.unpack(data[start:end])[0] if end <= len(data) else len(data)
        if end + length > len(data):
            raise InvalidRequestError(
                f"Input `{name}`: element {len(texts)} is longer than what is left of the binary data.",
                hint="Each element is its length as 4 bytes, little-endian, and its bytes.",
            )
        texts.append(bytes(data[end : end + length]))
        start = end + length
    if len(texts) != count or start != len(data):
        raise InvalidRequestError(
            f"Input `{name}` has {'more than ' if start != len(data) else ''}{len(texts)} elements of binary data; "
            f"its shape has {count}.",
            hint="Each element is its length as 4 bytes, little-endian, and its bytes.",
        )
    return texts


def write_texts(texts: Iterable[bytes]) -> bytes:
    """Return elements as `read_texts` reads them."""
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
