"""Small runs of layers that several presets are made of."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Literal, TypeAlias

from app.domain import layers as ly
from app.domain.layer_base import ActivationName, Shape
from app.domain.layers import Layer

Parts: TypeAlias = list[Layer]
Options: TypeAlias = Mapping[str, Any]
Convolution: TypeAlias = Callable[..., Layer]


def round_log2(value: float) -> int:
    """Return the exponent of the power of two next above or at `value`."""
    return max(0, ceil(value) - 1).bit_length()


def dense_parts(name: str, units: int, activation: ActivationName = "relu", *, normalize: bool = False) -> Parts:
    """Return a dense layer and its activation, with batch normalization between them if asked for."""
    if not normalize:
        return [ly.Dense(name=name, units=units, activation=activation)]
    return [
        ly.Dense(name=name, units=units, use_bias=False),
        ly.BatchNorm(name=f"{name}_norm"),
        ly.Activation(name=f"{name}_activation", activation=activation),
    ]


def dropout_parts(name: str, rate: float) -> Parts:
    """Return a dropout layer, or nothing for rate 0."""
    return [ly.Dropout(name=name, rate=rate)] if rate else []


def normalized_parts(
    convolution: Convolution, name: str, options: Options, *, normalize: bool = True, relu: bool = True
) -> Parts:
    """Return a convolution with its batch normalization (then it needs no bias) and its relu."""
    if not normalize:
        return [convolution(name=name, activation="relu" if relu else "linear", **options)]
    parts: Parts = [convolution(name=name, use_bias=False, **options), ly.BatchNorm(name=f"{name}_norm")]
    return [*parts, ly.Activation(name=f"{name}_relu", activation="relu")] if relu else parts


def halving_pool(name: str, shape: Shape) -> Layer:
    """Halve every spatial axis that has more than one place left."""
    if len(shape) == 2:
        return ly.MaxPool1D(name=name, pool_size=min(2, shape[0]))
    return ly.MaxPool2D(name=name, pool_size=(min(2, shape[0]), min(2, shape[1])))


def halved(shape: Shape) -> Shape:
    """Return the shape after `halving_pool`."""
    return (*(max(1, size // 2) for size in shape[:-1]), shape[-1])


def head_parts(head: Literal["flatten", "gap"], dense: Sequence[int], dropout: float) -> Parts:
    """Return what turns feature maps into the vector that the answer is made from."""
    parts: Parts = [ly.GlobalAvgPool(name="average") if head == "gap" else ly.Flatten(name="flatten")]
    for index, units in enumerate(dense, 1):
        parts += [*dropout_parts(f"dropout{index}", dropout), *dense_parts(f"dense{index}", units)]
    return [*parts, *dropout_parts("dropout", dropout)]


def convolution_of(shape: Shape, kernel_size: int) -> tuple[Convolution, int | tuple[int, int]]:
    """Return the convolution layer and kernel size that fit a signal or an image."""
    return (ly.Conv1D, kernel_size) if len(shape) == 2 else (ly.Conv2D, (kernel_size, kernel_size))


def residual_block(convolution: Convolution, name: str, before: str, group: str | None, options: Options) -> Parts:
    """Return relu(x + norm(conv(relu(norm(conv(x)))))); blocks of one group share the convolutions' weights."""

    def shared(place: str) -> str | None:
        return f"{group}_{place}" if group else None

    return [
        *normalized_parts(convolution, f"{name}_conv1", {**options, "weights": shared("conv1")}),
        *normalized_parts(convolution, f"{name}_conv2", {**options, "weights": shared("conv2")}, relu=False),
        ly.Add(name=f"{name}_add", inputs=(before, f"{name}_conv2_norm")),
        ly.Activation(name=f"{name}_relu", activation="relu"),
    ]
