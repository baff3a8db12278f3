"""The layer types that networks are made of, each with its shape, its variables and its cost by arithmetic.

Shapes are those of ONE row (no batch axis), channels last. Variables are laid out as Keras lays them out.
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from app.domain.layer_base import (
    ActivationName,
    BaseLayer,
    Inference,
    Padding,
    Rate,
    Shape,
    Size,
    WeightedLayer,
    Window,
    Window2D,
    sliding_shape,
)

NGramSizes = Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Field(strict=False, min_length=1, max_length=16)]
Buckets = Annotated[int, Field(ge=16, le=2**18)]


class Standardize(BaseLayer):
    """y = (x - mean) / deviation, per last axis; mean and deviation are fixed statistics of the train rows."""

    type: Literal["standardize"] = "standardize"

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        return Inference(shape, {"mean": shape[-1:], "deviation": shape[-1:]})


class Rescale(BaseLayer):
    """y = scale * x + offset."""

    type: Literal["rescale"] = "rescale"
    scale: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    offset: Annotated[float, Field(ge=-1e6, le=1e6)] = 0.0


class Embedding(BaseLayer):
    """Look up a vector for each index: (steps,) -> (steps, width)."""

    ranks = (1,)
    type: Literal["embedding"] = "embedding"
    vocabulary: Size = 256
    width: Size = 16

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        return Inference((*shape, self.width), {"embeddings": (self.vocabulary, self.width)})


class HashedNGrams(BaseLayer):
    """Say which n-grams of bytes a text holds, whatever their place: (steps,) -> (buckets,).

    N-grams b, for each n in `sizes`, are hashed into buckets (Weinberger et al. 2009): h = n, for each byte
    h = h f + b_i, last h = h f, all modulo p; the bucket is h modulo `buckets`. A bucket that some n-gram falls into is
    1 / sqrt(k), k the number of such buckets, else 0, so that long and short texts are alike. Zero bytes pad a text:
    n-grams with one of them do not count.
    """

    FACTOR: ClassVar[int] = 3571  # with PRIME, all products stay below 2^31
    PRIME: ClassVar[int] = 2**19 - 1

    ranks = (1,)
    type: Literal["hashed_ngrams"] = "hashed_ngrams"
    sizes: NGramSizes = (1, 2, 3)
    buckets: Buckets = 4096

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        if shape[0] < max(self.sizes):
            raise self.misfit(f"looks for n-grams of {max(self.sizes)} bytes, but a row has only {shape[0]}")
        return Inference((self.buckets,))


class LogMel(BaseLayer):
    """Log of the mel power spectrum: (samples, 1) -> (frames, mel_bins).

    Periodic Hann window, power of the short-time Fourier transform, triangular filters on the mel scale
    (O'Shaughnessy 1987: mel = 2595 log10(1 + hertz / 700)), natural logarithm of (power + epsilon).
    """

    ranks = (2,)
    type: Literal["log_mel"] = "log_mel"
    sample_rate: Annotated[int, Field(ge=100, le=1_000_000)]
    frame_length: Annotated[int, Field(ge=16, le=8192)] = 256
    frame_step: Annotated[int, Field(ge=1, le=8192)] = 128
    mel_bins: Annotated[int, Field(ge=1, le=512)] = 40
    low_hertz: Annotated[float, Field(ge=0, le=500_000)] = 20.0
    epsilon: Annotated[float, Field(ge=1e-12, le=1)] = 1e-4

    def apply(self, shape: Shape) -> Inference:
        """Infer; the transform counts as 2 N log2 N multiply-accumulates per frame of N samples."""
        if shape[1] != 1:
            raise self.misfit(f"needs one channel, not {shape[1]}", "Mix the channels down first.")
        if shape[0] < self.frame_length:
            raise self.misfit(f"cuts frames of {self.frame_length} samples, but a row has only {shape[0]}")
        if self.low_hertz * 2 >= self.sample_rate:
            raise self.misfit(f"starts at {self.low_hertz} Hz, above half the sample rate of {self.sample_rate} Hz")
        frames = 1 + (shape[0] - self.frame_length) // self.frame_step
        transform = math.ceil(2 * self.frame_length * math.log2(self.frame_length))
        return Inference(
            (frames, self.mel_bins), macs=frames * (transform + (self.frame_length // 2 + 1) * self.mel_bins)
        )


class Reshape(BaseLayer):
    """Give the row another shape with as many numbers."""

    type: Literal["reshape"] = "reshape"
    shape: Annotated[tuple[Size, ...], Field(strict=False, min_length=1, max_length=4)]

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        if math.prod(shape) != math.prod(self.shape):
            raise self.misfit(
                f"cannot turn {shape} into {self.shape}: {math.prod(shape)} numbers are not {math.prod(self.shape)}"
            )
        return Inference(self.shape)


class Conv1D(WeightedLayer):
    """Convolve (steps, channels) with `filters` kernels, each over the channels of one of `groups` equal parts."""

    ranks = (2,)
    type: Literal["conv1d"] = "conv1d"
    filters: Size
    kernel_size: Window = 3
    strides: Window = 1
    dilation: Window = 1
    groups: Size = 1
    padding: Padding = "same"

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        if self.strides > 1 and self.dilation > 1:
            raise self.misfit("has both strides and dilation; one of them must be 1")
        window = (self.dilation * (self.kernel_size - 1) + 1,)
        places = self.positions(shape[:-1], window, (self.strides,), self.padding)
        kernel = (self.kernel_size, channels_of_group(self, shape[-1]), self.filters)
        variables = {"kernel": kernel, **self.bias(self.filters)}
        return Inference((*places, self.filters), variables, math.prod(places) * math.prod(kernel))


class Conv2D(WeightedLayer):
    """Convolve (height, width, channels) with `filters` kernels, each over one of `groups` equal parts."""

    ranks = (3,)
    type: Literal["conv2d"] = "conv2d"
    filters: Size
    kernel_size: Window2D = (3, 3)
    strides: Window2D = (1, 1)
    dilation: Window2D = (1, 1)
    groups: Size = 1
    padding: Padding = "same"

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        if max(self.strides) > 1 and max(self.dilation) > 1:
            raise self.misfit("has both strides and dilation; one of them must be 1")
        window = [gap * (size - 1) + 1 for gap, size in zip(self.dilation, self.kernel_size, strict=True)]
        places = self.positions(shape[:-1], window, self.strides, self.padding)
        kernel = (*self.kernel_size, channels_of_group(self, shape[-1]), self.filters)
        variables = {"kernel": kernel, **self.bias(self.filters)}
        return Inference((*places, self.filters), variables, math.prod(places) * math.prod(kernel))


def channels_of_group(layer: Conv1D | Conv2D, channels: int) -> int:
    """Return how many channels each kernel of a convolution sees; raise InvalidArchitectureError on a remainder."""
    for number, what in ((channels, "channels of its input"), (layer.filters, "filters")):
        if number % layer.groups:
            raise layer.misfit(
                f"splits into {layer.groups} groups, but the {number} {what} cannot be split so",
                "Choose `groups` that divides both the channels of the input and `filters`.",
            )
    return channels // layer.groups


class DepthwiseConv2D(WeightedLayer):
    """Convolve each channel by itself with `depth_multiplier` kernels."""

    ranks = (3,)
    type: Literal["depthwise_conv2d"] = "depthwise_conv2d"
    kernel_size: Window2D = (3, 3)
    strides: Window = 1
    padding: Padding = "same"
    depth_multiplier: Size = 1

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        places = self.positions(shape[:-1], self.kernel_size, (self.strides,) * 2, self.padding)
        kernel = (*self.kernel_size, shape[-1], self.depth_multiplier)
        outputs = shape[-1] * self.depth_multiplier
        variables = {"depthwise_kernel": kernel, **self.bias(outputs)}
        return Inference((*places, outputs), variables, math.prod(places) * math.prod(kernel))


class SeparableConv1D(WeightedLayer):
    """Convolve each channel by itself, then mix the channels (Chollet 2017)."""

    ranks = (2,)
    type: Literal["separable_conv1d"] = "separable_conv1d"
    filters: Size
    kernel_size: Window = 3
    strides: Window = 1
    padding: Padding = "same"
    depth_multiplier: Size = 1

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        return separable_inference(self, shape, (self.kernel_size,), (self.strides,))


class SeparableConv2D(WeightedLayer):
    """Convolve each channel by itself, then mix the channels (Chollet 2017)."""

    ranks = (3,)
    type: Literal["separable_conv2d"] = "separable_conv2d"
    filters: Size
    kernel_size: Window2D = (3, 3)
    strides: Window = 1
    padding: Padding = "same"
    depth_multiplier: Size = 1

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        return separable_inference(self, shape, self.kernel_size, (self.strides,) * 2)


def separable_inference(
    layer: SeparableConv1D | SeparableConv2D, shape: Shape, window: Sequence[int], strides: Sequence[int]
) -> Inference:
    """Infer a depthwise-separable convolution of any number of spatial axes."""
    places = layer.positions(shape[:-1], window, strides, layer.padding)
    depthwise = (*window, shape[-1], layer.depth_multiplier)
    pointwise = (*(1 for _ in window), shape[-1] * layer.depth_multiplier, layer.filters)
    variables = {"depthwise_kernel": depthwise, "pointwise_kernel": pointwise, **layer.bias(layer.filters)}
    macs = math.prod(places) * (math.prod(depthwise) + math.prod(pointwise))
    return Inference((*places, layer.filters), variables, macs)


class Dense(WeightedLayer):
    """y = x W + b along the last axis."""

    type: Literal["dense"] = "dense"
    units: Size

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        variables = {"kernel": (shape[-1], self.units), **self.bias(self.units)}
        return Inference((*shape[:-1], self.units), variables, math.prod(shape) * self.units)


class BatchNorm(BaseLayer):
    """Normalize per channel (Ioffe & Szegedy 2015); in use, with moving statistics of the training batches."""

    type: Literal["batch_norm"] = "batch_norm"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-3

    def apply(self, shape: Shape) -> Inference:
        """Infer; folded into the layer before, it costs one multiplication per number."""
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return Inference(shape, dict.fromkeys(names, shape[-1:]), math.prod(shape))


class Activation(BaseLayer):
    """Apply a function to every number."""

    type: Literal["activation"] = "activation"
    activation: ActivationName


class Pool1D(BaseLayer):
    """Summarize each window of (steps, channels); strides default to the window."""

    ranks = (2,)
    pool_size: Window = 2
    strides: Window | None = None
    padding: Padding = "valid"

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        window, strides = (self.pool_size,), (self.strides or self.pool_size,)
        return Inference((*sliding_shape(self, shape[:-1], window, strides, self.padding), shape[-1]))


class Pool2D(BaseLayer):
    """Summarize each window of (height, width, channels); strides default to the window."""

    ranks = (3,)
    pool_size: Window2D = (2, 2)
    strides: Window2D | None = None
    padding: Padding = "valid"

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        strides = self.strides or self.pool_size
        return Inference((*sliding_shape(self, shape[:-1], self.pool_size, strides, self.padding), shape[-1]))


class MaxPool1D(Pool1D):
    """Keep the largest number of each window, per channel."""

    type: Literal["max_pool1d"] = "max_pool1d"


class AvgPool1D(Pool1D):
    """Average each window, per channel; padding is not counted."""

    type: Literal["avg_pool1d"] = "avg_pool1d"


class MaxPool2D(Pool2D):
    """Keep the largest number of each window, per channel."""

    type: Literal["max_pool2d"] = "max_pool2d"


class AvgPool2D(Pool2D):
    """Average each window, per channel; padding is not counted."""

    type: Literal["avg_pool2d"] = "avg_pool2d"


class GlobalPool(BaseLayer):
    """Summarize all places, per channel."""

    ranks = (2, 3)

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        return Inference(shape[-1:])


class GlobalAvgPool(GlobalPool):
    """Average over all places, per channel."""

    type: Literal["global_avg_pool"] = "global_avg_pool"


class GlobalMaxPool(GlobalPool):
    """Keep the largest number of all places, per channel."""

    type: Literal["global_max_pool"] = "global_max_pool"


class Flatten(BaseLayer):
    """Write the row as one vector, channels varying fastest."""

    type: Literal["flatten"] = "flatten"

    def apply(self, shape: Shape) -> Inference:
        """Infer."""
        return Inference((math.prod(shape),))


class Dropout(BaseLayer):
    """Zero a share of the numbers while training (Srivastava et al. 2014); do nothing in use."""

    type: Literal["dropout"] = "dropout"
    rate: Rate = 0.5


class Add(BaseLayer):
    """Add inputs of one shape."""

    type: Literal["add"] = "add"

    def infer(self, *shapes: Shape) -> Inference:
        """Infer."""
        if len(shapes) < 2 or len(set(shapes)) > 1:
            raise self.misfit(f"adds two or more inputs of one shape, not {_listed(shapes)}")
        return Inference(shapes[0])


class Concat(BaseLayer):
    """Join inputs along their last axis."""

    type: Literal["concat"] = "concat"

    def infer(self, *shapes: Shape) -> Inference:
        """Infer."""
        if len(shapes) < 2 or len({shape[:-1] for shape in shapes}) > 1:
            raise self.misfit(f"joins two or more inputs that differ in the last axis only, not {_listed(shapes)}")
        return Inference((*shapes[0][:-1], sum(shape[-1] for shape in shapes)))


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes)) or "none"


Layer: TypeAlias = Annotated[
    Standardize
    | Rescale
    | Embedding
    | HashedNGrams
    | LogMel
    | Reshape
    | Conv1D
    | Conv2D
    | DepthwiseConv2D
    | SeparableConv1D
    | SeparableConv2D
    | Dense
    | BatchNorm
    | Activation
    | MaxPool1D
    | MaxPool2D
    | AvgPool1D
    | AvgPool2D
    | GlobalAvgPool
    | GlobalMaxPool
    | Flatten
    | Dropout
    | Add
    | Concat,
    Field(discriminator="type"),
]
layer_adapter: TypeAdapter[Layer] = TypeAdapter(Layer)
