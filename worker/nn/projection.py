"""Keep what a method made of a network while it is trained on: exact zeros, and entries that share one value.

Each is a projection that Keras applies to a variable after every update, whatever momentum or weight decay did.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.domain.errors import ShapeMismatchError
from worker.nn.architectures import variables_by_name

Tensor: TypeAlias = keras.KerasTensor
Projection: TypeAlias = Callable[[Tensor], Tensor]
KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")


def is_kernel(name: str) -> bool:
    """Say whether a variable, named "weights/variable", holds what pruning makes zero."""
    return name.rpartition("/")[2] in KERNELS


def has_zeros(weights: Mapping[str, NDArray[Any]], *, share: float = 0.1) -> bool:
    """Say whether at least this share of some kernel is exactly zero, which no start at random ever is."""
    return any(
        is_kernel(name) and values.size > 0 and np.count_nonzero(values) <= (1 - share) * values.size
        for name, values in weights.items()
    )


def constrain(
    model: keras.Model,
    start: Mapping[str, NDArray[Any]],
    *,
    keep_zeros: bool,
    groups: Mapping[str, NDArray[np.intp]],
) -> None:
    """Let every update of a model end in its projections, and apply them once to the weights that it has.

    With `keep_zeros` what is exactly 0 in a kernel of `start` stays 0. `groups[variable]` numbers the entries of a
    variable: those of equal number are set to their mean, those of number -1 are free. Raise ShapeMismatchError for a
    grouping of another shape.
    """
    for name, variable in variables_by_name(model).items():
        steps = [_grouped(name, groups[name], variable)] if name in groups else []
        if keep_zeros and is_kernel(name) and name in start and not np.all(start[name]):
            steps.append(_masked(start[name] != 0))
        if steps:
            variable.constraint = _chained(steps)
            variable.assign(variable.constraint(variable.value))


def _masked(mask: NDArray[np.bool_]) -> Projection:
    def project(values: Tensor) -> Tensor:
        return ops.where(mask, values, ops.zeros_like(values))

    return project


def _grouped(name: str, numbers: NDArray[np.intp], variable: keras.Variable) -> Projection:
    if numbers.shape != tuple(variable.shape):
        raise ShapeMismatchError(
            f"Variable {name!r} has the shape {tuple(variable.shape)}, its groups {numbers.shape}."
        )
    free = numbers < 0
    _, places = np.unique(np.where(free, -1, numbers), return_inverse=True)
    places = places.reshape(-1).astype(np.int32)
    counts = np.bincount(places).astype(np.float32)

    def project(values: Tensor) -> Tensor:
        sums = ops.segment_sum(ops.reshape(values, (-1,)), places, num_segments=len(counts))
        means = ops.reshape(ops.take(sums / counts, places), numbers.shape)
        return ops.where(free, values, means)

    return project


def _chained(steps: list[Projection]) -> Projection:
    def project(variable: Tensor) -> Tensor:
        values = ops.convert_to_tensor(variable)  # JAX takes no variables for arrays
        for step in steps:
            values = step(values)
        return values

    return project
