"""Make files, sound ones and broken ones, in memory."""

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from app.datasets.messages import Answer, Request
from app.datasets.options import IngestOptions, Limits
from app.datasets.parse import parse
from app.datasets.sniff import sniff

LIMITS = Limits()


def read(folder: Path, blob: bytes, filename: str, *, limits: Limits = LIMITS, **options: Any) -> Answer:
    """Do in this process what `ingest` does in a child, which saves its start."""
    path, output = folder / "upload", folder / "sets"
    path.write_bytes(blob)
    output.mkdir()
    kind = sniff(path, filename, limits)
    asked = IngestOptions(name="set", **options)
    return parse(Request(files=(path,), formats=(kind,), options=asked, limits=limits, output=output))


def load(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / "sets" / f"{name}.npy", allow_pickle=False)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def small_npz(rows: int = 20, **changed: Any) -> bytes:
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    return npz(**({"x": x, "y": np.arange(rows) % 2} | changed))


def header(shape: object, descr: object = "<f4", *, extra: str = "") -> bytes:
    """Write an NPY header that says what it is told to."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, {extra}}}\n".encode()
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text


def archive(members: Mapping[str | zipfile.ZipInfo, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as handle, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that stand twice are what a test wants
        for name, blob in members.items():
            handle.writestr(name, blob)
    return buffer.getvalue()


def raw_name(name: str) -> zipfile.ZipInfo:
    """Name a member as the standard library would not."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    return info


def link(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def encrypted(blob: bytes) -> bytes:
    """Set the flag of encryption in every header of an archive."""
    changed = bytearray(blob)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(magic)
        while at >= 0:
            changed[at + offset] |= 1
            at = changed.find(magic, at + 4)
    return bytes(changed)


def overlapping() -> bytes:
    """Let two entries of the directory share one stretch of bytes, as a quine or bomb does."""
    blob = archive({"a/1.png": png(), "b/1.png": png()})
    second = blob.rfind(b"PK\x01\x02")
    return blob[: second + 42] + struct.pack("<I", 0) + blob[second + 46 :]


def png(width: int = 4, height: int = 4, *, shade: int = 0, colour: bool = False) -> bytes:
    """Write a PNG of one shade without an image library."""
    channels = 3 if colour else 1
    rows = (b"\x00" + bytes([shade % 256] * width * channels)) * height
    return png_of(width, height, zlib.compress(rows), colour=colour)


def png_of(width: int, height: int, data: bytes, *, colour: bool = False) -> bytes:
    start = struct.pack(">IIBBBBB", width, height, 8, 2 if colour else 0, 0, 0, 0)
    chunks = ((b"IHDR", start), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def wav(
    data: bytes | None = None, *, tag: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, more: int = 0
) -> bytes:
    """Write a WAV; `more` is added to the size that the RIFF header declares."""
    data = struct.pack("<8h", *range(8)) if data is None else data
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, (rate * block) % 2**32, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body) + more) + body


def folders(blob_of: Any, *, labels: int = 2, each: int = 5, suffix: str = ".png") -> bytes:
    """Pack `blob_of(number)` files in folders named a, b and so on."""
    members = {
        f"{chr(97 + label)}/{index}{suffix}": blob_of(label * each + index)
        for label in range(labels)
        for index in range(each)
    }
    return archive(members)


def table(rows: int = 20, *, labels: str = "ab") -> str:
    lines = [f"{index},{index / 2},{labels[index % len(labels)]}" for index in range(rows)]
    return "\n".join(["height,width,label", *lines, ""])
