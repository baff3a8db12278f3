"""Local copies of artifacts that live elsewhere: checked, shared by the processes of a host, bounded in size."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from app.domain.errors import ArtifactCorruptedError
from app.store.local import LocalStore

# Whoever was just given a file may still be about to open it.
_SPARED_SECONDS = 300.0


class Cache:
    """Keep copies under `root`, of at most `most_bytes` together; those that were asked for longest ago go first."""

    def __init__(self, root: Path, *, most_bytes: int, spared_seconds: float = _SPARED_SECONDS) -> None:
        self._files = LocalStore(root)
        self._most_bytes = most_bytes
        self._spared_seconds = spared_seconds

    def find(self, sha256: str) -> Path | None:
        """Return the copy if there is a sound one."""
        try:
            found = self._files.fetch(sha256)
            _note_use(found)
        except (ArtifactCorruptedError, FileNotFoundError):
            return None
        return found

    def keep(self, sha256: str, chunks: Iterable[bytes]) -> Path:
        """Write a copy and return it; raise ArtifactCorruptedError when it is not of that content."""
        self._files.keep(chunks, expected=sha256)
        kept = self._files.fetch(sha256)
        _note_use(kept)
        self._shrink()
        return kept

    def delete(self, sha256: str) -> None:
        """Forget the copy, if there is one."""
        self._files.delete(sha256)

    def _shrink(self) -> None:
        """Remove the copies of longest ago until the rest is small enough; other processes may do so at once."""
        found = sorted((state.st_atime, state.st_size, path) for path, state in self._files.states())
        excess = sum(size for _, size, _ in found) - self._most_bytes
        newest = time.time() - self._spared_seconds
        for used_at, size, path in found:
            if excess <= 0 or used_at > newest:
                return
            path.unlink(missing_ok=True)
            excess -= size


def _note_use(path: Path) -> None:
    """Set the time of access alone: a changed time of writing would have the content hashed again."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
