"""Tell the format of a file by its first bytes; the name only has to agree."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Literal

from app.datasets.options import Limits
from app.domain.errors import FieldError, MalformedRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from app.domain.upload_errors import DigestMismatchError, EmptyFileError, PickleNotAllowedError

FileFormat = Literal["zip", "csv"]
_MAGICS = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x03", "pickle"),
    (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"),
    (b"\x93NUMPY", "one NPY array"),
    (b"PAR1", "Parquet"),
    (b"\x89HDF", "HDF5"),
    (b"\x1f\x8b", "gzip"),
    (b"\x89PNG", "one PNG image"),
    (b"\xff\xd8\xff", "one JPEG image"),
    (b"RIFF", "one RIFF file"),
    (b"%PDF", "PDF"),
)
_FORMAT_OF_SUFFIX = {".npz": "zip", ".zip": "zip", ".csv": "csv"}
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_HINT = "Send NPZ, CSV, or a ZIP of images or WAVs in one folder per label."


def sniff(path: Path, filename: str, limits: Limits, *, pointer: str = "/file") -> FileFormat:
    """Return the format of the file; raise when it is empty, too large, none of ours or not what its name says."""
    size = path.stat().st_size
    if size == 0:
        raise EmptyFileError("The file has 0 bytes.", hint=_HINT, errors=[FieldError(pointer, "0 bytes", "empty-file")])
    if size > limits.compressed_bytes:
        raise PayloadTooLargeError(
            f"The file has {size} bytes; at most {limits.compressed_bytes} are accepted.", hint="Send fewer rows."
        )
    with path.open("rb") as handle:
        start = handle.read(4096)
    suffix = Path(filename).suffix.lower()
    found = _name_format(start, suffix)
    if found == "pickle":
        raise PickleNotAllowedError("The file is a pickle, which is code.", hint="Save arrays with numpy.savez.")
    if found not in ("zip", "csv"):
        raise UnsupportedMediaTypeError(f"The file is {found}.", hint=_HINT)
    if _FORMAT_OF_SUFFIX.get(suffix, found) != found:
        raise UnsupportedMediaTypeError(
            f"The name ends with {suffix!r}, but the bytes are those of a {found.upper()}.",
            hint="Name the file after what it is.",
            errors=[FieldError(pointer, f"{found} named {suffix}", "unsupported-media-type")],
        )
    return "zip" if found == "zip" else "csv"


def check_content_digest(path: Path, header: str) -> None:
    """Compare a file with a Content-Digest (RFC 9530) such as `sha-256=:base64:`; other algorithms are not checked."""
    found = re.search(r"(?:^|[\s,])sha-256=:([A-Za-z0-9+/=]*):", header)
    if found is None:
        if "sha-256" in header:
            raise MalformedRequestError(
                f"Content-Digest {header[:100]!r} cannot be read.",
                hint="Write `sha-256=:` + base64 of the digest + `:`.",
            )
        return
    with path.open("rb") as handle:
        digest = base64.b64encode(hashlib.file_digest(handle, "sha256").digest()).decode()
    if digest != found.group(1):
        raise DigestMismatchError(
            f"The bytes have the SHA-256 {digest}, not {found.group(1)[:64]}.", hint="Send the file again."
        )


def _name_format(start: bytes, suffix: str) -> str:
    for magic, found in _MAGICS:
        if start.startswith(magic):
            return found
    if suffix != ".csv" and _BINARY.search(start):
        return "of an unknown kind"
    return "csv"
