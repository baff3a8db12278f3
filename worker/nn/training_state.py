"""What a training needs to go on as if it had never stopped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from app.domain.job_errors import CheckpointIncompatibleError

Arrays = list[NDArray[Any]]


@dataclass
class TrainingState:
    """Hold how far a training is: steps done, figures of each epoch, and the best epoch's weights.

    `sums` are those of the epoch that has begun: loss times rows, and right answers.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    best_score: float = -inf
    best_loss: float = inf
    score_to_beat: float = -inf
    epochs_without_gain: int = 0
    best_weights: Arrays | None = None
    stopped_early: bool = False


def write_state(
    directory: Path,
    state: TrainingState,
    variables: Mapping[str, Sequence[keras.Variable]],
    plan: Mapping[str, object],
) -> None:
    """Write everything that decides the rest of a training: the named groups of variables, and the state."""
    groups: dict[str, Sequence[Any]] = {**variables, "best": state.best_weights or []}
    tensors = {
        f"{group}/{index}": _numpy(value) for group, values in groups.items() for index, value in enumerate(values)
    }
    save_file(tensors, directory / "state.safetensors")
    numbers = {name: value for name, value in vars(state).items() if name != "best_weights"}
    (directory / "state.json").write_text(json.dumps({"plan": plan, **numbers}))


def read_state(
    directory: Path, variables: Mapping[str, Sequence[keras.Variable]], plan: Mapping[str, object]
) -> TrainingState:
    """Restore the groups of variables and return the state; raise CheckpointIncompatibleError for other ones."""
    numbers = json.loads((directory / "state.json").read_text())
    if numbers.pop("plan") != json.loads(json.dumps(plan)):
        raise CheckpointIncompatibleError("The checkpoint was written by a training of other rows or settings.")
    tensors = load_file(directory / "state.safetensors")
    for group, own in variables.items():
        _assign(own, _group(tensors, group))
    return TrainingState(**numbers, best_weights=_group(tensors, "best") or None)


def _group(tensors: Mapping[str, NDArray[Any]], group: str) -> Arrays:
    count = sum(name.startswith(f"{group}/") for name in tensors)
    return [tensors[f"{group}/{index}"] for index in range(count)]


def _assign(variables: Sequence[keras.Variable], values: Arrays) -> None:
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise CheckpointIncompatibleError("The checkpoint holds the weights of another network or optimizer.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def weights_of(model: keras.Model) -> Arrays:
    """Copy the weights, trainable or not, without seeds."""
    return [_numpy(variable).copy() for variable in model.weights]


def _numpy(value: object) -> NDArray[Any]:
    array = value if isinstance(value, np.ndarray) else keras.ops.convert_to_numpy(value)
    return np.asarray(array, order="C")
