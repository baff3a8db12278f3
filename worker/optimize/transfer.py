"""The rows on which a teacher teaches: train rows, changed copies of them, and rows without labels."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import ROW_SETS, RowSet
from app.domain.job_errors import MethodNotApplicableError
from app.domain.optimize_specs import Transfer
from app.domain.training_specs import Augmentation
from app.domain.transfer import check_same_rows
from worker.assignment import Assignment, DatasetInput
from worker.learning import hard_targets
from worker.nn.augmentation import augment, deviation_of, mix
from worker.rows import Array, Data

CHUNK_ROWS = 1024
# Keeps the draws of the copies apart from those of the training's order.
TRANSFER_STREAM = 1_000_033


@dataclass(frozen=True)
class TransferSet:
    """Hold raw rows `x` (rows, *shape), labelled ones first, as a memory map.

    `targets` (labelled rows, outputs) is what the labels say; `source` (labelled rows,) is the place of the train row
    that each one is, or is a copy of. `weights` (rows,) are those of a data set with row weights. `told` is what the
    report says of them.
    """

    x: Array
    targets: NDArray[np.float32]
    source: NDArray[np.intp]
    told: dict[str, Any]
    weights: NDArray[np.float32] | None = None

    @property
    def labelled(self) -> int:
        """Count the rows that have a label."""
        return len(self.source)

    def same_budget(self, seed: int) -> NDArray[np.intp]:
        """Return places of labelled rows, as many as there are rows: each one as often as any other, or once more.

        Training on them takes as many optimizer steps, on the same schedule, as training on all rows.
        """
        extra = len(self.x) - self.labelled * (len(self.x) // self.labelled)
        chosen = np.random.default_rng((seed, self.labelled)).permutation(self.labelled)[:extra]
        return np.sort(np.concatenate([np.resize(np.arange(self.labelled), len(self.x) - extra), chosen]))


@dataclass(frozen=True)
class _Unlabelled:
    """Point at the rows of a data set that may be learned from; `places` are theirs among its train rows."""

    x: Array
    places: NDArray[np.intp]
    told: dict[str, Any]


def transfer_set(transfer: Transfer, augmentation: Augmentation, assignment: Assignment, data: Data) -> TransferSet:
    """Gather the rows that a transfer set is made of; what is more than the train rows is written to scratch."""
    train, copies = data.x["train"], transfer.augmented_copies
    unlabelled = None
    if transfer.unlabelled:
        unlabelled = _usable_rows(assignment.unlabelled, data, unseen=transfer.labels == "out_of_fold")
    source = np.tile(np.arange(len(train)), 1 + copies)
    told: dict[str, Any] = {
        "rows": len(source) + (len(unlabelled.places) if unlabelled else 0),
        "train_rows": len(train),
        "augmented_copies": copies,
        "unlabelled": unlabelled.told if unlabelled else None,
        "labels": transfer.labels,
    }
    targets = hard_targets(data, np.asarray(data.y["train"]))[source]
    weights = _weights(source, told["rows"], data)
    if weights is not None:
        told["row_weights"] = "a copy weighs as much as its row, a row without a label 1, the mean of the others"
    if not copies and unlabelled is None:
        return TransferSet(train, targets, source, told, weights)
    path = assignment.scratch / "transfer" / "x.npy"
    x = _new_map(path, (told["rows"], *train.shape[1:]), train.dtype)
    _write(x, 0, _chunks(train))
    for copy in range(1, 1 + copies):
        rng = np.random.default_rng((assignment.seed, TRANSFER_STREAM, copy))
        _write_copy(x, targets, copy * len(train), augmentation, data, rng)
    if unlabelled is not None:
        _write(x, len(source), (as_wide(unlabelled.x[places], train) for places in _chunks(unlabelled.places)))
    del x  # the map to write to; what is read is mapped anew, for reading alone
    return TransferSet(np.load(path, mmap_mode="r", allow_pickle=False), targets, source, told, weights)


def _weights(source: NDArray[np.intp], rows: int, data: Data) -> NDArray[np.float32] | None:
    if (own := data.weights.get("train")) is None:
        return None
    return np.concatenate([own[source], np.ones(rows - len(source), np.float32)])


def _write_copy(
    x: Array,
    targets: NDArray[np.float32],
    first: int,
    augmentation: Augmentation,
    data: Data,
    rng: np.random.Generator,
) -> None:
    """Write a changed copy of all train rows, and mix their targets where the augmentation mixes rows."""
    features, deviation = data.dataset_schema.features, deviation_of(data.x["train"]) if augmentation.noise else None
    for rows in _chunks(data.x["train"]):
        part = slice(first, first + len(rows))
        changed = augment(np.asarray(rows), augmentation, features, rng, deviation=deviation)
        if augmentation.mixup:
            changed, targets[part] = mix(changed, targets[part], None, augmentation.mixup, rng)
        x[part] = as_raw(changed, x.dtype)
        first += len(rows)


def as_raw(rows: Array, dtype: np.dtype[Any]) -> Array:
    """Return changed rows in the type of raw rows, rounded where these are whole numbers."""
    if dtype.kind == "f" or rows.dtype == dtype:
        return rows.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(rows), limits.min, limits.max).astype(dtype)


def as_wide(rows: Array, like: Array) -> Array:
    """Cut or pad rows with zeros along their first axis, as texts are, to the length of others."""
    if rows.shape[1:] == like.shape[1:]:
        return rows
    wide = np.zeros((len(rows), *like.shape[1:]), like.dtype)
    length = min(rows.shape[1], like.shape[1])
    wide[:, :length] = rows[:, :length]
    return wide


def _usable_rows(unlabelled: DatasetInput | None, data: Data, *, unseen: bool) -> _Unlabelled:
    """Leave out the rows that also stand in the selection or report set: on them nothing may be learned.

    `unseen` leaves out the train rows too, which the teacher that is asked about unlabelled rows has seen.
    """
    if unlabelled is None:
        raise ValueError("the transfer set names unlabelled rows, and none were handed over")
    check_same_rows(data.dataset_schema, unlabelled.dataset_schema, unlabelled.name)
    x: Array = np.load(unlabelled.files["train_x"], mmap_mode="r", allow_pickle=False)
    known: dict[RowSet, set[bytes]] = {name: {row.tobytes() for row in data.hashes[name]} for name in ROW_SETS}
    hashes = list(_hashes(as_wide(rows, data.x["train"]) for rows in _chunks(x)))
    held_out = np.array([value in known["selection"] or value in known["report"] for value in hashes], dtype=bool)
    seen = np.array([unseen and value in known["train"] for value in hashes], dtype=bool)
    places = np.flatnonzero(~(held_out | seen))
    if not len(places):
        raise MethodNotApplicableError(
            f"Every row of {unlabelled.name!r} also stands in a set of this data set, so none is left to teach on.",
            hint="Name a data set with other rows.",
        )
    told = {
        "dataset": unlabelled.name,
        "digest": unlabelled.digest,
        "rows": len(places),
        "dropped_as_in_selection_or_report": int(held_out.sum()),
        "dropped_as_seen_by_the_teacher": int(seen.sum()),
    }
    if unlabelled.dataset_schema.row_weights:
        told["row_weights"] = "not looked at: a row without a label weighs 1"
    return _Unlabelled(x, places, told)


def _hashes(parts: Iterator[Array]) -> Iterator[bytes]:
    """Hash rows as the data set service does: blake2b-128 of each row's bytes."""
    for rows in parts:
        for row in np.ascontiguousarray(rows).reshape(len(rows), -1):
            yield hashlib.blake2b(row.data, digest_size=16).digest()


def _chunks(values: Array) -> Iterator[Array]:
    return (values[start : start + CHUNK_ROWS] for start in range(0, len(values), CHUNK_ROWS))


def _new_map(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _write(x: Array, first: int, parts: Iterator[Array]) -> None:
    for part in parts:
        x[first : first + len(part)] = part
        first += len(part)
