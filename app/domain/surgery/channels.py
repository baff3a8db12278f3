"""Which channels of a network have to go together, and their removal: pure functions of declarations and arrays.

Every place along the last axis of every output gets a label. Whatever forces two places to be kept or removed together
(a sum, a variable that is used twice, a depthwise kernel between them) gives them one label, which is a channel here;
what may never be removed (the network's input, its answer) is labelled KEPT.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain import layers as ly
from app.domain.layer_base import Shape
from app.domain.layers import Layer
from app.domain.network import INPUT, Network, trace
from app.domain.surgery.rewriting import Weights, rewrite

Labels: TypeAlias = NDArray[np.intp]
Axes: TypeAlias = tuple[Labels | None, ...]
KEPT = -1
_FIXED = 0


@dataclass(frozen=True)
class Channels:
    """Hold what the channels of a network reach; they are numbered from 0 to `count`.

    `outputs[layer]` labels the last axis of each layer's output and of the input, `axes["weights/variable"]` every axis
    of each variable (None: an axis that is not one of channels). `makers[weights]` are the channels that the variables
    of one name produce, in order.
    """

    count: int
    outputs: Mapping[str, Labels]
    axes: Mapping[str, Axes]
    makers: Mapping[str, Labels]

    @property
    def reached(self) -> dict[str, Labels]:
        """Return the removable channels that each name's variables produce, each once."""
        found = {owner: np.unique(labels[labels != KEPT]) for owner, labels in self.makers.items()}
        return {owner: labels for owner, labels in found.items() if len(labels)}


def find_channels(network: Network) -> Channels:
    """Label the channels of a network, through residual sums, concatenations, Flatten, groups and shared variables."""
    walk = _Walk()
    shapes = trace(network).shapes
    outputs: dict[str, Labels] = {INPUT: np.full(network.input.shape[-1], _FIXED)}
    for layer in network.layers:
        inputs = [outputs[name] for name in layer.inputs]
        outputs[layer.name] = _RULES.get(layer.type, _pass_on)(walk, layer, inputs, shapes)
    walk.join(outputs[network.layers[-1].name], _FIXED)
    return walk.numbered(outputs)


def remove_channels(
    network: Network, weights: Weights, channels: Channels, kept: NDArray[np.bool_]
) -> tuple[Network, dict[str, NDArray[Any]]]:
    """Keep only the channels for which `kept` (count,) is true: smaller layers, and the slices of their variables.

    Where the others answered zero for every row, the network computes what it computed before.
    """
    lasting = np.append(kept, values=True)  # where KEPT, the last place, points

    def left(labels: Labels) -> NDArray[np.bool_]:
        return lasting[labels]

    def shrink(layer: Layer) -> list[Layer]:
        whole = channels.axes.get(f"{layer.weights_name}/kernel", (None, None))[-2] is None
        return [layer.model_copy(update=_sizes(layer, left(channels.outputs[layer.name]), whole_groups=whole))]

    return rewrite(network, shrink), {
        name: _cut(value, channels.axes.get(name, ()), left) for name, value in weights.items()
    }


def _cut(value: NDArray[Any], axes: Axes, left: Callable[[Labels], NDArray[np.bool_]]) -> NDArray[Any]:
    for axis, labels in enumerate(axes):
        if labels is not None:
            value = np.compress(left(labels), value, axis=axis)
    return value


def _sizes(layer: Layer, kept: NDArray[np.bool_], *, whole_groups: bool) -> dict[str, object]:
    """Return the fields of a layer that say how many channels it answers."""
    number = int(kept.sum())
    match layer:
        case ly.Conv1D() | ly.Conv2D():
            groups = int(kept[:: layer.filters // layer.groups].sum()) if whole_groups else layer.groups
            return {"filters": number, "groups": groups}
        case ly.SeparableConv1D() | ly.SeparableConv2D():
            return {"filters": number}
        case ly.Dense():
            return {"units": number}
        case ly.Embedding():
            return {"width": number}
        case ly.Reshape():
            return {"shape": (*layer.shape[:-1], number)}
        case _:
            return {}


class _Walk:
    """Collect labels while the layers are walked through; labels that are joined become one in the end."""

    def __init__(self) -> None:
        self._joined = [_FIXED]
        self._makers: dict[str, Labels] = {}
        self._axes: dict[str, Axes] = {}

    def made(self, layer: Layer, size: int) -> Labels:
        """Return the labels of what a layer's variables produce: new ones, or those of the name's first use."""
        if layer.weights_name not in self._makers:
            start = len(self._joined)
            self._joined.extend(range(start, start + size))
            self._makers[layer.weights_name] = np.arange(start, start + size)
        return self._makers[layer.weights_name]

    def join(self, labels: Labels, others: Labels | int) -> None:
        """Let each label be one with the other at its place."""
        for one, other in np.broadcast(labels, others):
            first, second = sorted((self._root(int(one)), self._root(int(other))))
            self._joined[second] = first

    def variables(self, layer: Layer, **axes: Axes) -> None:
        """Note the labels along a layer's variables; those of a shared variable are joined with those of its others."""
        for name, own in axes.items():
            known = self._axes.setdefault(f"{layer.weights_name}/{name}", own)
            for labels, others in zip(known, own, strict=True):
                if labels is not None and others is not None and labels is not others:
                    self.join(labels, others)

    def numbered(self, outputs: Mapping[str, Labels]) -> Channels:
        """Number the channels in the order in which the layers produce them."""
        roots = np.array([self._root(label) for label in range(len(self._joined))])
        removable = np.unique(roots[roots != _FIXED])
        numbers = np.full(len(roots), KEPT)
        numbers[removable] = np.arange(len(removable))
        resolved = numbers[roots]

        def along(axes: Axes) -> Axes:
            return tuple(None if labels is None else resolved[labels] for labels in axes)

        return Channels(
            len(removable),
            {name: resolved[labels] for name, labels in outputs.items()},
            {name: along(axes) for name, axes in self._axes.items()},
            {owner: resolved[labels] for owner, labels in self._makers.items()},
        )

    def _root(self, label: int) -> int:
        while self._joined[label] != label:
            self._joined[label] = self._joined[self._joined[label]]
            label = self._joined[label]
        return label


Shapes: TypeAlias = Mapping[str, Shape]
Rule: TypeAlias = Callable[[_Walk, Any, Sequence[Labels], Shapes], Labels]


def _pass_on(_: _Walk, __: Layer, inputs: Sequence[Labels], ___: Shapes) -> Labels:
    return inputs[0]


def _per_channel(*names: str) -> Rule:
    def rule(walk: _Walk, layer: Layer, inputs: Sequence[Labels], _: Shapes) -> Labels:
        walk.variables(layer, **dict.fromkeys(names, (inputs[0],)))
        return inputs[0]

    return rule


def _embedding(walk: _Walk, layer: ly.Embedding, _: Sequence[Labels], __: Shapes) -> Labels:
    made = walk.made(layer, layer.width)
    walk.variables(layer, embeddings=(None, made))
    return made


def _hashed_ngrams(_: _Walk, layer: ly.HashedNGrams, __: Sequence[Labels], ___: Shapes) -> Labels:
    return np.full(layer.buckets, _FIXED)


def _log_mel(walk: _Walk, layer: ly.LogMel, inputs: Sequence[Labels], _: Shapes) -> Labels:
    walk.join(inputs[0], _FIXED)
    return np.full(layer.mel_bins, _FIXED)


def _dense(walk: _Walk, layer: ly.Dense, inputs: Sequence[Labels], _: Shapes) -> Labels:
    made = walk.made(layer, layer.units)
    walk.variables(layer, kernel=(inputs[0], made), bias=(made,))
    return made


def _conv(walk: _Walk, layer: ly.Conv1D | ly.Conv2D, inputs: Sequence[Labels], _: Shapes) -> Labels:
    made = walk.made(layer, layer.filters)
    window: Axes = (None,) * _spatial_axes(layer)
    entering, leaving = inputs[0].reshape(layer.groups, -1), made.reshape(layer.groups, -1)
    if layer.groups > 1 and 1 in (entering.shape[1], leaving.shape[1]):  # such groups go as a whole
        walk.join(entering, leaving[:, :1])
        walk.join(leaving, leaving[:, :1])
        walk.variables(layer, kernel=(*window, None, made), bias=(made,))
        return made
    # Every group must keep as many channels as the others, so the same places of all groups stay or go together.
    walk.join(entering, entering[0])
    walk.join(leaving, leaving[0])
    walk.variables(layer, kernel=(*window, entering[0], made), bias=(made,))
    return made


def _depthwise(walk: _Walk, layer: ly.DepthwiseConv2D, inputs: Sequence[Labels], _: Shapes) -> Labels:
    leaving = np.repeat(inputs[0], layer.depth_multiplier)
    walk.variables(layer, depthwise_kernel=(None, None, inputs[0], None), bias=(leaving,))
    return leaving


def _separable(
    walk: _Walk, layer: ly.SeparableConv1D | ly.SeparableConv2D, inputs: Sequence[Labels], _: Shapes
) -> Labels:
    made = walk.made(layer, layer.filters)
    window: Axes = (None,) * _spatial_axes(layer)
    between = np.repeat(inputs[0], layer.depth_multiplier)
    depthwise: Axes = (*window, inputs[0], None)
    walk.variables(layer, depthwise_kernel=depthwise, pointwise_kernel=(*window, between, made), bias=(made,))
    return made


def _spatial_axes(layer: Layer) -> int:
    return 1 if isinstance(layer, ly.Conv1D | ly.SeparableConv1D) else 2


def _flatten(_: _Walk, layer: ly.Flatten, inputs: Sequence[Labels], shapes: Shapes) -> Labels:
    return np.tile(inputs[0], prod(shapes[layer.inputs[0]][:-1]))


def _reshape(walk: _Walk, layer: ly.Reshape, inputs: Sequence[Labels], _: Shapes) -> Labels:
    """Follow channels that stay whole along the last axis; where they are split over several axes they stay."""
    before, after = len(inputs[0]), layer.shape[-1]
    if after % before == 0:
        return np.tile(inputs[0], after // before)
    walk.join(inputs[0], _FIXED)
    return np.full(after, _FIXED)


def _add(walk: _Walk, _: ly.Add, inputs: Sequence[Labels], __: Shapes) -> Labels:
    for labels in inputs[1:]:
        walk.join(inputs[0], labels)
    return inputs[0]


def _concat(_: _Walk, __: ly.Concat, inputs: Sequence[Labels], ___: Shapes) -> Labels:
    return np.concatenate(inputs)


_RULES: dict[str, Rule] = {
    "standardize": _per_channel("mean", "deviation"),
    "batch_norm": _per_channel("gamma", "beta", "moving_mean", "moving_variance"),
    "embedding": _embedding,
    "hashed_ngrams": _hashed_ngrams,
    "log_mel": _log_mel,
    "dense": _dense,
    "conv1d": _conv,
    "conv2d": _conv,
    "depthwise_conv2d": _depthwise,
    "separable_conv1d": _separable,
    "separable_conv2d": _separable,
    "flatten": _flatten,
    "reshape": _reshape,
    "add": _add,
    "concat": _concat,
}
