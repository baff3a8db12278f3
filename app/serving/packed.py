"""Packed graphs: an ONNX graph whose numbers are coded in few bytes, unpacked when it is loaded.

    "LFPK" | version, 1 byte | CRC-32 of the rest, 4 bytes, little endian
    length of the structure | structure: the ONNX file without the bytes of its initializers, one stream
    for each initializer that kept its bytes: their number | width of a word | the words (see coding.py)

Numbers are written seven bits a byte, the lowest first. What is unpacked equals what was packed to the last bit.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.domain.models import GRAPH, PACKED_GRAPH
from app.serving.coding import Reader, as_words, corrupted, number, read_stream, read_words, write_stream, write_words

if TYPE_CHECKING:
    import onnx

MAGIC = b"LFPK"
VERSION = 1
LARGEST_GRAPH_BYTES = 2**31 - 1  # protobuf reads no more
_HEAD = len(MAGIC) + 1 + 4
_UNUSUAL_WIDTH = 1


def is_packed(content: bytes) -> bool:
    """Say whether bytes begin a packed graph."""
    return content[: len(MAGIC)] == MAGIC


def is_packed_file(path: Path) -> bool:
    """Say whether a file, whatever its name, is a packed graph."""
    with path.open("rb") as file:
        return is_packed(file.read(len(MAGIC)))


def pack(graph: "onnx.ModelProto") -> bytes:
    """Return a graph as a packed file."""
    import onnx

    structure = onnx.ModelProto()
    structure.CopyFrom(graph)
    blocks = []
    for tensor in structure.graph.initializer:
        if tensor.HasField("raw_data"):
            blocks.append(_write_numbers(tensor.raw_data, _width(tensor)))
            tensor.raw_data = b""
    plain = structure.SerializeToString(deterministic=True)
    body = number(len(plain)) + write_stream(plain) + b"".join(blocks)
    return MAGIC + bytes([VERSION]) + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(content: bytes, *, largest_bytes: int = LARGEST_GRAPH_BYTES) -> "onnx.ModelProto":
    """Return the graph of a packed file, every initializer equal to the bit.

    Raise ArtifactCorruptedError for anything that `pack` did not write, and before more than a small multiple of
    `largest_bytes` is held in memory.
    """
    reader = Reader(_checked_body(content), budget=5 * largest_bytes)
    graph = _parsed(read_stream(reader, _bounded(reader.number(), largest_bytes)))
    left = largest_bytes
    for tensor in graph.graph.initializer:
        if tensor.data_location or tensor.external_data:
            raise corrupted("an initializer lies in another file")
        if tensor.HasField("raw_data"):
            count = _bounded(reader.number(), left)
            left -= count
            tensor.raw_data = _read_numbers(reader, count)
    if not reader.ended:
        raise corrupted("something follows its end")
    return graph


def read_graph(path: Path) -> "onnx.ModelProto":
    """Read a graph from a plain ONNX file or a packed one; they differ by their first bytes."""
    import onnx

    content = path.read_bytes()
    return unpack(content) if is_packed(content) else onnx.load_from_string(content)


def write_graph(directory: Path, graph: "onnx.ModelProto", *, packed: bool) -> Path:
    """Write a version's served file, `model.packed` or `model.onnx`, and return its path."""
    path = directory / (PACKED_GRAPH if packed else GRAPH)
    path.write_bytes(pack(graph) if packed else graph.SerializeToString(deterministic=True))
    return path


def worth_packing(kernels: Iterable[NDArray[Any]]) -> bool:
    """Say whether most weights stand in kernels of which half is zero, or that hold a quarter as many values at most.

    Weights of ordinary training are neither, and coding saves next to nothing of them: they are served as plain ONNX.
    """
    kept = [(kernel.size, _holds_few_bits(kernel)) for kernel in kernels]
    return 2 * sum(size for size, few in kept if few) > sum(size for size, _ in kept)


def _holds_few_bits(kernel: NDArray[Any]) -> bool:
    return bool(2 * np.count_nonzero(kernel) <= kernel.size or 4 * len(np.unique(kernel)) <= min(kernel.size, 1024))


def _checked_body(content: bytes) -> bytes:
    if not is_packed(content) or len(content) < _HEAD:
        raise corrupted("it does not begin like one")
    if content[len(MAGIC)] != VERSION:
        raise corrupted(f"it is of format {content[len(MAGIC)]}, and this release reads format {VERSION}")
    body = content[_HEAD:]
    if zlib.crc32(body) != int.from_bytes(content[_HEAD - 4 : _HEAD], "little"):
        raise corrupted("its checksum is wrong")
    return body


def _parsed(structure: bytes) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_from_string(structure)
    except DecodeError:
        raise corrupted("its structure is no ONNX graph") from None
    if not graph.graph.output:  # no bytes at all are an ONNX file, too
        raise corrupted("its structure is an ONNX graph that answers nothing")
    return graph


def _bounded(count: int, most: int) -> int:
    if count > most:
        raise corrupted("it would unpack to more bytes than are allowed")
    return count


def _width(tensor: "onnx.TensorProto") -> int:
    """Return the bytes of one number, or 1 where numbers are no whole words."""
    from onnx.helper import tensor_dtype_to_np_dtype

    width = tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    whole = width in (1, 2, 4, 8) and len(tensor.raw_data) % width == 0
    return width if whole else _UNUSUAL_WIDTH


def _write_numbers(content: bytes, width: int) -> bytes:
    return number(len(content)) + bytes([width]) + write_words(as_words(content, width))


def _read_numbers(reader: Reader, count: int) -> bytes:
    width = reader.take(1)[0]
    if width not in (1, 2, 4, 8) or count % width:
        raise corrupted(f"{count} bytes are no words of {width}")
    return read_words(reader, count // width, width).tobytes()
