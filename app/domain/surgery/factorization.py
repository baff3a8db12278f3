"""Split layers into two of low rank: the rewriting and the start values, without any training."""

from collections.abc import Mapping
from itertools import chain, count
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain.job_errors import MethodNotApplicableError
from app.domain.layers import Conv1D, Conv2D, Dense, Layer, SeparableConv1D, SeparableConv2D
from app.domain.network import INPUT, Network, trace
from app.domain.surgery.rewriting import Weights, distinct, rewrite

Matrix: TypeAlias = NDArray[Any]
# Below this share of the squares nothing is left of a float32 matrix but its rounding.
ROUNDING = 1e-12
LONGEST_NAME = 50
_HINT = "Factorize a network with dense layers of several inputs and several units."


class Factorized(NamedTuple):
    """Hold a rewritten network, its start values, the rank of every split layer, and that which others would need."""

    network: Network
    start: dict[str, NDArray[Any]]
    ranks: dict[str, int]
    kept: dict[str, int]


def check_factorizable(network: Network) -> None:
    """Raise MethodNotApplicableError when no layer could become smaller at any rank; no weights are needed."""
    variables = trace(network).variables
    for layer in distinct(network.layers):
        name = _matrix_name(layer)
        if name and largest_rank(prod(variables[name][:-1]), variables[name][-1]) >= 1:
            return
    raise MethodNotApplicableError(
        "The network has no dense layer and no convolution of one place that two smaller layers could stand for.",
        hint=_HINT,
    )


def factorize(network: Network, weights: Weights, *, energy: float) -> Factorized:
    """Split every layer that becomes smaller by it; raise MethodNotApplicableError when none does.

    x W becomes (x U sqrt(S)) (sqrt(S) V), of the smallest rank r that keeps the share `energy` of the squared singular
    values. A layer of m inputs and n outputs stays where r (m + n) >= m n. Layers that share weights share both halves.
    """
    start = dict(weights)
    ranks, kept = choose_ranks(network, weights, energy)
    halves = _name_halves(network, ranks)
    for layer in distinct(network.layers):
        if layer.weights_name in ranks:
            start |= _start(layer, start, ranks[layer.weights_name], halves[layer.weights_name])

    def split(layer: Layer) -> list[Layer]:
        if layer.weights_name not in ranks:
            return [layer]
        return _split(layer, ranks[layer.weights_name], halves[layer.name], halves[layer.weights_name])

    smaller = rewrite(network, split)
    start = {name: start[name] for name in trace(smaller).variables}
    return Factorized(smaller, start, ranks, kept)


def choose_ranks(network: Network, weights: Weights, energy: float) -> tuple[dict[str, int], dict[str, int]]:
    """Return the rank of every layer that becomes smaller by it, and that which the others would need.

    Raise MethodNotApplicableError when none becomes smaller; no training can change that.
    """
    found = {layer.weights_name: _find_rank(layer, weights, energy) for layer in distinct(network.layers)}
    ranks = {owner: rank.needed for owner, rank in found.items() if rank and rank.needed <= rank.largest}
    kept = {owner: rank for owner, rank in found.items() if rank and owner not in ranks}
    if not ranks:
        raise _nothing_shrinks(kept, energy)
    return ranks, {owner: rank.needed for owner, rank in kept.items()}


class _Rank(NamedTuple):
    """Hold the rank that a layer needs, and the largest one at which it becomes smaller."""

    needed: int
    largest: int


def _find_rank(layer: Layer, weights: Weights, energy: float) -> _Rank | None:
    name = _matrix_name(layer)
    if name is None:
        return None
    matrix = weights[name].reshape(-1, weights[name].shape[-1])
    return _Rank(rank_of(matrix, energy), largest_rank(*matrix.shape))


def _nothing_shrinks(kept: dict[str, _Rank], energy: float) -> MethodNotApplicableError:
    if not kept:
        return MethodNotApplicableError("The network has no dense layer and no convolution of one place.", hint=_HINT)
    nearest = min(kept, key=lambda owner: kept[owner].needed / max(kept[owner].largest, 1))
    needed, largest = kept[nearest]
    return MethodNotApplicableError(
        f"No layer would become smaller: to keep {energy:g} of its energy, layer {nearest!r} needs the rank {needed}, "
        f"and only up to rank {largest} are its two halves smaller than itself.",
        hint="Ask for less `energy`; fine-tuning makes up for some of it.",
    )


def _name_halves(network: Network, ranks: Mapping[str, int]) -> dict[str, str]:
    """Return a new name for the first half of every split layer, and of the variables that it uses."""
    taken = {INPUT} | {name for layer in network.layers for name in (layer.name, layer.weights_name)}
    numbered = (f"basis{number}" for number in count(1))
    halves: dict[str, str] = {}
    for layer in network.layers:
        if layer.weights_name in ranks:
            for name in {layer.name: None, layer.weights_name: None}.keys() - halves.keys():
                wanted = chain([f"{name}_basis"] if len(name) < LONGEST_NAME else [], numbered)
                halves[name] = next(found for found in wanted if found not in taken)
                taken.add(halves[name])
    return halves


def factors(matrix: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """Return (m, r) and (r, n) whose product is the nearest matrix of that rank (Eckart & Young 1936)."""
    left, sizes, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    scale = np.sqrt(sizes[:rank])
    return (left[:, :rank] * scale).astype(matrix.dtype), (scale[:, None] * right[:rank]).astype(matrix.dtype)


def rank_of(matrix: Matrix, energy: float) -> int:
    """Return the smallest rank that keeps this share of the squared singular values, at least 1."""
    squares = np.square(np.linalg.svd(matrix.astype(np.float64), compute_uv=False))
    total = squares.sum()
    if total == 0:
        return 1
    return int(np.searchsorted(np.cumsum(squares) / total, energy - ROUNDING) + 1)


def largest_rank(inputs: int, outputs: int) -> int:
    """Return the largest rank r at which r (m + n) < m n; 0 where there is none."""
    return (inputs * outputs - 1) // (inputs + outputs)


def _matrix_name(layer: Layer) -> str | None:
    """Return the variable that multiplies the channels of one place, if the layer has one."""
    match layer:
        case Dense():
            return f"{layer.weights_name}/kernel"
        case Conv1D() | Conv2D() if layer.groups == 1 and layer.kernel_size in (1, (1, 1)):
            return f"{layer.weights_name}/kernel"
        case SeparableConv1D() | SeparableConv2D():
            return f"{layer.weights_name}/pointwise_kernel"
        case _:
            return None


def _start(layer: Layer, weights: Weights, rank: int, half: str) -> dict[str, NDArray[Any]]:
    """Return the variables of both halves of a layer."""
    name, owner = _matrix_name(layer), layer.weights_name
    kernel = weights[str(name)]
    left, right = factors(kernel.reshape(-1, kernel.shape[-1]), rank)
    first = left.reshape(*kernel.shape[:-1], rank)
    second = right.reshape(*(1 for _ in kernel.shape[:-2]), *right.shape)
    if isinstance(layer, SeparableConv1D | SeparableConv2D):
        depthwise = weights[f"{owner}/depthwise_kernel"]
        return {f"{half}/depthwise_kernel": depthwise, f"{half}/pointwise_kernel": first, f"{owner}/kernel": second}
    return {f"{half}/kernel": first, f"{owner}/kernel": second}


def _split(layer: Layer, rank: int, name: str, weights: str) -> list[Layer]:
    """Return the two halves of a layer: the first keeps stride and padding, the second bias and activation."""
    own = {"name": name, "weights": weights, "use_bias": False, "activation": "linear"}
    rest = layer.model_dump(include={"name", "weights", "use_bias", "activation"})
    behind = {**rest, "inputs": (name,)}
    match layer:
        case Dense():
            return [layer.model_copy(update={**own, "units": rank}), Dense(**behind, units=layer.units)]
        case Conv1D() | SeparableConv1D():
            second: Layer = Conv1D(**behind, filters=layer.filters, kernel_size=1)
        case Conv2D() | SeparableConv2D():
            second = Conv2D(**behind, filters=layer.filters, kernel_size=(1, 1))
        case _:
            raise TypeError(f"a {layer.type} is not split")
    return [layer.model_copy(update={**own, "filters": rank}), second]
