"""Write the sets as plain .npy files, and what is known of their train rows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from app.datasets.rows import Array, Rows
from app.datasets.split import DROPPED, REPORT, SET_NAMES, TRAIN
from app.domain.datasets import DatasetSchema, Statistics

CHUNK_ROWS = 4096


def file_names(schema: DatasetSchema) -> tuple[str, ...]:
    """Return the names of a data set's files: train_x, train_y, train_hash, perhaps train_weight, selection_x etc."""
    parts = ("x", "y", "hash", *(["weight"] if schema.row_weights else []))
    of_train = [name for name, count in (("group", schema.train_groups), ("order", schema.train_times)) if count]
    return (*(f"{name}_{part}" for name in SET_NAMES for part in parts), *(f"train_{part}" for part in of_train))


def arrange(rows: Rows, sets: Array, seed: int) -> list[Array]:
    """Return each set's row numbers in the order they are stored.

    An order that means something is kept (time; an official report part). Other sets are shuffled, so that every
    stretch of them is a fair sample.
    """
    rng = np.random.default_rng(seed)
    indices = []
    for number in range(DROPPED):
        chosen = np.flatnonzero(sets == number)
        if rows.order is not None:
            chosen = chosen[np.argsort(rows.order[chosen], kind="stable")]
        elif number != REPORT or not rows.official.any():
            chosen = rng.permutation(chosen)
        indices.append(chosen)
    return indices


def write_sets(rows: Rows, hashes: Array, indices: list[Array], folder: Path) -> None:
    """Write `{set}_{x,y,hash}.npy`, and `{set}_weight.npy` of rows with weights: C order, little-endian, no pickle."""
    for name, chosen in zip(SET_NAMES, indices, strict=True):
        for part, values in (("x", rows.x), ("y", rows.targets), ("hash", hashes), ("weight", rows.weights)):
            if values is not None:
                _write_npy(folder / f"{name}_{part}.npy", values, chosen)
    for part, values in train_ranks(rows, indices[TRAIN]).items():
        _write_npy(folder / f"train_{part}.npy", values, np.arange(len(values)))


def train_ranks(rows: Rows, train: Array) -> dict[str, Array]:
    """Number the groups and times of the train rows, int64 (rows,) each: 0, 1... in the order of their values."""
    given = {"group": rows.groups, "order": rows.order}
    return {
        part: np.unique(values[train], return_inverse=True)[1].reshape(-1).astype(np.int64)
        for part, values in given.items()
        if values is not None
    }


def describe(x: Array, train: Array) -> Statistics:
    """Return mean and deviation of the train rows per last axis.

    Integers are summed exactly, and all is rounded to float32, so that the numbers do not depend on the machine. A
    deviation of 0 (a constant column) is given as 1, so that dividing by it is safe.
    """
    exact = np.float64 if x.dtype.kind == "f" else np.int64
    axes = tuple(range(x.ndim - 1))
    count = len(train) * (x[0].size // x.shape[-1])
    mean = sum(chunk.sum(axis=axes, dtype=exact) for chunk in _chunks(x, train)) / count
    squares = sum(np.square(chunk - mean, dtype=np.float64).sum(axis=axes) for chunk in _chunks(x, train))
    deviation = np.sqrt(squares / count)
    deviation[deviation <= 1e-7 * np.abs(mean)] = 1.0
    mean, deviation = (values.astype(np.float32).tolist() for values in (mean, deviation))
    return Statistics(mean=tuple(mean), deviation=tuple(deviation))


def _chunks(x: Array, chosen: Array) -> Iterator[Array]:
    return (x[chosen[start : start + CHUNK_ROWS]] for start in range(0, len(chosen), CHUNK_ROWS))


def _write_npy(path: Path, values: Array, chosen: Array) -> None:
    dtype = values.dtype.newbyteorder("<")
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (len(chosen), *values.shape[1:]),
    }
    with path.open("xb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for chunk in _chunks(values, chosen):
            handle.write(np.ascontiguousarray(chunk, dtype=dtype).data)
