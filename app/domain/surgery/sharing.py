"""Let groups of equal layers use one variable each: the rewriting, without any training."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import ShapeMismatchError
from app.domain.job_errors import MethodNotApplicableError
from app.domain.layer_base import Shape
from app.domain.layers import BatchNorm, Embedding, Layer, Standardize
from app.domain.network import Network, trace
from app.domain.surgery.rewriting import Weights, distinct, rewrite, variables_of

Groups = Mapping[str, Sequence[str]]


def find_groups(network: Network, groups: int | Literal["found"] | Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return the weights names that are to become one, by the name that they will share.

    A number splits layers of one type and equal shapes at the same place of repeated blocks, in order, into that many
    groups; the answer layer keeps its own. Normalization stays per position: its statistics differ with depth. For
    `found` the answer is what will be compared; which of it is alike only the trained weights tell. Raise
    MethodNotApplicableError where there is nothing to share, ShapeMismatchError where named layers differ.
    """
    if groups == "found":
        return name_groups(network, comparable(network))
    found = _by_shape(network, groups) if isinstance(groups, int) else _by_name(network, groups)
    if not found:
        raise _nothing_equal()
    return name_groups(network, found)


def name_groups(network: Network, groups: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Give every group of weights a name that the network has not used."""
    taken = {layer.weights_name for layer in network.layers}
    free = (name for index in range(1, 10**6) if (name := f"shared{index}") not in taken)
    return {name: list(group) for name, group in zip(free, groups, strict=False)}


def comparable(network: Network) -> list[list[str]]:
    """Return the weights names that could be one: of layers of one type, with equal settings and equal shapes.

    Raise MethodNotApplicableError where no two layers are so.
    """
    alike = _alike(network, by_place=False)
    if found := [names for names in alike if len(names) > 1]:
        return found
    raise _nothing_equal()


def _nothing_equal() -> MethodNotApplicableError:
    return MethodNotApplicableError(
        "No two layers have variables of equal shapes, so there is nothing to share.",
        hint="Share within a network of equal blocks, such as a resnet, or use fewer groups.",
    )


def share(network: Network, groups: Groups) -> Network:
    """Give every group of weights one name: the variable then exists once."""
    shared = {old: new for new, members in groups.items() for old in members}

    def rename(layer: Layer) -> list[Layer]:
        name = shared.get(layer.weights_name)
        return [layer.model_copy(update={"weights": name}) if name else layer]

    return rewrite(network, rename)


def merge(weights: Weights, groups: Groups, chosen: Mapping[str, str] | None = None) -> dict[str, NDArray[Any]]:
    """Start every shared variable at the mean of the variables that it replaces, or at those of the `chosen` member."""
    replaced = {name for members in groups.values() for name in members}
    merged = {name: value for name, value in weights.items() if name.partition("/")[0] not in replaced}
    for new, members in groups.items():
        taken = [chosen[new]] if chosen and new in chosen else members
        parts = [variables_of(weights, member) for member in taken]
        for variable, value in parts[0].items():
            mean = np.mean([part[variable] for part in parts], axis=0, dtype=np.float64)
            merged[f"{new}/{variable}"] = mean.astype(value.dtype)
    return merged


def _by_shape(network: Network, groups: int) -> list[list[str]]:
    """Split equal layers: first those at the same place of repeated blocks (ALBERT), else all of equal shapes."""
    return _split(network, groups, by_place=True) or _split(network, groups, by_place=False)


def _split(network: Network, groups: int, *, by_place: bool) -> list[list[str]]:
    alike = _alike(network, by_place=by_place)
    parts = (np.array_split(np.array(names), min(groups, len(names))) for names in alike)
    return [part.tolist() for split in parts for part in split if len(part) > 1]


def _alike(network: Network, *, by_place: bool) -> list[list[str]]:
    """Return the weights names of all layers that may share, those of equal layers together."""
    shapes = trace(network).variables
    alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for layer in distinct(network.layers[:-1]):
        own = _variables(shapes, layer)
        if own and _may_share(layer) and layer.weights_name != network.layers[-1].weights_name:
            place = _place(layer.weights_name) if by_place else None
            alike[(place, _settings(layer), tuple(sorted(own.items())))].append(layer.weights_name)
    return list(alike.values())


def _settings(layer: Layer) -> str:
    """Write down all in which layers of one variable must agree: everything but where they stand and what follows."""
    return layer.model_dump_json(exclude={"name", "inputs", "weights", "activation"})


def _place(name: str) -> str:
    """Return a name without its first number: `block3_conv1` and `block4_conv1` stand at one place of their blocks."""
    return re.sub(r"\d+", "", name, count=1)


def _by_name(network: Network, groups: Sequence[Sequence[str]]) -> list[list[str]]:
    layers = {layer.name: layer for layer in network.layers}
    shapes = trace(network).variables
    named = [name for group in groups for name in group]
    if unknown := [name for name in named if name not in layers]:
        raise MethodNotApplicableError(
            f"The network has no layer {unknown[0]!r}.", hint=f"Its layers are {', '.join(layers)}."
        )
    found = [list(dict.fromkeys(layers[name].weights_name for name in group)) for group in groups]
    owners = [owner for group in found for owner in group]
    if len(set(owners)) < len(owners):
        raise MethodNotApplicableError("A layer stands in two groups.", hint="Name every layer in one group at most.")
    for group in groups:
        _check_alike([layers[name] for name in group], shapes)
    return [group for group in found if len(group) > 1]


def _check_alike(group: Sequence[Layer], shapes: Mapping[str, Shape]) -> None:
    first, own = group[0], _variables(shapes, group[0])
    for layer in group:
        if not _may_share(layer) or not own:
            raise MethodNotApplicableError(
                f"Layer {layer.name!r} is a {layer.type}, whose variables cannot be shared.",
                hint="Share dense and convolutional layers; normalization stays per position.",
            )
        if layer.type != first.type or _variables(shapes, layer) != own:
            raise ShapeMismatchError(
                f"Layers {first.name!r} and {layer.name!r} differ in type or in the shapes of their variables: "
                f"{own} and {_variables(shapes, layer)}.",
                hint="Group layers of one type and equal shapes only.",
            )


def _variables(shapes: Mapping[str, Shape], layer: Layer) -> dict[str, Shape]:
    prefix = f"{layer.weights_name}/"
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _may_share(layer: Layer) -> bool:
    return not isinstance(layer, BatchNorm | Standardize | Embedding)
