"""Artifacts in a folder of this machine: `blobs/sha256/ab/<digest>`."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from app.domain.datasets import FileRef
from app.domain.errors import ArtifactCorruptedError

_CHUNK_BYTES = 2**20


class LocalStore:
    """Keep files under `root`, each readable by its owner only."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._staging = root / "staging"
        for folder in (self._blobs, self._staging):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file is hashed once per process and state on disk; a changed size, time or inode is hashed again.
        self._verified: dict[str, tuple[int, int, int]] = {}

    def put(self, path: Path) -> FileRef:
        """Copy the file into staging, make it durable, then give it its name in one step."""
        with path.open("rb") as source:
            return self.keep(_chunks(source))

    def keep(self, chunks: Iterable[bytes], *, expected: str | None = None) -> FileRef:
        """Keep content as it comes; raise ArtifactCorruptedError when it is not what was expected."""
        with tempfile.NamedTemporaryFile(dir=self._staging, delete=False) as target:
            staged = Path(target.name)
            try:
                reference = _write(chunks, target)
                _check_content(reference, expected)
                self._publish(staged, self._place(reference.sha256))
            except BaseException:
                staged.unlink(missing_ok=True)
                raise
        return reference

    def fetch(self, sha256: str) -> Path:
        """Return the stored file after checking its content."""
        place = self._place(sha256)
        try:
            state = _state(place)
        except FileNotFoundError:
            raise ArtifactCorruptedError(f"The artifact {sha256} is missing.", hint=HINT) from None
        if self._verified.get(sha256) != state:
            if file_ref(place).sha256 != sha256:
                raise ArtifactCorruptedError(f"The artifact {sha256} has other content than it should.", hint=HINT)
            self._verified[sha256] = state
        return place

    def contains(self, sha256: str) -> bool:
        """Tell whether the file exists."""
        return self._place(sha256).is_file()

    def delete(self, sha256: str) -> None:
        """Remove the file, if it exists."""
        self._verified.pop(sha256, None)
        self._place(sha256).unlink(missing_ok=True)

    def states(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the files with what the disk says of them; one that another process removes meanwhile is left out."""
        for path in self._blobs.glob("*/*"):
            with suppress(FileNotFoundError):
                yield path, path.stat()

    def _publish(self, staged: Path, place: Path) -> None:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        staged.replace(place)
        for folder in (place.parent, self._blobs):
            _make_durable(folder)

    def _place(self, sha256: str) -> Path:
        check_digest(sha256)
        return self._blobs / sha256[:2] / sha256


HINT = "Train the model or upload the data set again, or restore the store from a backup."


def check_digest(sha256: str) -> None:
    """Raise ValueError for what is no SHA-256: only a digest names a file."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"{sha256[:80]!r} is not a SHA-256 in lower-case hexadecimal")


def file_ref(path: Path) -> FileRef:
    """Name a file by its content."""
    with path.open("rb") as file:
        return FileRef(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=file.tell())


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk


def _check_content(found: FileRef, expected: str | None) -> None:
    if expected not in (None, found.sha256):
        raise ArtifactCorruptedError(f"The artifact {expected} has other content than it should.", hint=HINT)


def _write(chunks: Iterable[bytes], target: IO[bytes]) -> FileRef:
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size_bytes += target.write(chunk)
    target.flush()
    os.fsync(target.fileno())
    return FileRef(sha256=digest.hexdigest(), size_bytes=size_bytes)


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
