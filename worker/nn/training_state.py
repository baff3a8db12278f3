"""What a training needs to go on as if it had never stopped."""

import json
from collections.abc import Mapping
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
    """Hold how far a training is: steps done, figures of each epoch, and the best epoch's weights."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_loss: float = inf
    loss_to_beat: float = inf
    epochs_without_gain: int = 0
    best_weights: Arrays | None = None
    stopped_early: bool = False


def write_state(directory: Path, state: TrainingState, model: keras.Model, plan: Mapping[str, object]) -> None:
    """Write everything that decides the rest of a training: weights, seeds, optimizer, running means, best weights."""
    groups = {**_live(model), "best": state.best_weights or []}
    tensors = {
        f"{group}/{index}": _numpy(value) for group, values in groups.items() for index, value in enumerate(values)
    }
    save_file(tensors, directory / "state.safetensors")
    numbers = {
        "plan": plan,
        "step": state.step,
        "history": state.history,
        "best_loss": state.best_loss,
        "loss_to_beat": state.loss_to_beat,
        "epochs_without_gain": state.epochs_without_gain,
        "stopped_early": state.stopped_early,
    }
    (directory / "state.json").write_text(json.dumps(numbers))


def read_state(directory: Path, model: keras.Model, plan: Mapping[str, object]) -> tuple[TrainingState, Arrays]:
    """Restore a compiled model and its built optimizer; return the state and the values of the running means.

    The means come back apart because Keras makes its own anew when a fit begins. Raise CheckpointIncompatibleError when
    the checkpoint is that of another training.
    """
    numbers = json.loads((directory / "state.json").read_text())
    if numbers.pop("plan") != json.loads(json.dumps(plan)):
        raise CheckpointIncompatibleError("The checkpoint was written by a training of other rows or settings.")
    tensors = load_file(directory / "state.safetensors")
    live = _live(model)
    for group in ("model", "optimizer"):
        _assign(live[group], _group(tensors, group))
    return TrainingState(**numbers, best_weights=_group(tensors, "best") or None), _group(tensors, "metrics")


def _live(model: keras.Model) -> dict[str, list[Any]]:
    """Return all variables that a step may change; those of the model hold the dropout seeds too."""
    return {"model": model.variables, "optimizer": model.optimizer.variables, "metrics": model.metrics_variables}


def _group(tensors: Mapping[str, NDArray[Any]], group: str) -> Arrays:
    count = sum(name.startswith(f"{group}/") for name in tensors)
    return [tensors[f"{group}/{index}"] for index in range(count)]


def _assign(variables: list[Any], values: Arrays) -> None:
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise CheckpointIncompatibleError("The checkpoint holds the weights of another network or optimizer.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def add_means(model: keras.Model, values: Arrays) -> None:
    """Add the sums and counts of a begun epoch to those of its first batch after the resumption."""
    for variable, value in zip(model.metrics_variables, values, strict=True):
        variable.assign(variable + value)


def weights_of(model: keras.Model) -> Arrays:
    """Copy the weights, trainable or not, without seeds."""
    return [_numpy(variable).copy() for variable in model.weights]


def _numpy(value: object) -> NDArray[Any]:
    array = value if isinstance(value, np.ndarray) else keras.ops.convert_to_numpy(value)
    return np.asarray(array, order="C")
