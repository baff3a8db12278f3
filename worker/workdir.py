"""A directory of this machine for the files of running attempts."""

import fcntl
import os
import shutil
from pathlib import Path


class WorkDirectory:
    """Own a directory for the files of running attempts, and remove those of hosts that died.

    A lock tells the living from the dead: the kernel lets go of it with the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None

    def __enter__(self) -> Path:
        """Take the directory."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._lock_path(self._path), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._path.mkdir(mode=0o700, exist_ok=True)
        for other in self._path.parent.iterdir():
            if other.is_dir() and other != self._path:
                self._remove_if_dead(other)
        return self._path

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._path, ignore_errors=True)
        self._lock_path(self._path).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)

    def _remove_if_dead(self, other: Path) -> None:
        try:
            lock = os.open(self._lock_path(other), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # it is just being made, or just being removed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            shutil.rmtree(other, ignore_errors=True)
            self._lock_path(other).unlink(missing_ok=True)
        finally:
            os.close(lock)

    @staticmethod
    def _lock_path(path: Path) -> Path:
        return path.with_name(f"{path.name}.lock")
