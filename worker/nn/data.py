"""The rows that a network learns from, as batches in an order that depends on the seed and the epoch alone."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.training_specs import Augmentation
from worker.nn.augmentation import augment, deviation_of, features_of, mix

Array = NDArray[Any]
# The pages of a mapped file beyond this size are given back to the system after so many rows, or they would fill the
# memory: with every page that is read, the system maps up to 15 beside it.
MAPPED_BYTES = 512 * 2**20
MAPPED_ROWS = 512
# No more than this is read ahead of the training, but at least one batch.
CHUNK_BYTES = 16 * 2**20
# Keeps the draws of the augmentation apart from those of the order: no training has so many epochs.
AUGMENTATION_STREAM = 1_000_003
# So many rows are enough to tell the deviation of a column.
DEVIATION_ROWS = 4096


@dataclass(frozen=True)
class Rows:
    """Hold raw rows (rows, *shape) and what to learn of them; all arrays may be memory-mapped.

    Targets are (rows, numbers): one-hot labels or target numbers, with whatever the objective wants beside them.
    `sample_weight` and `selection_weight` are (rows,); None means that all rows count alike. `chosen` are the places of
    the train rows to learn from; None means all of them.
    """

    train_x: Array
    train_targets: Array
    selection_x: Array
    selection_targets: Array
    sample_weight: Array | None = None
    chosen: NDArray[np.intp] | None = None
    selection_weight: Array | None = None

    @property
    def count(self) -> int:
        """Count the rows to learn from."""
        return len(self.train_x) if self.chosen is None else len(self.chosen)


@dataclass(frozen=True)
class Plan:
    """Say in which order a training visits its rows; steps count batches from the first one of the first epoch."""

    rows: int
    batch_size: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Count the batches that visit every row once."""
        return -(-self.rows // self.batch_size)

    @property
    def steps(self) -> int:
        """Count all batches."""
        return self.epochs * self.steps_per_epoch

    def batches_of(self, epoch: int) -> list[NDArray[np.intp]]:
        """Return the rows' places of every batch of an epoch.

        Batches differ in size by one at most: a last batch of one row would ruin batch normalization. Within a batch
        places ascend, so that a memory-mapped file is read forwards.
        """
        order = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        return [np.sort(places) for places in np.array_split(order, self.steps_per_epoch)]

    def places(self, step: int) -> Iterator[NDArray[np.intp]]:
        """Yield the rows' places of every batch from this step on."""
        for epoch in range(step // self.steps_per_epoch, self.epochs):
            first = step % self.steps_per_epoch if epoch == step // self.steps_per_epoch else 0
            yield from self.batches_of(epoch)[first:]


@dataclass(frozen=True)
class Chunk:
    """Hold a few batches one behind the other; `ends` says after how many rows each ends, `step` counts from 0."""

    step: int
    x: Array
    targets: Array
    weights: Array | None
    ends: NDArray[np.int32]

    @property
    def steps(self) -> int:
        """Count the batches."""
        return len(self.ends)


class Feed:
    """Read the batches of a training, a chunk at a time, changed at random as the augmentation says.

    Weights are scaled to the mean 1 over the rows to learn from, so that the learning rate means what it does without.
    """

    def __init__(self, rows: Rows, plan: Plan, augmentation: Augmentation) -> None:
        self._rows, self._plan, self._augmentation = rows, plan, augmentation
        self._weights = relative_weights(rows)
        self._features = features_of(rows.train_x)
        self._deviation = _deviation(rows) if augmentation.noise else None
        self._epoch = -1
        self._batches: list[NDArray[np.intp]] = []
        row_bytes = sum(array[:1].nbytes for array in (rows.train_x, rows.train_targets))
        self._most_steps = max(1, CHUNK_BYTES // max(1, row_bytes * plan.batch_size))

    def chunk(self, step: int, most_steps: int) -> Chunk:
        """Return the batches from this step on: up to so many, of one epoch, as many as memory should hold."""
        epoch, first = divmod(step, self._plan.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan.batches_of(epoch)
        batches = self._batches[first : first + min(most_steps, self._most_steps)]
        parts = [self._read(np.concatenate(batches))] if not self._augmentation.used else self._changed(first, batches)
        x, targets, *weights = (np.concatenate(each) if len(each) > 1 else each[0] for each in zip(*parts, strict=True))
        ends = np.cumsum([len(places) for places in batches], dtype=np.int32)
        return Chunk(step, x, targets, weights[0] if weights else None, ends)

    def _read(self, places: NDArray[np.intp]) -> tuple[Array, ...]:
        rows = self._rows
        chosen = places if rows.chosen is None else rows.chosen[places]
        read = read_rows(rows.train_x, chosen), read_rows(rows.train_targets, chosen).astype(np.float32, copy=False)
        return read if self._weights is None else (*read, self._weights[chosen])

    def _changed(self, first: int, batches: list[NDArray[np.intp]]) -> list[tuple[Array, ...]]:
        return [self._change(first + index, *self._read(places)) for index, places in enumerate(batches)]

    def _change(self, index: int, x: Array, targets: Array, weights: Array | None = None) -> tuple[Array, ...]:
        """Change a batch by draws that depend on the seed, the epoch and its place in it alone."""
        rng = np.random.default_rng((self._plan.seed, AUGMENTATION_STREAM, self._epoch, index))
        x = augment(x, self._augmentation, self._features, rng, deviation=self._deviation)
        if self._augmentation.mixup:
            return mix(x, targets, weights, self._augmentation.mixup, rng)
        return (x, targets) if weights is None else (x, targets, weights)


def _deviation(rows: Rows) -> NDArray[np.float32]:
    """Return the deviation of the rows to learn from; those of a fold that is held out have no say in it."""
    if rows.chosen is None:
        return deviation_of(rows.train_x)
    some = rows.chosen[:: max(1, -(-len(rows.chosen) // DEVIATION_ROWS))]
    return deviation_of(read_rows(rows.train_x, some))


def relative_weights(rows: Rows) -> NDArray[np.float32] | None:
    """Scale the weights of the train rows to the mean 1 over those to learn from; where all are 0 they stay so."""
    if rows.sample_weight is None:
        return None
    own = np.asarray(rows.sample_weight, dtype=np.float64)
    mean = own.mean() if rows.chosen is None else own[rows.chosen].mean()
    return (own / (mean or 1.0)).astype(np.float32)


def balanced(rows: Rows, classes: int) -> tuple[Rows, Array]:
    """Weigh the rows so that every class counts as much as any other: by rows / (classes * rows of its class).

    Targets begin with one-hot labels of so many classes. A row of weight 2 is counted as two rows. Return the rows,
    whose own weights stay factors, and the weights of the selection rows, by the same shares.
    """
    labels = np.asarray(rows.train_targets[:, :classes]).argmax(axis=1)
    own = np.ones(len(labels), np.float32) if rows.sample_weight is None else rows.sample_weight
    taught = slice(None) if rows.chosen is None else rows.chosen
    counts = np.bincount(labels[taught], own[taught], minlength=classes)
    found = np.where(counts > 0, counts, np.inf)
    shares = (counts.sum() / (np.count_nonzero(counts) * found)).astype(np.float32)
    selected = np.asarray(rows.selection_targets[:, :classes]).argmax(axis=1)
    selection = shares[selected] * (1 if rows.selection_weight is None else rows.selection_weight)
    return replace(rows, sample_weight=shares[labels] * own), selection


def read_rows(array: Array, places: NDArray[np.intp]) -> Array:
    """Copy rows of an array; when it is a large mapped file, few of its pages are in memory at any time."""
    file = _file_of(array) if array.nbytes > MAPPED_BYTES and not array.flags.writeable else None
    if file is None or not hasattr(mmap, "MADV_DONTNEED"):
        return np.asarray(array)[places]
    read = np.empty((len(places), *array.shape[1:]), array.dtype)
    for start in range(0, len(places), MAPPED_ROWS):
        part = slice(start, start + MAPPED_ROWS)
        read[part] = np.asarray(array)[places[part]]
        file.madvise(mmap.MADV_DONTNEED)
    return read


def _file_of(array: object) -> mmap.mmap | None:
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array
