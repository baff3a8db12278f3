"""What every rewriting of a network needs: pure functions from layers and arrays to layers and arrays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

from app.domain.errors import InvalidInputError
from app.domain.job_errors import MethodNotApplicableError
from app.domain.layers import Layer
from app.domain.network import Network, SizeLimits, Trace, trace

Weights: TypeAlias = Mapping[str, NDArray[Any]]
Replacement: TypeAlias = Callable[[Layer], Sequence[Layer]]


def rewrite(network: Network, replacement: Replacement) -> Network:
    """Replace every layer by the layers that `replacement` answers for it, the last of which takes its place.

    The first of several new layers must name its inputs; an answer of none lets the consumers of a layer take the
    layer's own input instead.
    """
    layers: list[Layer] = []
    renamed: dict[str, str] = {}
    for layer in network.layers:
        new = replacement(layer.model_copy(update={"inputs": tuple(renamed.get(name, name) for name in layer.inputs)}))
        renamed[layer.name] = new[-1].name if new else renamed.get(layer.inputs[0], layer.inputs[0])
        layers.extend(new)
    return Network(**{**dict(network), "layers": tuple(layers)})


def check(network: Network, *, method: str, parameters: int) -> Trace:
    """Trace a rewritten network; raise MethodNotApplicableError when its layers no longer fit together."""
    try:
        return trace(network, limits=SizeLimits(parameters=parameters))
    except InvalidInputError as error:
        raise MethodNotApplicableError(
            f"{method} cannot be applied to this parent: {error.detail}", hint=error.hint
        ) from error


def carry_over(weights: Weights, traced: Trace) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Keep the arrays that fit a network; return them and the names of the variables that have to be learned anew."""
    kept = {
        name: weights[name]
        for name, shape in traced.variables.items()
        if name in weights and weights[name].shape == shape
    }
    return kept, [name for name in traced.variables if name not in kept]


def variables_of(weights: Weights, owner: str) -> dict[str, NDArray[Any]]:
    """Return the arrays stored under one weights name, by variable."""
    return {name.partition("/")[2]: value for name, value in weights.items() if name.partition("/")[0] == owner}


def distinct(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield the first layer of every set that shares its weights."""
    seen: set[str] = set()
    for layer in layers:
        if layer.weights_name not in seen:
            seen.add(layer.weights_name)
            yield layer
