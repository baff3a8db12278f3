"""Replace structure by cheaper convolution: the rewriting and the start values, without any training."""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.job_errors import MethodNotApplicableError
from app.domain.layer_base import Shape
from app.domain.layers import (
    Conv1D,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool1D,
    MaxPool2D,
    SeparableConv1D,
    SeparableConv2D,
)
from app.domain.network import Network, Trace, trace
from app.domain.surgery.rewriting import Weights, rewrite

Target = Literal["conv", "separable", "gap"]
CONVOLUTIONS = (Conv1D, Conv2D, SeparableConv1D, SeparableConv2D)
FRONT_FILTERS = (16, 32)


class Convolved(NamedTuple):
    """Hold a rewritten network, start values where the parent offers them, and which layers were replaced or kept."""

    network: Network
    start: dict[str, NDArray[Any]]
    replaced: list[str]
    kept: list[str]


def convolve(network: Network, weights: Weights, *, to: Target, width: float = 1.0) -> Convolved:
    """Rewrite a network; raise MethodNotApplicableError when nothing in it can be replaced.

    Without weights ({}) only the network is rewritten: enough to know whether it can be.
    """
    rewriting = {"separable": _to_separable, "gap": _to_gap, "conv": _to_conv}[to]
    convolved = rewriting(network, weights, width)
    if not convolved.replaced:
        raise MethodNotApplicableError(f"The parent has nothing that can become {to}.", hint=_HINTS[to])
    return convolved


_HINTS = {
    "conv": "Its rows must be images or signals, and a dense layer must be the first to see them.",
    "separable": "It needs a convolution over several channels and places that a separable one would make cheaper.",
    "gap": "It needs a Flatten after a convolution.",
}


def dearer(parent: Trace, made: Trace) -> list[str]:
    """Say in what a rewritten network costs more than its parent, by arithmetic: a sentence for each."""
    costs = {
        "multiply-accumulates per row": (parent.macs, made.macs),
        "parameters": (parent.parameters, made.parameters),
    }
    return [
        f"More {what} than the parent: {after:,} instead of {before:,}. A smaller `width`, or another `to`, has fewer."
        for what, (before, after) in costs.items()
        if after > before
    ]


def _widened(filters: int, width: float) -> int:
    return max(1, round(filters * width))


def _to_separable(network: Network, weights: Weights, width: float) -> Convolved:
    shapes = trace(network).shapes
    start: dict[str, NDArray[Any]] = dict(weights)
    replaced: list[str] = []
    kept: list[str] = []

    def separate(layer: Layer) -> list[Layer]:
        if not isinstance(layer, Conv1D | Conv2D):
            return [layer]
        if not _separable(layer, shapes[network.layer(layer.name).inputs[0]]):
            kept.append(layer.name)
            return [layer]
        replaced.append(layer.name)
        kernel = start.pop(f"{layer.weights_name}/kernel", None)
        parts = _separated(layer, channels_of(layer), width)
        if width == 1 and kernel is not None:
            start.update(_factors(kernel, layer, parts))
        return parts

    def channels_of(layer: Layer) -> int:
        return shapes[network.layer(layer.name).inputs[0]][-1]

    return Convolved(rewrite(network, separate), start, replaced, kept)


def _separable(layer: Conv1D | Conv2D, shape: Shape) -> bool:
    """Say whether a depthwise and a pointwise convolution together are cheaper than the one that they replace.

    Over one channel they would be cheaper too, but then all filters are multiples of one: such a layer stays.
    """
    window, channels = prod(_axes(layer.kernel_size)), shape[-1]
    mixed = channels // layer.groups
    pointwise = mixed * layer.filters
    return mixed > 1 and window * channels + pointwise < window * pointwise


def _axes(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _separated(layer: Conv1D | Conv2D, channels: int, width: float) -> list[Layer]:
    """Return one separable layer or, where that has not all of a convolution's settings, two grouped convolutions.

    Stride, dilation and padding belong to the depthwise part, groups, bias and activation to the pointwise one.
    """
    kept = layer.model_dump(include={"name", "inputs", "weights", "use_bias", "activation", "padding", "kernel_size"})
    filters = layer.groups * _widened(layer.filters // layer.groups, width)
    strides = _axes(layer.strides)
    if layer.groups > 1 or max(_axes(layer.dilation)) > 1 or len(set(strides)) > 1:
        return _in_two(layer, channels, filters)
    if isinstance(layer, Conv1D):
        return [SeparableConv1D(**kept, filters=filters, strides=strides[0])]
    return [SeparableConv2D(**kept, filters=filters, strides=strides[0])]


def _in_two(layer: Conv1D | Conv2D, channels: int, filters: int) -> list[Layer]:
    depthwise = layer.model_copy(
        update={
            "name": f"{layer.name}_depthwise"[:63],
            "weights": layer.weights and f"{layer.weights}_depthwise"[:63],
            "filters": channels,
            "groups": channels,
            "use_bias": False,
            "activation": "linear",
        }
    )
    one = 1 if isinstance(layer, Conv1D) else (1, 1)
    place = dict.fromkeys(("kernel_size", "strides", "dilation"), one)
    return [depthwise, layer.model_copy(update={"inputs": (depthwise.name,), "filters": filters, **place})]


def _factors(kernel: NDArray[Any], layer: Conv1D | Conv2D, parts: Sequence[Layer]) -> dict[str, NDArray[Any]]:
    """Return the nearest separable kernels: per input channel the best rank-one part of (places, filters), by SVD.

    A kernel (window..., channels of a group, filters) holds, per group, the filters that see the group's channels.
    """
    *window, seen, filters = kernel.shape
    groups = layer.groups
    by_group = kernel.reshape(-1, seen, groups, filters // groups).transpose(2, 1, 0, 3)
    slices = by_group.reshape(groups * seen, -1, filters // groups).astype(np.float64)
    left, size, right = np.linalg.svd(slices, full_matrices=False)
    scale = np.sqrt(size[:, :1])
    depthwise = (left[:, :, 0] * scale).T.reshape(*window, groups * seen).astype(kernel.dtype)
    pointwise = np.moveaxis((right[:, 0] * scale).reshape(groups, seen, -1), 0, 1).astype(kernel.dtype)
    pointwise = pointwise.reshape(*(1 for _ in window), seen, filters)
    if len(parts) == 1:
        owner = layer.weights_name
        return {f"{owner}/depthwise_kernel": depthwise[..., None], f"{owner}/pointwise_kernel": pointwise}
    return {f"{parts[0].weights_name}/kernel": depthwise[..., None, :], f"{parts[1].weights_name}/kernel": pointwise}


def _to_gap(network: Network, weights: Weights, width: float) -> Convolved:
    shapes = trace(network).shapes
    start: dict[str, NDArray[Any]] = dict(weights)
    replaced: list[str] = []

    def average(layer: Layer) -> list[Layer]:
        shape = shapes[network.layer(layer.name).inputs[0]]
        if not isinstance(layer, Flatten) or len(shape) < 2 or not _sees_convolution(network, layer.name):
            return [layer]
        replaced.append(layer.name)
        if width == 1 and weights:
            start.update(_summed(network, weights, layer.name, shape))
        mixing = _mixing(layer, shape, width)
        inputs = (mixing[-1].name,) if mixing else layer.inputs
        return [*mixing, GlobalAvgPool(name=layer.name, inputs=inputs)]

    return Convolved(rewrite(network, average), start, replaced, [])


def _mixing(layer: Layer, shape: Shape, width: float) -> list[Layer]:
    """Return a convolution of one place that changes the number of channels before the mean (Lin et al. 2014)."""
    if width == 1:
        return []
    filters, name = _widened(shape[-1], width), f"{layer.name}_mix"
    if len(shape) == 2:
        return [Conv1D(name=name, inputs=layer.inputs, filters=filters, kernel_size=1, activation="relu")]
    return [Conv2D(name=name, inputs=layer.inputs, filters=filters, kernel_size=(1, 1), activation="relu")]


def _summed(network: Network, weights: Weights, flatten: str, shape: Shape) -> dict[str, NDArray[Any]]:
    """Sum the kernels of the dense layers behind a Flatten over all places: exact where a map is constant."""
    kernels = {}
    for layer in _behind(network, flatten):
        if isinstance(layer, Dense):
            kernel = weights[f"{layer.weights_name}/kernel"]
            kernels[f"{layer.weights_name}/kernel"] = kernel.reshape(-1, shape[-1], layer.units).sum(axis=0)
    return kernels


def _behind(network: Network, name: str) -> list[Layer]:
    """Return the consumers of a layer's output, looking through dropout."""
    direct = [layer for layer in network.layers if name in layer.inputs]
    return [
        found for layer in direct for found in (_behind(network, layer.name) if layer.type == "dropout" else [layer])
    ]


def _sees_convolution(network: Network, name: str) -> bool:
    """Say whether a convolution lies between the input and this layer."""
    layer = network.layer(name)
    if isinstance(layer, CONVOLUTIONS):
        return True
    return any(source != "input" and _sees_convolution(network, source) for source in layer.inputs)


def _to_conv(network: Network, weights: Weights, width: float) -> Convolved:
    shapes = trace(network).shapes
    replaced: list[str] = []
    front = _dense_front(network)

    def convolve_front(layer: Layer) -> list[Layer]:
        if front is not None and layer.name == front.name:
            replaced.append(layer.name)
            return []
        if not isinstance(layer, Flatten) or front is None or front not in _behind(network, layer.name):
            return [layer]
        shape = shapes[network.layer(layer.name).inputs[0]]
        filters = [_widened(number, width) for number in FRONT_FILTERS]
        parts = _convolution_front(layer, shape, filters)
        return [*parts, Flatten(name=layer.name, inputs=(parts[-1].name,))]

    start = {name: value for name, value in weights.items() if front is None or name.partition("/")[0] != front.name}
    return Convolved(rewrite(network, convolve_front), start, replaced, [])


def _dense_front(network: Network) -> Dense | None:
    """Return the dense layer that sees the flattened rows first; the answer layer itself cannot be replaced."""
    shapes = trace(network).shapes
    for flatten in network.layers[:-1]:
        source = flatten.inputs[0]
        fits = isinstance(flatten, Flatten) and len(shapes[source]) in (2, 3) and min(shapes[source][:-1]) > 1
        if fits and not _sees_convolution(network, flatten.name) and not _sees_bytes(network, flatten.name):
            dense = [layer for layer in _behind(network, flatten.name) if isinstance(layer, Dense)]
            if len(dense) == 1 and dense[0] is not network.layers[-1]:
                return dense[0]
    return None


def _sees_bytes(network: Network, name: str) -> bool:
    """Say whether the rows are text, whose dense front is not one of images or signals."""
    layer = network.layer(name)
    return layer.type in ("embedding", "hashed_ngrams") or any(
        s != "input" and _sees_bytes(network, s) for s in layer.inputs
    )


def _convolution_front(layer: Layer, shape: Shape, filters: Sequence[int]) -> list[Layer]:
    parts: list[Layer] = []
    inputs = layer.inputs
    for stage, number in enumerate(filters, 1):
        name, pool = f"{layer.name}_conv{stage}", f"{layer.name}_pool{stage}"
        if len(shape) == 2:
            parts += [
                Conv1D(name=name, inputs=inputs, filters=number, kernel_size=5, activation="relu"),
                MaxPool1D(name=pool, inputs=(name,), pool_size=2, padding="same"),
            ]
        else:
            parts += [
                Conv2D(name=name, inputs=inputs, filters=number, kernel_size=(3, 3), activation="relu"),
                MaxPool2D(name=pool, inputs=(name,), pool_size=(2, 2), padding="same"),
            ]
        inputs = (pool,)
    return parts
