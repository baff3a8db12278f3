"""Several networks of one architecture as one model: stacked variables, each with its own rows and dropout."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.domain import layers as ly
from app.domain.layers import Layer
from app.domain.network import INPUT, Network, trace
from worker.nn.architectures import build_layer, build_model, seed_of, variables_by_name
from worker.nn.stacked_layers import FORWARD, moments_of, normalize, pool, pools_side_by_side

Tensor: TypeAlias = keras.KerasTensor
Weights: TypeAlias = Mapping[str, NDArray[Any]]
_JOINED = ("add", "concat")


def stackable(network: Network) -> bool:
    """Say whether every layer of a network can be computed for several members at once."""
    return all(_fits(layer) for layer in network.layers)


def _fits(layer: Layer) -> bool:
    # Optimizers move only those vectors of an embedding that a batch has looked up; stacked ones would all move.
    return layer.type != "embedding" and getattr(layer, "groups", 1) == 1 and getattr(layer, "depth_multiplier", 1) == 1


class _Mask:
    """Draw the masks of one dropout of one member."""

    def __init__(self, rate: float, shape: tuple[int, ...], seed: int) -> None:
        self._rate, self._shape = rate, shape
        self.seed = keras.random.SeedGenerator(seed)

    def draw(self, rows: Tensor) -> Tensor:
        """Return (rows, *shape): 0 where a number is dropped, else what the others are multiplied by."""
        return keras.random.dropout(ops.ones((rows, *self._shape)), self._rate, seed=self.seed)


class StackedModel(keras.layers.Layer):
    """Answer (rows, members, outputs) for (rows, members, *shape): every member sees its own rows.

    `starts` hold, per member, values of variables that do not start at random by its seed.
    """

    def __init__(self, network: Network, starts: Sequence[Weights], seeds: Sequence[int]) -> None:
        super().__init__(name="stacked")
        self._network = network
        models = [build_model(network, start, seed=seed) for start, seed in zip(starts, seeds, strict=True)]
        by_name = {name: self._add(name, models) for name in variables_by_name(models[0])}
        of_layer: dict[str, dict[str, keras.Variable]] = defaultdict(dict)
        for name, variable in by_name.items():
            layer, _, own = name.rpartition("/")
            of_layer[layer][own] = variable
        self._by_name, self._of_layer = by_name, dict(of_layer)
        shapes = trace(network).shapes
        self._dropout = {
            layer.name: [_Mask(layer.rate, shapes[layer.name], seed_of(seed, layer.weights_name)) for seed in seeds]
            for layer in network.layers
            if isinstance(layer, ly.Dropout) and layer.rate
        }
        # Keras finds no generators within other objects, and a checkpoint needs them.
        self._generators = [mask.seed for masks in self._dropout.values() for mask in masks]
        self._plain = {layer.name: build_layer(layer, 0) for layer in network.layers if self._is_plain(layer)}
        self.built = True

    def _add(self, name: str, models: Sequence[keras.Model]) -> keras.Variable:
        alone = [variables_by_name(model)[name] for model in models]
        values = np.stack([ops.convert_to_numpy(variable) for variable in alone])
        # The last part of the name decides what weight decay leaves alone.
        own, trainable = name.rpartition("/")[2], alone[0].trainable
        made = self.add_weight(shape=values.shape, dtype=values.dtype, trainable=trainable, name=own)
        made.assign(values)
        return made

    def _is_plain(self, layer: Layer) -> bool:
        special = isinstance(layer, ly.Dropout | ly.BatchNorm) or layer.type in (*FORWARD, *_JOINED)
        return not special and not pools_side_by_side(layer)

    def draw_masks(self, rows: Tensor) -> list[Tensor]:
        """Draw (members, rows, ...) of 0 and 1 / (1 - rate) for every dropout: what each member would drop alone."""
        return [ops.stack([mask.draw(rows) for mask in masks]) for masks in self._dropout.values()]

    def call(self, x: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Answer logits or predictions; with the masks of `draw_masks` as in training."""
        drops = None if masks is None else dict(zip(self._dropout, masks, strict=True))
        tensors: dict[str, Tensor] = {INPUT: _swapped(x)}
        for layer in self._network.layers:
            found = self._apply(layer, [tensors[name] for name in layer.inputs], drops)
            tensors[layer.name] = _activated(layer, found)
        return _swapped(tensors[self._network.layers[-1].name])

    def _apply(self, layer: Layer, inputs: list[Tensor], drops: Mapping[str, Tensor] | None) -> Tensor:
        x = inputs[0]
        weights = self._of_layer.get(layer.weights_name, {})
        if layer.type in FORWARD:
            return FORWARD[layer.type](layer, weights, x)
        if layer.type in _JOINED:
            return sum(inputs[1:], x) if layer.type == "add" else ops.concatenate(inputs, axis=-1)
        if isinstance(layer, ly.BatchNorm):
            return self._normalize(layer, weights, x, training=drops is not None)
        if isinstance(layer, ly.Dropout):
            return x * drops[layer.name] if drops and layer.rate else x
        if pools_side_by_side(layer):
            return pool(layer, x, largest=layer.type.startswith("max"))
        folded = self._plain[layer.name](ops.reshape(x, (-1, *x.shape[2:])))
        return ops.reshape(folded, (x.shape[0], -1, *folded.shape[1:]))

    def _normalize(self, layer: ly.BatchNorm, weights: Mapping[str, Any], x: Tensor, *, training: bool) -> Tensor:
        if not training:
            return normalize(layer, weights, x, None)
        moments = moments_of(x)
        for name, new in zip(("moving_mean", "moving_variance"), moments, strict=True):
            weights[name].assign(weights[name] * layer.momentum + new * (1 - layer.momentum))
        return normalize(layer, weights, x, moments)

    @property
    def named(self) -> dict[str, keras.Variable]:
        """Return the stacked variables under their names at rest, without the dropout's seeds."""
        return self._by_name

    @property
    def input_dtype_of_rows(self) -> str:
        """Return the type in which the first layer takes raw rows."""
        return self._network.input.dtype


def _swapped(x: Tensor) -> Tensor:
    """Exchange rows and members."""
    return ops.transpose(x, (1, 0, *range(2, len(x.shape))))


def _activated(layer: Layer, tensor: Tensor) -> Tensor:
    activation = getattr(layer, "activation", "linear")
    if activation == "linear" or isinstance(layer, ly.Activation):
        return tensor
    return keras.activations.get(activation)(tensor)
