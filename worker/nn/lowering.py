"""Lower each layer to ONNX operators.

Inside the graph maps are channels first, as the runtimes want them. A value therefore remembers how its numbers lie:
channels last (as in the network), channels first, or flattened from channels first; a layer asks for what it needs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from app.domain import layers as ly
from app.domain.layer_base import Shape
from worker.nn.spectrum import fourier_kernel, mel_filters

Layout = Literal["last", "first"]


@dataclass(frozen=True)
class Value:
    """Name a tensor; `shape` is that of the network (channels last, no batch axis).

    `flattened` is the shape of the maps whose channels-first numbers a vector holds; None means the network's order.
    """

    name: str
    shape: Shape
    layout: Layout = "last"
    flattened: Shape | None = None


@dataclass
class Graph:
    """Collect nodes and initializers."""

    weights: Mapping[str, NDArray[Any]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Add a node and return its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an initializer unless it is there already; return its name."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def variable(self, layer: ly.Layer, name: str) -> NDArray[Any]:
        """Return the values of a layer's variable."""
        return self.weights[f"{layer.weights_name}/{name}"]


def flat_order(value: Value) -> NDArray[np.intp] | None:
    """Return where each number of a flattened value lies in the network's order; None where the orders agree."""
    if value.flattened is None:
        return None
    places = np.arange(prod(value.flattened)).reshape(value.flattened)
    return np.moveaxis(places, -1, 0).reshape(-1)


def channels_last(graph: Graph, value: Value) -> Value:
    """Return the value with its numbers in the network's order."""
    if value.layout == "first":
        return _moved(graph, value, (*value.shape,), order=(0, *range(2, len(value.shape) + 1), 1), layout="last")
    if value.flattened is None:
        return value
    maps = Value(value.name, value.flattened, "first")
    channels, places = value.flattened[-1], value.flattened[:-1]
    unfolded = _reshaped(graph, value.name, f"{value.name}.maps", (channels, *places))
    restored = channels_last(graph, replace(maps, name=unfolded))
    return Value(_reshaped(graph, restored.name, f"{value.name}.in_order", value.shape), value.shape)


def channels_first(graph: Graph, value: Value) -> Value:
    """Return the maps (places..., channels) with the channels in front."""
    if value.layout == "first" or len(value.shape) < 2:
        return value
    return _moved(graph, value, value.shape, order=(0, len(value.shape), *range(1, len(value.shape))), layout="first")


def _moved(graph: Graph, value: Value, shape: Shape, *, order: Sequence[int], layout: Layout) -> Value:
    name = f"{value.name}.channels_{layout}"
    if any(name in node.output for node in graph.nodes):
        return Value(name, shape, layout)
    if shape[-1] == 1 or prod(shape[:-1]) == 1:  # nothing changes its place, and a reshape copies nothing
        target = (shape[-1], *shape[:-1]) if layout == "first" else shape
        _reshaped(graph, value.name, name, target)
    else:
        graph.node("Transpose", [value.name], name, perm=list(order))
    return Value(name, shape, layout)


def _reshaped(graph: Graph, source: str, name: str, shape: Shape) -> str:
    target = graph.constant("shape." + "x".join(map(str, shape)), np.array([-1, *shape], np.int64))
    return graph.node("Reshape", [source, target], name)


def lower(graph: Graph, layer: ly.Layer, inputs: Sequence[Value], shape: Shape) -> Value:
    """Add a layer's nodes and return what it answers; `shape` is its output shape by `trace`.

    Tensors are called `layer.{name}`, so that no layer's name can meet that of an input or output of the graph.
    """
    layer = layer.model_copy(update={"name": f"layer.{layer.name}", "weights": layer.weights_name})
    found = _LOWERINGS[layer.type](graph, layer, inputs, shape)
    activation = getattr(layer, "activation", "linear")
    if activation == "linear":
        return found
    return replace(found, name=_activate(graph, found.name, f"{layer.name}.{activation}", activation))


def _activate(graph: Graph, source: str, name: str, activation: str) -> str:
    if activation == "silu":
        return graph.node("Mul", [source, graph.node("Sigmoid", [source], f"{name}.gate")], name)
    operator, attributes = _ACTIVATIONS[activation]
    return graph.node(operator, [source], name, **attributes)


_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "elu": ("Elu", {}),
    "gelu": ("Gelu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
}


def _same(_: Graph, __: ly.Layer, inputs: Sequence[Value], ___: Shape) -> Value:
    return inputs[0]


def _standardize(graph: Graph, layer: ly.Standardize, inputs: Sequence[Value], shape: Shape) -> Value:
    """Standardize maps channels first: there the runtime subtracts whole maps, else it loops over single channels."""
    value = channels_first(graph, inputs[0]) if len(shape) > 1 else channels_last(graph, inputs[0])
    along = (-1, *[1] * (len(shape) - 1)) if value.layout == "first" else (-1,)
    mean, deviation = (
        graph.constant(f"{layer.weights_name}/{name}", graph.variable(layer, name).reshape(along))
        for name in ("mean", "deviation")
    )
    centred = graph.node("Sub", [value.name, mean], f"{layer.name}.centred")
    return replace(value, name=graph.node("Div", [centred, deviation], layer.name), shape=shape)


def _rescale(graph: Graph, layer: ly.Rescale, inputs: Sequence[Value], _: Shape) -> Value:
    scale = graph.constant(f"{layer.name}.scale", np.float32(layer.scale))
    offset = graph.constant(f"{layer.name}.offset", np.float32(layer.offset))
    scaled = graph.node("Mul", [inputs[0].name, scale], f"{layer.name}.scaled")
    return replace(inputs[0], name=graph.node("Add", [scaled, offset], layer.name))


def _embedding(graph: Graph, layer: ly.Embedding, inputs: Sequence[Value], shape: Shape) -> Value:
    value = channels_last(graph, inputs[0])
    table = graph.constant(f"{layer.weights_name}/embeddings", graph.variable(layer, "embeddings"))
    index = graph.node("Cast", [value.name], f"{layer.name}.index", to=onnx.TensorProto.INT32)
    limits = [
        graph.constant("index.0", np.int32(0)),
        graph.constant(f"index.{layer.vocabulary}", np.int32(layer.vocabulary - 1)),
    ]
    clipped = graph.node("Clip", [index, *limits], f"{layer.name}.clipped")
    return Value(graph.node("Gather", [table, clipped], layer.name), shape)


def _hashed_ngrams(graph: Graph, layer: ly.HashedNGrams, inputs: Sequence[Value], shape: Shape) -> Value:
    name, value = layer.name, channels_last(graph, inputs[0])
    limits = [graph.constant(f"byte.{limit}", np.int32(limit)) for limit in (0, 255)]
    cast = graph.node("Cast", [value.name], f"{name}.bytes", to=onnx.TensorProto.INT32)
    text = Value(graph.node("Clip", [cast, *limits], f"{name}.text"), value.shape)
    ngrams = [_places_of_ngrams(graph, layer, text, size) for size in layer.sizes]
    places = graph.node("Concat", ngrams, f"{name}.places", axis=1)
    # The last place gathers what does not count.
    width = graph.constant(f"{name}.width", np.array([layer.buckets + 1], np.int64))
    rows = graph.node("Shape", [text.name], f"{name}.rows", end=1)
    target = graph.node("Concat", [rows, width], f"{name}.size", axis=0)
    zeros = graph.node("ConstantOfShape", [target], f"{name}.zeros", value=_one_number(0))
    like = graph.node("Shape", [places], f"{name}.like")
    ones = graph.node("ConstantOfShape", [like], f"{name}.ones", value=_one_number(1))
    marked = graph.node("ScatterElements", [zeros, places, ones], f"{name}.marked", axis=1)
    found = _columns(graph, marked, f"{name}.found", 0, layer.buckets)
    axis = graph.constant("axis.1", np.array([1], np.int64))
    number = graph.node("ReduceSum", [found, axis], f"{name}.number", keepdims=1)
    filled = graph.node("Max", [number, graph.constant("number.1", np.float32(1))], f"{name}.filled")
    length = graph.node("Sqrt", [filled], f"{name}.length")
    return Value(graph.node("Div", [found, length], name), shape)


def _places_of_ngrams(graph: Graph, layer: ly.HashedNGrams, text: Value, size: int) -> str:
    """Write the hash of each n-gram of `size` bytes by the formula of the layer; `buckets` if it reaches padding."""
    name, ngrams = f"{layer.name}.ngrams{size}", text.shape[0] - size + 1
    factor, prime, buckets, code = (
        graph.constant(f"hash.{number}", np.int32(number))
        for number in (layer.FACTOR, layer.PRIME, layer.buckets, size)
    )
    parts = [_columns(graph, text.name, f"{name}.part{start}", start, start + ngrams) for start in range(size)]
    for index, part in enumerate(parts):
        product = graph.node("Mul", [code, factor], f"{name}.product{index}")
        total = graph.node("Add", [product, part], f"{name}.sum{index}")
        code = graph.node("Mod", [total, prime], f"{name}.code{index}")
    mixed = graph.node("Mod", [graph.node("Mul", [code, factor], f"{name}.mixing"), prime], f"{name}.mixed")
    place = graph.node("Mod", [mixed, buckets], f"{name}.place")
    least = graph.node("Min", parts, f"{name}.least")
    whole = graph.node("Greater", [least, graph.constant("byte.0", np.int32(0))], f"{name}.whole")
    return graph.node("Where", [whole, place, buckets], f"{name}.places")


def _columns(graph: Graph, source: str, name: str, start: int, end: int) -> str:
    bounds = [graph.constant(f"column.{place}", np.array([place], np.int64)) for place in (start, end)]
    return graph.node("Slice", [source, *bounds, graph.constant("axis.1", np.array([1], np.int64))], name)


def _one_number(number: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([number], np.float32))


def _log_mel(graph: Graph, layer: ly.LogMel, inputs: Sequence[Value], shape: Shape) -> Value:
    value = channels_first(graph, inputs[0])
    basis = _fourier_basis(graph, layer)
    parts = graph.node("Conv", [value.name, basis], f"{layer.name}.parts", strides=[layer.frame_step])
    power = graph.node("Mul", [parts, parts], f"{layer.name}.power")
    filters = mel_filters(layer).T
    weights = graph.constant(f"{layer.name}.filters", filters)
    twice = graph.node("Concat", [weights, weights], f"{layer.name}.twice", axis=1)
    mel = graph.node("MatMul", [twice, power], f"{layer.name}.mel")
    epsilon = graph.constant(f"{layer.name}.epsilon", np.float32(layer.epsilon))
    return Value(
        graph.node("Log", [graph.node("Add", [mel, epsilon], f"{layer.name}.floor")], layer.name), shape, "first"
    )


def _fourier_basis(graph: Graph, layer: ly.LogMel) -> str:
    """Write the windowed cosines and sines as a formula of constants: the runtime folds it when it loads the file."""
    name, length = layer.name, layer.frame_length
    places = graph.constant(f"{name}.places", np.arange(length, dtype=np.int64)[None])
    bins = graph.constant(f"{name}.bins", np.arange(length // 2 + 1, dtype=np.int64)[:, None])
    turn = graph.constant(f"{name}.turn", np.float32(2 * np.pi / length))
    period = graph.constant(f"{name}.period", np.int64(length))
    hann = graph.constant(f"{name}.window", _window_row(layer))
    steps = graph.node("Mod", [graph.node("Mul", [bins, places], f"{name}.products"), period], f"{name}.steps")
    floats = graph.node("Cast", [steps], f"{name}.floats", to=onnx.TensorProto.FLOAT)
    angles = graph.node("Mul", [floats, turn], f"{name}.angles")
    waves = [graph.node(wave, [angles], f"{name}.{wave.lower()}") for wave in ("Cos", "Sin")]
    both = graph.node("Concat", waves, f"{name}.waves", axis=0)
    windowed = graph.node("Mul", [both, hann], f"{name}.windowed")
    return graph.node("Unsqueeze", [windowed, graph.constant("axis.1", np.array([1], np.int64))], f"{name}.basis")


def _window_row(layer: ly.LogMel) -> NDArray[np.float32]:
    return fourier_kernel(layer)[:, 0][None]  # the cosine of bin 0 is 1 everywhere


def _reshape(graph: Graph, layer: ly.Reshape, inputs: Sequence[Value], shape: Shape) -> Value:
    value = channels_last(graph, inputs[0])
    return Value(_reshaped(graph, value.name, layer.name, shape), shape)


def _flatten(graph: Graph, layer: ly.Flatten, inputs: Sequence[Value], shape: Shape) -> Value:
    value = inputs[0]
    flattened = value.shape if value.layout == "first" else value.flattened
    if flattened is not None and (flattened[-1] == 1 or prod(flattened[:-1]) == 1):
        flattened = None  # one channel or one place: both orders are the same
    return Value(graph.node("Flatten", [value.name], layer.name, axis=1), shape, "last", flattened)


def _dense(graph: Graph, layer: ly.Dense, inputs: Sequence[Value], shape: Shape) -> Value:
    value = inputs[0] if len(shape) == 1 else channels_last(graph, inputs[0])
    kernel, order = graph.variable(layer, "kernel"), flat_order(value)
    name = f"{layer.weights_name}/kernel"
    if value.flattened is not None:
        places, channels = prod(value.flattened[:-1]), value.flattened[-1]  # all that the order depends on
        kernel, name = kernel[order], f"{name}.of_{places}x{channels}"
    operands = [value.name, graph.constant(name, kernel)]
    bias = _bias(graph, layer)
    if len(shape) == 1:
        return Value(graph.node("Gemm", [*operands, *bias], layer.name), shape)
    product = graph.node("MatMul", operands, f"{layer.name}.product" if bias else layer.name)
    return Value(graph.node("Add", [product, *bias], layer.name) if bias else product, shape)


def _bias(graph: Graph, layer: ly.WeightedLayer) -> list[str]:
    if not layer.use_bias:
        return []
    return [graph.constant(f"{layer.weights_name}/bias", graph.variable(layer, "bias"))]


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Return how many zeros go before and after an axis so that a window fits ceil(size / stride) times."""
    missing = max((-(-size // stride) - 1) * stride + window - size, 0)
    return missing // 2, missing - missing // 2


def _window(
    shape: Shape, window: Sequence[int], strides: Sequence[int], padding: str, dilation: Sequence[int] | None = None
) -> dict[str, list[int]]:
    """Return the attributes of an operator that slides a window over (places..., channels)."""
    gaps = dilation or [1] * len(window)
    pairs = [(0, 0)] * len(window)
    if padding == "same":
        spans = [gap * (size - 1) + 1 for gap, size in zip(gaps, window, strict=True)]
        pairs = [same_padding(*axis) for axis in zip(shape[:-1], spans, strides, strict=True)]
    pads = [before for before, _ in pairs] + [after for _, after in pairs]
    return {
        "kernel_shape": list(window),
        "strides": list(strides),
        "pads": pads,
        **({"dilations": list(gaps)} if dilation else {}),
    }


def _each_axis(value: int | tuple[int, ...], axes: int) -> list[int]:
    return list(value) if isinstance(value, tuple) else [value] * axes


def _convolve(graph: Graph, layer: ly.Conv1D | ly.Conv2D, inputs: Sequence[Value], shape: Shape) -> Value:
    value = channels_first(graph, inputs[0])
    axes = len(shape) - 1
    window, strides, dilation = (_each_axis(v, axes) for v in (layer.kernel_size, layer.strides, layer.dilation))
    kernel = np.moveaxis(graph.variable(layer, "kernel"), (-1, -2), (0, 1))
    operands = [value.name, graph.constant(f"{layer.weights_name}/kernel", kernel), *_bias(graph, layer)]
    attributes = _window(value.shape, window, strides, layer.padding, dilation)
    return Value(graph.node("Conv", operands, layer.name, group=layer.groups, **attributes), shape, "first")


def _depthwise_kernel(kernel: NDArray[Any]) -> NDArray[Any]:
    """Turn (window..., channels, multiplier) into (channels * multiplier, 1, window...)."""
    *window, channels, multiplier = kernel.shape
    return np.moveaxis(kernel, (-2, -1), (0, 1)).reshape(channels * multiplier, 1, *window)


def _depthwise(
    graph: Graph,
    layer: ly.DepthwiseConv2D | ly.SeparableConv1D | ly.SeparableConv2D,
    value: Value,
    name: str,
    bias: list[str],
) -> str:
    axes = len(value.shape) - 1
    kernel = _depthwise_kernel(graph.variable(layer, "depthwise_kernel"))
    weights = graph.constant(f"{layer.weights_name}/depthwise_kernel", kernel)
    window = _each_axis(layer.kernel_size, axes)
    attributes = _window(value.shape, window, _each_axis(layer.strides, axes), layer.padding)
    return graph.node("Conv", [value.name, weights, *bias], name, group=value.shape[-1], **attributes)


def _depthwise_conv(graph: Graph, layer: ly.DepthwiseConv2D, inputs: Sequence[Value], shape: Shape) -> Value:
    value = channels_first(graph, inputs[0])
    return Value(_depthwise(graph, layer, value, layer.name, _bias(graph, layer)), shape, "first")


def _separable(
    graph: Graph, layer: ly.SeparableConv1D | ly.SeparableConv2D, inputs: Sequence[Value], shape: Shape
) -> Value:
    value = channels_first(graph, inputs[0])
    depthwise = _depthwise(graph, layer, value, f"{layer.name}.depthwise", [])
    kernel = np.moveaxis(graph.variable(layer, "pointwise_kernel"), (-1, -2), (0, 1))
    weights = graph.constant(f"{layer.weights_name}/pointwise_kernel", kernel)
    return Value(graph.node("Conv", [depthwise, weights, *_bias(graph, layer)], layer.name), shape, "first")


def _batch_norm(graph: Graph, layer: ly.BatchNorm, inputs: Sequence[Value], _: Shape) -> Value:
    value = channels_first(graph, inputs[0])
    if value.flattened is not None:
        value = channels_last(graph, value)
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    numbers = [graph.constant(f"{layer.weights_name}/{name}", graph.variable(layer, name)) for name in names]
    name = graph.node("BatchNormalization", [value.name, *numbers], layer.name, epsilon=layer.epsilon)
    return replace(value, name=name)


def _pool(operator: str) -> "Lowering":
    def lower_pool(graph: Graph, layer: ly.Pool1D | ly.Pool2D, inputs: Sequence[Value], shape: Shape) -> Value:
        value = channels_first(graph, inputs[0])
        window = _each_axis(layer.pool_size, len(shape) - 1)
        strides = _each_axis(layer.strides, len(shape) - 1) if layer.strides else window
        attributes = _window(value.shape, window, strides, layer.padding)
        return Value(graph.node(operator, [value.name], layer.name, **attributes), shape, "first")

    return lower_pool


def _global_pool(operator: str) -> "Lowering":
    def lower_pool(graph: Graph, layer: ly.GlobalPool, inputs: Sequence[Value], shape: Shape) -> Value:
        pooled = graph.node(operator, [channels_first(graph, inputs[0]).name], f"{layer.name}.pooled")
        return Value(graph.node("Flatten", [pooled], layer.name, axis=1), shape)

    return lower_pool


def _aligned(graph: Graph, inputs: Sequence[Value]) -> list[Value]:
    """Bring several values to one layout: channels first if one of them is, and vectors in the network's order."""
    if any(value.layout == "first" for value in inputs):
        return [channels_first(graph, value) for value in inputs]
    if len({value.flattened for value in inputs}) == 1 and len({value.shape for value in inputs}) == 1:
        return list(inputs)
    return [channels_last(graph, value) for value in inputs]


def _add(graph: Graph, layer: ly.Add, inputs: Sequence[Value], _: Shape) -> Value:
    values = _aligned(graph, inputs)
    return replace(values[0], name=graph.node("Sum", [value.name for value in values], layer.name))


def _concat(graph: Graph, layer: ly.Concat, inputs: Sequence[Value], shape: Shape) -> Value:
    values = _aligned(graph, [channels_last(graph, value) if value.flattened else value for value in inputs])
    layout = values[0].layout
    axis = 1 if layout == "first" else len(shape)
    return Value(graph.node("Concat", [value.name for value in values], layer.name, axis=axis), shape, layout)


Lowering = Callable[[Graph, Any, Sequence[Value], Shape], Value]
_LOWERINGS: dict[str, Lowering] = {
    "standardize": _standardize,
    "rescale": _rescale,
    "embedding": _embedding,
    "hashed_ngrams": _hashed_ngrams,
    "log_mel": _log_mel,
    "reshape": _reshape,
    "conv1d": _convolve,
    "conv2d": _convolve,
    "depthwise_conv2d": _depthwise_conv,
    "separable_conv1d": _separable,
    "separable_conv2d": _separable,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "activation": _same,
    "max_pool1d": _pool("MaxPool"),
    "max_pool2d": _pool("MaxPool"),
    "avg_pool1d": _pool("AveragePool"),
    "avg_pool2d": _pool("AveragePool"),
    "global_avg_pool": _global_pool("GlobalAveragePool"),
    "global_max_pool": _global_pool("GlobalMaxPool"),
    "flatten": _flatten,
    "dropout": _same,
    "add": _add,
    "concat": _concat,
}
