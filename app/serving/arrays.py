"""Stored arrays, memory-mapped, so that single rows of a data set can be read at once."""

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import FileRef
from app.store.base import Store


class ArrayCache:
    """Keep the latest used maps open; what they map is never written to."""

    def __init__(self, store: Store, *, most_open: int = 64) -> None:
        self._store = store
        self._most_open = most_open
        self._open: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._guard = threading.Lock()

    def array(self, file: FileRef) -> NDArray[Any]:
        """Return the array of a stored .npy file, read-only; raise ArtifactCorruptedError."""
        with self._guard:
            if file.sha256 in self._open:
                self._open.move_to_end(file.sha256)
                return self._open[file.sha256]
        mapped: NDArray[Any] = np.load(self._store.fetch(file.sha256), mmap_mode="r", allow_pickle=False)
        with self._guard:
            self._open[file.sha256] = mapped
            if len(self._open) > self._most_open:
                self._open.popitem(last=False)
        return mapped
