"""Open a ZIP that nobody vouches for: check everything its directory says before a byte is unpacked."""

import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from app.datasets.options import Limits
from app.domain.errors import FieldError, UnreadableFileError
from app.domain.upload_errors import (
    DecompressionBombError,
    TooManyMembersError,
    UnreadableMemberError,
    UnsafeArchivePathError,
    UnsupportedArchiveError,
)

LOCAL_HEADER_BYTES = 30
RATIO_COUNTS_FROM_BYTES = 2**20  # small archives of zeros are no bombs
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LITTER = re.compile(
    r"(^|/)(\.[^/]*|__MACOSX/.*|Thumbs\.db|desktop\.ini|LICEN[CS]E|README|[^/]*\.(txt|md))$", re.IGNORECASE
)


@contextmanager
def open_archive(
    path: Path, limits: Limits, *, most_members: int
) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """Yield the archive and its files, in the order of their names, once all of them are known to be safe to read."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise UnreadableFileError(
            f"The archive cannot be opened: {error}. Its directory stands at its end; the file may be cut off.",
            hint="Send the whole file; `unzip -t FILE` tells whether it is sound.",
        ) from None
    with archive:
        members = archive.infolist()
        if len(members) > most_members:
            raise TooManyMembersError(
                f"The archive has {len(members)} members; at most {most_members} are read.",
                hint="Split the data, or send one NPZ with all rows in one array.",
            )
        _check_names(members)
        for member in members:
            _check_kind(member)
        _check_sizes(members, path.stat().st_size, limits)
        yield archive, sorted((member for member in members if not member.is_dir()), key=lambda member: member.filename)


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes; raise UnreadableMemberError when they are damaged or other than declared."""
    with unpacking(member):
        return archive.read(member)


@contextmanager
def unpacking(member: zipfile.ZipInfo) -> Iterator[None]:
    """Say which member is damaged when unpacking it fails."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise UnreadableMemberError(
            f"{member.filename[:200]!r} cannot be unpacked: {error or type(error).__name__}.",
            hint="Pack the archive again; `unzip -t FILE` tells which members are damaged.",
        ) from None


def is_litter(name: str) -> bool:
    """Tell whether a member is one that desktops and authors leave beside the data: hidden files, notes, licences."""
    return bool(_LITTER.search(name))


def label_of(name: str) -> str | None:
    """Return the folder that holds the member, which is its label, or None for a member outside any folder."""
    return PurePosixPath(name).parent.name or None


def _check_names(members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        reason = _why_unsafe(member.orig_filename)
        folded = member.orig_filename.rstrip("/").casefold()
        if reason is None and folded in seen:
            reason = "stands twice (letter case does not count)"
        if reason is not None:
            raise UnsafeArchivePathError(
                f"The member {member.orig_filename[:200]!r} {reason}.",
                hint="Pack plain files under relative names such as `cat/1.png`.",
                errors=[FieldError("/file", member.orig_filename[:200], "unsafe-archive-path")],
            )
        seen.add(folded)


def _why_unsafe(name: str) -> str | None:
    if not name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "has an empty name or control characters in it"
    if len(name.encode("utf-8", "surrogatepass")) > 255:
        return "has a name of more than 255 bytes"
    if name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name):
        return "has an absolute name or a backslash in it"
    if any(part in {"..", "."} for part in name.split("/")):
        return "points outside its folder"
    return None


def _check_kind(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise UnsafeArchivePathError(
            f"The member {member.filename[:200]!r} is a link or device.",
            hint="Pack plain files only (`zip -r`, no `-y`).",
        )
    if member.flag_bits & 0x1:
        raise UnsupportedArchiveError(
            f"The member {member.filename[:200]!r} is encrypted.", hint="Pack without a password."
        )
    if member.compress_type not in _METHODS:
        raise UnsupportedArchiveError(
            f"The member {member.filename[:200]!r} is packed by method {member.compress_type}.",
            hint="Pack with deflate, the usual method, or store.",
        )
    if member.filename.casefold().endswith((".zip", ".npz", ".tar", ".gz", ".7z", ".rar")):
        raise UnsupportedArchiveError(
            f"The member {member.filename[:200]!r} is an archive itself.",
            hint="Pack the files themselves, not archives.",
        )


def _check_sizes(members: list[zipfile.ZipInfo], file_bytes: int, limits: Limits) -> None:
    expanded = sum(member.file_size for member in members)
    ratio = expanded / max(1, file_bytes)
    if expanded > limits.expanded_bytes or (expanded > RATIO_COUNTS_FROM_BYTES and ratio > limits.compression_ratio):
        raise DecompressionBombError(
            f"The archive would expand to {expanded} bytes, {ratio:.0f} times its size; "
            f"at most {limits.expanded_bytes} bytes and {limits.compression_ratio} times are unpacked.",
            hint="Send fewer rows, or store arrays uncompressed (numpy.savez).",
        )
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end or member.header_offset + member.compress_size > file_bytes:
            raise UnsupportedArchiveError(
                f"The member {member.filename[:200]!r} overlaps another one or lies outside the file.",
                hint="Pack the archive again.",
            )
        end = member.header_offset + LOCAL_HEADER_BYTES + member.compress_size
