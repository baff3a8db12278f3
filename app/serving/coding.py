"""Code the numbers of a tensor in few bytes, and read them back to the same bit.

A tensor is taken as unsigned words, its bit patterns. Where it holds few different ones, a codebook and the places in
it are kept (Deep Compression, Han et al. 2016); where most are zero, the gaps between the others; else its bytes, place
by place, because the exponents of weights are alike and their mantissas are not. Each of these is a stream of bytes,
entropy-coded by Huffman's code or by LZMA, or stored: whatever is least. The standard library reads all of it.
"""

import lzma
import zlib
from collections.abc import Collection, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import ArtifactCorruptedError

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]

PLANES, HALF, CODEBOOK, PLACES, SPARSE = range(5)
DENSE = (PLANES, HALF, CODEBOOK, PLACES)
_STORED, _HUFFMAN, _LZMA = range(3)
_WORD: dict[int, np.dtype[Any]] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}
_LARGEST_CODEBOOK = 256
_LONGEST_GAP = 255
_LARGEST_COUNT = 2**40
# Of longer streams a part tells whether trying to code them is worth the time: mantissas never are.
_SAMPLE_BYTES = 1 << 16
# The format fixes the parameters: a file cannot ask for more memory than this dictionary and its own numbers.
_FILTERS = [{"id": lzma.FILTER_LZMA1, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 20}]


def corrupted(detail: str) -> ArtifactCorruptedError:
    """Return the error of a packed file that is not what it should be."""
    return ArtifactCorruptedError(f"The packed graph cannot be read: {detail}.", hint="Register the version again.")


class Reader:
    """Walk through bytes, never beyond their end; `budget` is how many bytes may still be unpacked from them."""

    def __init__(self, content: bytes, *, budget: int) -> None:
        self._content = memoryview(content)
        self._place = 0
        self._budget = budget

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if count > len(self._content) - self._place:
            raise corrupted("it ends too early")
        self._place += count
        return bytes(self._content[self._place - count : self._place])

    def number(self) -> int:
        """Return the next number: seven bits a byte, the lowest first."""
        found = 0
        for shift in range(0, 42, 7):
            byte = self.take(1)[0]
            found |= (byte & 127) << shift
            if byte < 128:
                return found
        raise corrupted("a number has no end")

    def reserve(self, count: int) -> int:
        """Return the count, or refuse to unpack so much."""
        if count > self._budget:
            raise corrupted("it would unpack to more bytes than are allowed")
        self._budget -= count
        return count

    @property
    def ended(self) -> bool:
        """Say whether everything was read."""
        return self._place == len(self._content)


def number(value: int) -> bytes:
    """Write a number of at most 40 bits."""
    if not 0 <= value < _LARGEST_COUNT:
        raise ValueError(f"{value} is no count")
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + number(rest) if rest else bytes([low])


def write_stream(content: bytes) -> bytes:
    """Return bytes in the shortest of the three codes, with which one it is and how long."""
    code, coded = min(_coded(content), key=lambda found: len(found[1]))
    return number(len(coded) * 3 + code) + coded


def read_stream(reader: Reader, count: int) -> bytes:
    """Return the `count` bytes of a stream."""
    length, code = divmod(reader.number(), 3)
    coded = reader.take(length)
    try:
        content = _decoded(code, coded, reader.reserve(count))
    except (zlib.error, lzma.LZMAError):
        raise corrupted("a stream of it is damaged") from None
    if len(content) != count:
        raise corrupted(f"a stream holds {len(content)} bytes instead of {count}")
    return content


def _coded(content: bytes) -> Iterator[tuple[int, bytes]]:
    yield _STORED, content
    sample = content[:_SAMPLE_BYTES]
    if not content or (len(content) > len(sample) and len(_huffman(sample)) > 0.98 * len(sample)):
        return
    yield _HUFFMAN, _huffman(content)
    yield _LZMA, lzma.compress(content, format=lzma.FORMAT_RAW, filters=_FILTERS)


def _huffman(content: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(content) + coder.flush()


def _decoded(code: int, coded: bytes, count: int) -> bytes:
    """Decode at most one byte more than is expected, so that a bomb never unfolds."""
    if code == _STORED:
        return coded
    if code == _HUFFMAN:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(coded, count + 1)
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS).decompress(coded, count + 1)


def write_words(words: Words, *, codings: Collection[int] = (*DENSE, SPARSE)) -> bytes:
    """Return words (n,) in the shortest of the codings, with which one it is; their number and width stay outside."""
    dense = [_write_dense(words, codings)]
    if SPARSE in codings and 2 * np.count_nonzero(words) < len(words):
        dense.append(_write_sparse(words, codings))
    return min(dense, key=len)


def read_words(reader: Reader, count: int, width: int) -> Words:
    """Return `count` words of `width` bytes."""
    coding = reader.take(1)[0]
    if coding == SPARSE:
        return _read_sparse(reader, count, width)
    return _read_dense(reader, count, width, coding)


def _write_dense(words: Words, codings: Collection[int]) -> bytes:
    values, places = np.unique(words, return_inverse=True)
    written = []
    if 0 < len(values) <= min(_LARGEST_CODEBOOK, max(1, len(words) // 2)):
        head = number(len(values)) + write_stream(values.tobytes())
        written = [
            bytes([CODEBOOK]) + head + write_stream(places.astype(np.uint8).tobytes()),
            bytes([PLACES]) + head + _packed_places(places, len(values)),
        ]
    elif (half := _as_half(words)) is not None:
        written = [bytes([HALF]) + _write_planes(half)]
    allowed = [content for content in written if content[0] in codings]
    return min(allowed or [bytes([PLANES]) + _write_planes(words)], key=len)


def _read_dense(reader: Reader, count: int, width: int, coding: int) -> Words:
    if coding == PLANES:
        return _read_planes(reader, count, width)
    if coding == HALF and width == 4:
        half = _read_planes(reader, count, 2).view("<f2")
        reader.reserve(4 * count)
        return half.astype("<f4").view(_WORD[4])
    if coding not in (CODEBOOK, PLACES):
        raise corrupted(f"there is no coding {coding} of words of {width} bytes")
    size = reader.number()
    if not 1 <= size <= _LARGEST_CODEBOOK:
        raise corrupted(f"a codebook has {size} values")
    values = np.frombuffer(read_stream(reader, size * width), _WORD[width])
    places = _read_places(reader, count, size, coding)
    if places.max(initial=0) >= size:
        raise corrupted("a place is not in the codebook")
    reader.reserve(count * width)
    return np.asarray(values[places])


def bits_of(values: int) -> int:
    """Return how many bits tell so many values apart: ceil(log2 k)."""
    return (values - 1).bit_length()


def _packed_places(places: NDArray[np.intp], size: int) -> bytes:
    """Write every place in ceil(log2 k) bits, the highest first."""
    shifts = np.arange(bits_of(size), dtype=np.uint8)[::-1]
    return np.packbits((places.astype(np.uint8)[:, None] >> shifts) & 1).tobytes()


def _read_places(reader: Reader, count: int, size: int, coding: int) -> NDArray[np.uint8]:
    if coding == CODEBOOK:
        return np.frombuffer(read_stream(reader, count), np.uint8)
    bits = bits_of(size)
    packed = np.frombuffer(reader.take(-(-count * bits // 8)), np.uint8)
    reader.reserve(count * max(bits, 1))
    single = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    weights = (1 << np.arange(bits)[::-1]).astype(np.uint8)
    return np.asarray((single * weights).sum(axis=1), np.uint8)


def _write_planes(words: Words) -> bytes:
    planes = words.view(np.uint8).reshape(len(words), words.itemsize).T
    return b"".join(write_stream(plane.tobytes()) for plane in planes)


def _read_planes(reader: Reader, count: int, width: int) -> Words:
    planes = [np.frombuffer(read_stream(reader, count), np.uint8) for _ in range(width)]
    reader.reserve(count * width)
    return np.ascontiguousarray(np.stack(planes, axis=1)).view(_WORD[width])[:, 0]


def _as_half(words: Words) -> Words | None:
    """Return float32 numbers as float16 when no bit is lost."""
    if words.itemsize != 4:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        half = words.view("<f4").astype("<f2")
        same = np.array_equal(half.astype("<f4").view(_WORD[4]), words)
    return half.view(_WORD[2]) if same else None


def _write_sparse(words: Words, codings: Collection[int]) -> bytes:
    used = np.flatnonzero(words)
    gaps = _as_gaps(used)
    head = bytes([SPARSE]) + number(len(used)) + number(len(gaps)) + write_stream(gaps.tobytes())
    return head + _write_dense(words[used], codings)


def _as_gaps(places: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Write how many zeros stand before each place; 255 means 255 zeros and no number after them."""
    gaps = np.diff(places, prepend=-1) - 1
    longest, rest = np.divmod(gaps, _LONGEST_GAP)
    written = np.full(len(gaps) + int(longest.sum()), _LONGEST_GAP, np.uint8)
    written[np.cumsum(longest + 1) - 1] = rest
    return written


def _read_sparse(reader: Reader, count: int, width: int) -> Words:
    used, length = reader.number(), reader.number()
    if used > count or length > count + used:
        raise corrupted("a sparse tensor has more numbers than places")
    gaps = np.frombuffer(read_stream(reader, length), np.uint8)
    ends = gaps != _LONGEST_GAP
    places = (np.cumsum(gaps + ends.astype(np.int64)) - 1)[ends]
    if len(places) != used or (used and places[-1] >= count):
        raise corrupted("the numbers of a sparse tensor do not fit its places")
    words = np.zeros(reader.reserve(count * width) // width, _WORD[width])
    words[places] = _read_dense(reader, used, width, reader.take(1)[0])
    return words


def as_words(content: bytes, width: int) -> Words:
    """Take bytes as words of so many bytes."""
    return np.frombuffer(content, _WORD[width])
