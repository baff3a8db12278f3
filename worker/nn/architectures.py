"""Build Keras models from networks."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain import layers as ly
from app.domain.errors import ShapeMismatchError
from app.domain.layers import Layer
from app.domain.network import INPUT, Network, trace
from worker.nn import keras_layers

Tensor = keras.KerasTensor
Weights = Mapping[str, NDArray[Any]]
Build = Callable[[Any, str, int], keras.layers.Layer]


def build_model(network: Network, weights: Weights | None = None, *, seed: int) -> keras.Model:
    """Return the Keras model of a network: raw rows (channels last) in, logits or prediction out.

    Layers of one `weights` name are one Keras layer, so that they share variables, not values. Variables that `weights`
    does not name start at random, depending on the seed and their name alone. Raise ShapeMismatchError for weights that
    the network does not have.
    """
    trace(network)
    row = keras.Input(network.input.shape, dtype=network.input.dtype, name="input.rows")
    tensors: dict[str, Tensor] = {INPUT: row}
    built: dict[str, keras.layers.Layer] = {}
    for layer in network.layers:
        if layer.weights_name not in built:
            built[layer.weights_name] = build_layer(layer, seed)
        inputs = [tensors[name] for name in layer.inputs]
        tensors[layer.name] = _activated(layer, built[layer.weights_name](inputs if len(inputs) > 1 else inputs[0]))
    model = keras.Model(row, tensors[network.layers[-1].name], name="network")
    load_weights(model, weights or {})
    return model


def variables_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the Keras variables under their names at rest, "weights/variable"; a shared variable has one name."""
    return {
        f"{layer.name}/{_rest_name(layer, variable)}": variable for layer in model.layers for variable in layer.weights
    }


def extract_weights(model: keras.Model) -> dict[str, NDArray[Any]]:
    """Return the values of all variables under their names at rest."""
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in variables_by_name(model).items()}


def load_weights(model: keras.Model, weights: Weights) -> None:
    """Set the variables that `weights` names; raise ShapeMismatchError for a name or shape that the model has not."""
    variables = variables_by_name(model)
    for name, values in weights.items():
        if name not in variables:
            raise ShapeMismatchError(f"The network has no variable {name!r}.")
        if tuple(variables[name].shape) != values.shape:
            raise ShapeMismatchError(
                f"Variable {name!r} has the shape {tuple(variables[name].shape)}, the weights {values.shape}."
            )
        variables[name].assign(values)


def predict(model: keras.Model, rows: NDArray[Any], *, batch_size: int = 512) -> NDArray[np.float32]:
    """Answer logits or predictions (rows, outputs) for raw rows, which may be memory-mapped; dropout is off."""
    dtype = model.inputs[0].dtype
    starts = range(0, len(rows), batch_size)
    answers = [model.predict_on_batch(rows[start : start + batch_size].astype(dtype)) for start in starts]
    return np.concatenate(answers) if answers else np.zeros((0, *model.output_shape[1:]), np.float32)


def _rest_name(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    return (
        "depthwise_kernel"
        if isinstance(layer, keras.layers.DepthwiseConv2D) and variable.name == "kernel"
        else variable.name
    )


def _activated(layer: Layer, tensor: Tensor) -> Tensor:
    """Apply a layer's activation apart from it, so that layers that share weights may have different ones."""
    activation = getattr(layer, "activation", "linear")
    if activation == "linear" or isinstance(layer, ly.Activation):
        return tensor
    return keras.layers.Activation(activation, name=f"{layer.name}.{activation}")(tensor)


def seed_of(seed: int, name: str) -> int:
    """Return a seed that depends on the model's seed and a name: adding a layer leaves the others' start unchanged."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0] & 0x7FFFFFFF)


def build_layer(layer: Layer, seed: int) -> keras.layers.Layer:
    """Return the Keras layer of a layer, without its activation; its weights start by the model's seed and its name."""
    return _BUILDERS[layer.type](layer, layer.weights_name, seed_of(seed, layer.weights_name))


def _kernel_options(layer: ly.WeightedLayer, seed: int, *kernels: str) -> dict[str, Any]:
    starts = {
        f"{kernel}_initializer": keras.initializers.GlorotUniform(seed + index) for index, kernel in enumerate(kernels)
    }
    return {"use_bias": layer.use_bias, **starts}


def _dense(layer: ly.Dense, name: str, seed: int) -> keras.layers.Layer:
    return keras.layers.Dense(layer.units, name=name, **_kernel_options(layer, seed, "kernel"))


def _conv(kind: Callable[..., keras.layers.Layer]) -> Build:
    def build(layer: ly.Conv1D | ly.Conv2D, name: str, seed: int) -> keras.layers.Layer:
        return kind(
            layer.filters,
            layer.kernel_size,
            strides=layer.strides,
            dilation_rate=layer.dilation,
            groups=layer.groups,
            padding=layer.padding,
            data_format="channels_last",
            name=name,
            **_kernel_options(layer, seed, "kernel"),
        )

    return build


def _depthwise(layer: ly.DepthwiseConv2D, name: str, seed: int) -> keras.layers.Layer:
    return keras.layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        data_format="channels_last",
        name=name,
        **_kernel_options(layer, seed, "depthwise"),
    )


def _separable(kind: Callable[..., keras.layers.Layer]) -> Build:
    def build(layer: ly.SeparableConv1D | ly.SeparableConv2D, name: str, seed: int) -> keras.layers.Layer:
        return kind(
            layer.filters,
            layer.kernel_size,
            strides=layer.strides,
            padding=layer.padding,
            depth_multiplier=layer.depth_multiplier,
            data_format="channels_last",
            name=name,
            **_kernel_options(layer, seed, "depthwise", "pointwise"),
        )

    return build


def _pool(kind: Callable[..., keras.layers.Layer]) -> Build:
    def build(layer: ly.Pool1D | ly.Pool2D, name: str, _: int) -> keras.layers.Layer:
        return kind(
            layer.pool_size, strides=layer.strides, padding=layer.padding, data_format="channels_last", name=name
        )

    return build


def _batch_norm(layer: ly.BatchNorm, name: str, _: int) -> keras.layers.Layer:
    return keras.layers.BatchNormalization(momentum=layer.momentum, epsilon=layer.epsilon, name=name)


def _named(kind: Callable[..., keras.layers.Layer], *fields: str) -> Build:
    def build(layer: Layer, name: str, _: int) -> keras.layers.Layer:
        return kind(*(getattr(layer, field) for field in fields), name=name)

    return build


def _global_pool(kind: str) -> Build:
    def build(_: Layer, name: str, __: int) -> keras.layers.Layer:
        return keras_layers.GlobalPool(kind, name=name)

    return build


_BUILDERS: dict[str, Build] = {
    "standardize": _named(keras_layers.Standardize),
    "rescale": _named(keras.layers.Rescaling, "scale", "offset"),
    "embedding": lambda layer, name, seed: keras_layers.ClippedEmbedding(
        layer.vocabulary, layer.width, embeddings_initializer=keras.initializers.RandomUniform(seed=seed), name=name
    ),
    "hashed_ngrams": lambda layer, name, _: keras_layers.HashedNGrams(layer, name=name),
    "log_mel": lambda layer, name, _: keras_layers.LogMel(layer, name=name),
    "reshape": _named(keras.layers.Reshape, "shape"),
    "conv1d": _conv(keras.layers.Conv1D),
    "conv2d": _conv(keras.layers.Conv2D),
    "depthwise_conv2d": _depthwise,
    "separable_conv1d": _separable(keras.layers.SeparableConv1D),
    "separable_conv2d": _separable(keras.layers.SeparableConv2D),
    "dense": _dense,
    "batch_norm": _batch_norm,
    "activation": _named(keras.layers.Activation, "activation"),
    "max_pool1d": _pool(keras.layers.MaxPooling1D),
    "max_pool2d": _pool(keras.layers.MaxPooling2D),
    "avg_pool1d": _pool(keras.layers.AveragePooling1D),
    "avg_pool2d": _pool(keras.layers.AveragePooling2D),
    "global_avg_pool": _global_pool("average"),
    "global_max_pool": _global_pool("max"),
    "flatten": _named(keras.layers.Flatten),
    "dropout": lambda layer, name, seed: keras.layers.Dropout(layer.rate, seed=seed, name=name),
    "add": _named(keras.layers.Add),
    "concat": _named(keras.layers.Concatenate),
}
