"""A network: layers in order, what they take and what they answer, and its size by arithmetic alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from app.domain.datasets import Statistics, Task, Value
from app.domain.errors import InvalidArchitectureError, ModelTooLargeError, ShapeMismatchError
from app.domain.layer_base import Shape, Size
from app.domain.layers import Layer, Standardize

INPUT = "input"
MAXIMUM_LISTED_LAYERS = 20_000


class InputSpec(Value):
    """Describe one row as the network takes it."""

    shape: Annotated[tuple[Size, ...], Field(strict=False, min_length=1, max_length=4)]
    dtype: Literal["float32", "uint8"] = "float32"


class Network(Value):
    """Describe a model completely, but for its weights.

    The last layer answers `classes` numbers per row: logits for a classification, the prediction for a regression
    (then `classes` is 1). Layers come in the order of computation.
    """

    input: InputSpec
    layers: Annotated[tuple[Layer, ...], Field(strict=False, min_length=1, max_length=MAXIMUM_LISTED_LAYERS)]
    task: Task = "classification"
    classes: Annotated[int, Field(ge=1, le=100_000)]

    @field_validator("layers")
    @classmethod
    def _name_inputs(cls, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        return with_inputs(layers)

    def layer(self, name: str) -> Layer:
        """Return the layer of this name, or raise KeyError."""
        return next_named(self.layers, name)


def with_inputs(layers: Sequence[Layer], *, first: str = INPUT) -> tuple[Layer, ...]:
    """Write down the input of every layer that leaves it open: the layer before, or `first`."""
    before = (first, *(layer.name for layer in layers[:-1]))
    return tuple(
        layer if layer.inputs else layer.model_copy(update={"inputs": (name,)})
        for layer, name in zip(layers, before, strict=True)
    )


def next_named(layers: Sequence[Layer], name: str) -> Layer:
    """Return the layer of this name, or raise KeyError."""
    for layer in layers:
        if layer.name == name:
            return layer
    raise KeyError(name)


@dataclass(frozen=True)
class SizeLimits:
    """Bound what the service accepts; `numbers` counts what all layers answer for one row."""

    parameters: int = 50_000_000
    layers: int = 500
    numbers: int = 50_000_000


@dataclass(frozen=True)
class Trace:
    """Hold what arithmetic tells of a network.

    `shapes` and `macs_by_layer` go by layer name; `variables` by "weights/variable". `parameters` counts each shared
    variable once, trainable or not, but no fixed statistics of the data. `macs` are multiply-accumulates per row.
    """

    shapes: dict[str, Shape]
    macs_by_layer: dict[str, int]
    variables: dict[str, Shape]
    parameters: int

    @property
    def macs(self) -> int:
        """Count the multiply-accumulates per row."""
        return sum(self.macs_by_layer.values())


def trace(network: Network, *, limits: SizeLimits | None = None) -> Trace:
    """Walk through the layers by arithmetic: no array is made, whatever the sizes.

    Raise InvalidArchitectureError where layers do not fit together, ShapeMismatchError where the last one does not
    answer what the task needs, ModelTooLargeError beyond `limits`.
    """
    limits = limits or SizeLimits()
    if len(network.layers) > limits.layers:
        raise ModelTooLargeError(
            f"The network has {len(network.layers):,} layers; at most {limits.layers:,} are accepted.",
            hint="Use fewer layers.",
        )
    _check_names(network.layers)
    shapes: dict[str, Shape] = {INPUT: network.input.shape}
    macs: dict[str, int] = {}
    owners: dict[str, tuple[Layer, Mapping[str, Shape]]] = {}
    parameters = numbers = 0
    for layer in network.layers:
        inferred = layer.infer(*(shapes[name] for name in layer.inputs))
        owner, stored = owners.setdefault(layer.weights_name, (layer, inferred.variables))
        if owner is not layer:
            _check_shared(layer, inferred.variables, owner, stored)
        elif not isinstance(layer, Standardize):
            parameters += sum(map(prod, inferred.variables.values()))
        numbers += prod(inferred.output)
        _check_size(layer, parameters, numbers, limits)
        shapes[layer.name], macs[layer.name] = inferred.output, inferred.macs
    _check_answer(network, shapes[network.layers[-1].name])
    variables = {f"{key}/{name}": shape for key, (_, own) in owners.items() for name, shape in own.items()}
    return Trace(shapes, macs, variables, parameters)


def _check_names(layers: Sequence[Layer]) -> None:
    known = {INPUT}
    everywhere = {layer.name for layer in layers}
    unused = everywhere - {layers[-1].name}
    for layer in layers:
        if layer.name in known:
            raise InvalidArchitectureError(
                f"Two layers are called {layer.name!r}."
                if layer.name != INPUT
                else "No layer may be called 'input', the name of what the network takes.",
                hint="Give every layer a name of its own; to share variables, give layers the same `weights`.",
            )
        for name in layer.inputs:
            if name not in known:
                raise _unknown_input(layer, name, listed=name in everywhere)
        unused.difference_update(layer.inputs)
        known.add(layer.name)
    if unused:
        raise InvalidArchitectureError(
            f"Nothing uses the output of layer {min(unused)!r}.",
            hint="Only the last layer's output leaves the network; connect or remove the others.",
        )


def _unknown_input(layer: Layer, name: str, *, listed: bool) -> InvalidArchitectureError:
    if listed:
        return layer.misfit(
            f"takes the output of {name!r}, which does not come before it",
            "Layers are listed in the order of computation, and may not form a cycle.",
        )
    return layer.misfit(f"takes the output of {name!r}, which does not exist", "Name earlier layers, or 'input'.")


def _check_shared(layer: Layer, own: Mapping[str, Shape], first: Layer, stored: Mapping[str, Shape]) -> None:
    if layer.type != first.type or own != stored:
        raise layer.misfit(
            f"shares the weights {layer.weights_name!r} with layer {first.name!r}, but is a {layer.type} with "
            f"{_listed(own)} where that is a {first.type} with {_listed(stored)}",
            "Only layers of one type whose variables have equal shapes can share them.",
        )
    if _settings(layer) != _settings(first):
        raise layer.misfit(
            f"shares the weights {layer.weights_name!r} with layer {first.name!r}, but is set up otherwise",
            "Layers that share weights may differ in their activation only.",
        )


def _settings(layer: Layer) -> dict[str, object]:
    return layer.model_dump(exclude={"name", "inputs", "weights", "activation"})


def _listed(variables: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(variables.items())) or "no variables"


def _check_size(layer: Layer, parameters: int, numbers: int, limits: SizeLimits) -> None:
    if parameters > limits.parameters:
        raise ModelTooLargeError(
            f"With layer {layer.name!r} the network has {parameters:,} parameters; "
            f"at most {limits.parameters:,} are accepted.",
            hint="Use fewer units or filters, or pool before a dense layer.",
        )
    if numbers > limits.numbers:
        raise ModelTooLargeError(
            f"Up to layer {layer.name!r} the network computes {numbers:,} numbers per row; "
            f"at most {limits.numbers:,} are accepted.",
            hint="Pool earlier or use fewer filters.",
        )


def _check_answer(network: Network, shape: Shape) -> None:
    last = network.layers[-1]
    if shape != (network.classes,):
        wanted = f"({network.classes},): one logit per class" if network.task == "classification" else "(1,)"
        raise ShapeMismatchError(
            f"The last layer {last.name!r} answers {shape} per row; the data set needs {wanted}.",
            hint=f"End with a dense layer of {network.classes} units.",
        )
    if network.task == "classification" and getattr(last, "activation", "linear") != "linear":
        raise last.misfit(
            "is the last one and must answer logits, so it may have no activation",
            "Leave its activation `linear`; probabilities are made from the logits.",
        )


def statistics_weights(network: Network, statistics: Statistics | None) -> dict[str, NDArray[np.float32]]:
    """Return the fixed variables of the standardize layers: mean and deviation of the train rows.

    A constant column (deviation 0) is only centred. Raise ShapeMismatchError when the statistics are those of other
    data. A network without standardize layers needs none and gets {}.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    variables = trace(network).variables
    for layer in network.layers:
        if isinstance(layer, Standardize):
            if statistics is None or variables[f"{layer.weights_name}/mean"] != (len(statistics.mean),):
                raise ShapeMismatchError(f"Layer {layer.name!r} does not fit the data set's statistics.")
            deviation = np.asarray(statistics.deviation, np.float32)
            weights[f"{layer.weights_name}/mean"] = np.asarray(statistics.mean, np.float32)
            weights[f"{layer.weights_name}/deviation"] = np.where(deviation > 0, deviation, np.float32(1))
    return weights
