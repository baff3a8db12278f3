"""The rows that a network learns from, as batches in an order that depends on the seed and the epoch alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Hold raw rows (rows, *shape) and what to learn of them; all arrays may be memory-mapped.

    Targets are (rows, numbers): one-hot labels or target numbers, with whatever the objective wants beside them.
    `sample_weight` is (rows,). `chosen` are the places of the train rows to learn from; None means all of them.
    """

    train_x: Array
    train_targets: Array
    selection_x: Array
    selection_targets: Array
    sample_weight: Array | None = None
    chosen: NDArray[np.intp] | None = None

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

    def places(self, step: int) -> Iterator[NDArray[np.intp]]:
        """Yield the rows' places of every batch from this step on.

        Batches differ in size by one at most: a last batch of one row would ruin batch normalization. Within a batch
        places ascend, so that a memory-mapped file is read forwards.
        """
        for epoch in range(step // self.steps_per_epoch, self.epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
            batches = np.array_split(order, self.steps_per_epoch)
            first = step % self.steps_per_epoch if epoch == step // self.steps_per_epoch else 0
            for places in batches[first:]:
                yield np.sort(places)


def batches(rows: Rows, plan: Plan, *, step: int, dtype: str) -> Iterator[tuple[Array, ...]]:
    """Yield (x, targets[, weights]) from this step to the last; only a batch is ever in memory, x cast to `dtype`."""
    for places in plan.places(step):
        chosen = places if rows.chosen is None else rows.chosen[places]
        batch = rows.train_x[chosen].astype(dtype), rows.train_targets[chosen].astype(np.float32)
        yield batch if rows.sample_weight is None else (*batch, rows.sample_weight[chosen].astype(np.float32))
