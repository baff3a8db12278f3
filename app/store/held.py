"""Files for as long as somebody works with them, however often the cache makes room meanwhile."""

import errno
import os
import shutil
from pathlib import Path

from app.domain.datasets import FileRef
from app.store.base import Store
from app.store.local import LocalStore

# Cache and working directory may lie on different disks, or on one that knows no second names.
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK})


def hold(store: Store, directory: Path) -> Store:
    """Return a store whose files stay until the directory is removed; those of a folder stay anyway."""
    return store if isinstance(store, LocalStore) else HeldStore(store, directory)


def _give_second_name(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError as refused:
        if refused.errno not in _NO_LINKS:
            raise
        shutil.copyfile(file, place)


class HeldStore:
    """Link what is fetched into a directory: a file with a second name outlives its place in the cache."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._directory = directory

    def put(self, path: Path) -> FileRef:
        """Keep a copy."""
        return self._store.put(path)

    def fetch(self, sha256: str) -> Path:
        """Return the file under a name of its own."""
        found = self._store.fetch(sha256)
        place = self._directory / sha256
        if not place.exists():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _give_second_name(found, place)
        return place

    def contains(self, sha256: str) -> bool:
        """Ask the store."""
        return self._store.contains(sha256)

    def delete(self, sha256: str) -> None:
        """Forget the content."""
        self._store.delete(sha256)
