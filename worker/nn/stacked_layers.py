"""Layers of several networks of one architecture at once: stacked weights, and arithmetic that is batched over them.

Tensors are (members, rows, *places, channels); weights are those of one layer with `members` in front. Convolutions
become matrix products over patches, because batched products are fast everywhere and grouped convolutions are not.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import TypeAlias

import keras
from keras import ops

from app.domain import layers as ly
from app.domain.layers import Layer

Tensor: TypeAlias = keras.KerasTensor
Weights: TypeAlias = Mapping[str, Tensor]
Forward: TypeAlias = Callable[[Layer, Weights, Tensor], Tensor]


def dense(layer: ly.Dense, weights: Weights, x: Tensor) -> Tensor:
    """Return x @ kernel + bias, along the last axis."""
    members, *middle, inputs = x.shape
    flat = ops.reshape(x, (members, -1, inputs))
    return ops.reshape(_affine(flat, weights["kernel"], weights), (members, *_open(middle), layer.units))


def convolve(layer: ly.Conv1D | ly.Conv2D, weights: Weights, x: Tensor) -> Tensor:
    """Return the convolution of (members, rows, *places, channels) as one product per member."""
    kernel = weights["kernel"]
    members, *size, channels, filters = kernel.shape
    parts, places = _patches(x, tuple(size), layer)
    flat = ops.reshape(ops.concatenate(parts, axis=-1), (members, -1, len(parts) * channels))
    answers = _affine(flat, ops.reshape(kernel, (members, -1, filters)), weights)
    return ops.reshape(answers, (members, -1, *places, filters))


def convolve_depthwise(layer: ly.DepthwiseConv2D, weights: Weights, x: Tensor) -> Tensor:
    """Return the convolution of every channel by its own kernel."""
    answers = _depthwise(layer, weights["depthwise_kernel"], x)
    return answers + _beside(weights["bias"], answers) if "bias" in weights else answers


def convolve_separable(layer: ly.SeparableConv1D | ly.SeparableConv2D, weights: Weights, x: Tensor) -> Tensor:
    """Return the convolution per channel, then across channels."""
    by_channel = _depthwise(layer, weights["depthwise_kernel"], x)
    members, _, *places, channels = by_channel.shape
    kernel = ops.reshape(weights["pointwise_kernel"], (members, channels, layer.filters))
    flat = ops.reshape(by_channel, (members, -1, channels))
    return ops.reshape(_affine(flat, kernel, weights), (members, -1, *places, layer.filters))


def standardize(_: ly.Standardize, weights: Weights, x: Tensor) -> Tensor:
    """Return (x - mean) / deviation."""
    values = ops.cast(x, "float32")
    return (values - _beside(weights["mean"], values)) / _beside(weights["deviation"], values)


def pool(layer: ly.Pool1D | ly.Pool2D, x: Tensor, *, largest: bool) -> Tensor:
    """Pool windows that lie side by side: by reshaping, since the gradient of a windowed maximum is slow."""
    members, _, *places, channels = x.shape
    sizes = as_tuple(layer.pool_size, len(places))
    counts = [place // size for place, size in zip(places, sizes, strict=True)]
    for axis, (count, size) in enumerate(zip(counts, sizes, strict=True), 2):
        x = x[(slice(None),) * axis + (slice(0, count * size),)]
    windows = [number for pair in zip(counts, sizes, strict=True) for number in pair]
    axes = tuple(3 + 2 * axis for axis in range(len(places)))
    return (ops.max if largest else ops.mean)(ops.reshape(x, (members, -1, *windows, channels)), axis=axes)


def pools_side_by_side(layer: Layer) -> bool:
    """Say whether a layer is a pooling whose windows neither overlap nor reach over the edge."""
    if not isinstance(layer, ly.Pool1D | ly.Pool2D) or layer.padding != "valid":
        return False
    return layer.strides is None or layer.strides == layer.pool_size


def normalize(layer: ly.BatchNorm, weights: Weights, x: Tensor, moments: tuple[Tensor, Tensor] | None) -> Tensor:
    """Normalize by the batch's moments (members, channels) in training, by the moving ones else."""
    mean, variance = moments or (weights["moving_mean"], weights["moving_variance"])
    scale = weights["gamma"] * ops.rsqrt(variance + layer.epsilon)
    return x * _beside(scale, x) + _beside(weights["beta"] - mean * scale, x)


def moments_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (members, channels) over rows and places."""
    return ops.moments(x, axes=tuple(range(1, len(x.shape) - 1)))


def as_tuple(value: int | tuple[int, ...], length: int) -> tuple[int, ...]:
    """Return one number per axis."""
    return (value,) * length if isinstance(value, int) else tuple(value)


def _affine(flat: Tensor, kernel: Tensor, weights: Weights) -> Tensor:
    answers = ops.matmul(flat, kernel)
    return answers + _beside(weights["bias"], answers) if "bias" in weights else answers


def _beside(weights: Tensor, x: Tensor) -> Tensor:
    """Give (members, channels) as many axes as x has."""
    return ops.reshape(weights, (weights.shape[0], *[1] * (len(x.shape) - 2), weights.shape[-1]))


def _open(middle: list[int | None]) -> list[int]:
    """Return a shape whose rows, the first axis, are left to be found."""
    return [-1, *(int(size or 0) for size in middle[1:])]


def _depthwise(layer: Layer, kernel: Tensor, x: Tensor) -> Tensor:
    members, *size, channels, _ = kernel.shape
    parts, _ = _patches(x, tuple(size), layer)
    taps = ops.reshape(kernel, (members, len(parts), channels))
    return sum(_beside(taps[:, place], part) * part for place, part in enumerate(parts))


def _patches(x: Tensor, size: tuple[int, ...], layer: Layer) -> tuple[list[Tensor], list[int]]:
    """Return, for every tap of the kernel in its order, what stands under it at all places; and the places."""
    axes = len(size)
    strides, dilation = (as_tuple(value, axes) for value in (layer.strides, getattr(layer, "dilation", 1)))
    spans = [(taps - 1) * step + 1 for taps, step in zip(size, dilation, strict=True)]
    if layer.padding != "valid":
        x = ops.pad(x, [(0, 0), (0, 0), *_padding(x.shape[2:-1], spans, strides), (0, 0)])
    counts = [(n - span) // stride + 1 for n, span, stride in zip(x.shape[2:-1], spans, strides, strict=True)]
    parts = []
    for taps in product(*map(range, size)):
        cut = [
            slice(tap * step, tap * step + (count - 1) * stride + 1, stride)
            for tap, step, count, stride in zip(taps, dilation, counts, strides, strict=True)
        ]
        parts.append(x[(slice(None), slice(None), *cut)])
    return parts, counts


def _padding(places: tuple[int, ...], spans: list[int], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return how many zeros keep as many places as strides leave, before and after each axis."""
    pairs = []
    for n, span, stride in zip(places, spans, strides, strict=True):
        total = max((-(-n // stride) - 1) * stride + span - n, 0)
        pairs.append((total // 2, total - total // 2))
    return pairs


FORWARD: dict[str, Forward] = {
    "standardize": standardize,
    "dense": dense,
    "conv1d": convolve,
    "conv2d": convolve,
    "depthwise_conv2d": convolve_depthwise,
    "separable_conv1d": convolve_separable,
    "separable_conv2d": convolve_separable,
}
