"""The rows of a data set as memory-mapped arrays, and the proof that its three sets are disjoint."""

import hashlib
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import ROW_SETS, DatasetSchema, RowSet, Statistics
from worker.assignment import DatasetInput

Array: TypeAlias = NDArray[Any]
# Report rows are only measured, and there every row counts alike.
WEIGHED_SETS: tuple[RowSet, ...] = ("train", "selection")


@dataclass(frozen=True)
class Data:
    """Hold a data set: `x[set]` raw rows, `y[set]` labels (rows,) or targets (rows, 1), `hashes[set]` (rows, 16).

    `weights[set]` (rows,) float32, of the mean 1, are those of train and selection rows; of a data set without row
    weights there are none. `groups` and `order` are int64 (train rows,), where rows came with groups and times.
    """

    digest: str
    dataset_schema: DatasetSchema
    statistics: Statistics | None
    x: dict[RowSet, Array]
    y: dict[RowSet, Array]
    hashes: dict[RowSet, Array]
    weights: dict[RowSet, Array] = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None
    order: NDArray[np.int64] | None = None

    @property
    def classification(self) -> bool:
        """Say whether rows have labels rather than target numbers."""
        return self.dataset_schema.task == "classification"

    @property
    def input_dtype(self) -> Literal["uint8", "float32"]:
        """Return the type in which a graph takes the raw rows."""
        return "uint8" if self.dataset_schema.features == "text" else "float32"

    @property
    def output(self) -> str:
        """Return the name of a graph's answer."""
        return "probabilities" if self.classification else "prediction"


def open_data(dataset: DatasetInput) -> Data:
    """Map the files of a data set into memory."""

    def mapped(kind: str) -> dict[RowSet, Array]:
        return {name: np.load(dataset.files[f"{name}_{kind}"], mmap_mode="r", allow_pickle=False) for name in ROW_SETS}

    schema = dataset.dataset_schema
    weights = _relative_weights(dataset) if schema.row_weights else {}
    return Data(
        digest=dataset.digest,
        dataset_schema=schema,
        statistics=dataset.statistics,
        x=mapped("x"),
        y=mapped("y"),
        hashes=mapped("hash"),
        weights=weights,
        groups=np.load(dataset.files["train_group"], allow_pickle=False) if schema.train_groups else None,
        order=np.load(dataset.files["train_order"], allow_pickle=False) if schema.train_times else None,
    )


def _relative_weights(dataset: DatasetInput) -> dict[RowSet, Array]:
    """Scale each set's weights to the mean 1, so that learning rates and priors mean what they do without weights."""
    given = {name: np.load(dataset.files[f"{name}_weight"], allow_pickle=False) for name in WEIGHED_SETS}
    wide = {name: own.astype(np.float64) for name, own in given.items()}
    return {name: (own / own.mean()).astype(np.float32) for name, own in wide.items()}


def one_hot(labels: Array, classes: int) -> NDArray[np.float32]:
    """Turn labels (rows,) into float32 (rows, classes)."""
    return np.eye(classes, dtype=np.float32)[labels]


def row_groups(hashes: Array) -> NDArray[np.int64]:
    """Number the rows (rows, 16) so that equal rows have equal numbers."""
    _, numbers = np.unique(_as_values(hashes), return_inverse=True)
    return numbers.astype(np.int64)


def hash_report(data: Data) -> dict[str, str | int]:
    """Name each row set by one digest over its rows' hashes, and count the rows that stand in two sets (none)."""
    digests: dict[str, str | int] = {
        name: hashlib.sha256(np.ascontiguousarray(data.hashes[name]).tobytes()).hexdigest() for name in ROW_SETS
    }
    shared = sum(
        len(np.intersect1d(_as_values(data.hashes[one]), _as_values(data.hashes[other])))
        for one, other in combinations(ROW_SETS, 2)
    )
    return {**digests, "rows_in_two_sets": shared}


def _as_values(hashes: Array) -> NDArray[np.void]:
    return np.ascontiguousarray(hashes).view(np.dtype((np.void, hashes.shape[1])))[:, 0]
