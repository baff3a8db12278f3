"""The port through which every artifact passes."""

from pathlib import Path
from typing import Protocol

from app.domain.datasets import FileRef


class Store(Protocol):
    """Keep files by their SHA-256. What is kept never changes; what is returned was checked.

    Safe to use from many threads, processes and hosts at once: equal content has one name, so writers cannot clash.
    """

    def put(self, path: Path) -> FileRef:
        """Keep a copy of a local file and return its name; when this returns, a power cut no longer loses it."""
        ...

    def fetch(self, sha256: str) -> Path:
        """Return a local file with that content, to be read or memory-mapped, never written.

        Raise ArtifactCorruptedError when it is missing or its content no longer has that digest.
        """
        ...

    def contains(self, sha256: str) -> bool:
        """Tell whether that content is kept, without reading it."""
        ...

    def delete(self, sha256: str) -> None:
        """Forget that content, if it is there; only for what no row refers to."""
        ...
