"""Say what contributes least to a network: its channels, or single weights. Pure functions of arrays."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain.job_errors import MethodNotApplicableError
from app.domain.layers import Conv2D, SeparableConv2D
from app.domain.network import Network, trace
from app.domain.optimize_specs import PruneOptions
from app.domain.surgery.channels import KEPT, Channels, Labels, find_channels
from app.domain.surgery.rewriting import Weights

Criterion: TypeAlias = Literal["l1", "l2", "bn_gamma", "taylor"]
Numbers: TypeAlias = NDArray[np.float64]
# A layer keeps at least two channels, and a quarter of what it would keep if all layers lost the same share.
LEAST_CHANNELS, LEAST_SHARE = 2, 0.25
# A filter of less than this share of its layer's largest is one that training or an earlier step has switched off.
DEAD = 1e-6
# ONNX Runtime computes convolutions of images in blocks of so many channels: 17 cost it more than 24.
BLOCK = 8
# Filling blocks may take at most this share of what a layer keeps, and move the network by this share of its channels.
_MOST_TAKEN, _MOST_MOVED = 1 / 8, 0.03
_PRODUCING = ("kernel", "pointwise_kernel", "embeddings")


@dataclass(frozen=True)
class Budget:
    """Say how many channels a network has to begin with, and how few each layer may keep."""

    channels: int
    least: Mapping[str, int]


def check_prunable(network: Network, options: PruneOptions) -> None:
    """Raise MethodNotApplicableError when nothing of a network could be removed; its weights are not needed."""
    if options.structure == "unstructured":
        _check_unstructured(network, options)
        return
    channels = find_channels(network)
    budget = plan_budget(channels, options.ratio)
    if not round(options.ratio * channels.count) or all(
        len(own) <= budget.least[owner] for owner, own in channels.reached.items()
    ):
        raise MethodNotApplicableError(
            f"Of the network's {channels.count} removable channels none can go: the layer that answers and what is "
            f"tied to the network's input stay, and so do at least {LEAST_CHANNELS} channels of every layer.",
            hint="Prune a network with hidden layers, ask for a higher `ratio`, or prune unstructured.",
        )
    if options.criterion == "bn_gamma":
        _check_normalized(channels, trace(network).variables)


def _check_unstructured(network: Network, options: PruneOptions) -> None:
    if options.criterion in ("bn_gamma", "taylor"):
        raise MethodNotApplicableError(
            f"The criterion {options.criterion} scores whole channels, not single weights.",
            hint="Leave `criterion` out: single weights go by their magnitude.",
        )
    if not kernels_of(trace(network).variables):
        raise MethodNotApplicableError("The network has no kernel whose weights could become zero.")


def _check_normalized(channels: Channels, variables: Iterable[str]) -> None:
    normalized = [channels.axes[name][0] for name in variables if name.endswith("/gamma")]
    covered = np.concatenate([np.array([], np.intp), *(labels for labels in normalized if labels is not None)])
    bare = [owner for owner, own in channels.reached.items() if not np.isin(own, covered).all()]
    if bare:
        raise MethodNotApplicableError(
            f"Not every channel of layer {bare[0]!r} is scaled by a batch normalization, so bn_gamma cannot score it.",
            hint=f"Without one: {', '.join(bare)}. Use the criterion l2 or taylor.",
        )


def plan_budget(channels: Channels, ratio: float) -> Budget:
    """Count the channels, and bound from below what each layer keeps: no layer becomes a bottleneck of one channel."""
    least = {
        owner: min(len(own), max(LEAST_CHANNELS, ceil(LEAST_SHARE * (1 - ratio) * len(own))))
        for owner, own in channels.reached.items()
    }
    return Budget(channels.count, least)


def choose_channels(channels: Channels, scores: Numbers, remove: int, least: Mapping[str, int]) -> NDArray[np.bool_]:
    """Return which channels are kept when the `remove` lowest scores of all layers go, as far as `least` lets them."""
    kept = np.ones(channels.count, np.bool_)
    left = {owner: len(own) for owner, own in channels.reached.items()}
    owners: list[list[str]] = [[] for _ in range(channels.count)]
    for owner, own in channels.reached.items():
        for channel in own:
            owners[channel].append(owner)
    for channel in np.argsort(scores, kind="stable"):
        if remove <= 0:
            break
        if all(left[owner] > least[owner] for owner in owners[channel]):
            kept[channel] = False
            remove -= 1
            for owner in owners[channel]:
                left[owner] -= 1
    return kept


def fill_blocks(
    network: Network, channels: Channels, scores: Numbers, kept: NDArray[np.bool_], budget: Budget
) -> NDArray[np.bool_]:
    """Let convolutions of images keep whole blocks of channels, as far as the share that was asked for allows it.

    The widest layers come first, and each is filled or cut so that the network stays nearest to what `kept` leaves of
    it. A layer of few blocks is never cut by much: it grows or stays, and so does one that would move the network by
    more than three points. Layers that are tied to a part of another layer's channels are left alone.
    """
    filled = kept.copy()
    most, moved = round(_MOST_MOVED * budget.channels), 0
    for owner in _in_blocks(network, channels, kept):
        own = channels.reached[owner]
        number = int(filled[own].sum())
        sizes = [
            size for size in _whole_blocks(number, len(own), budget.least[owner]) if abs(moved + size - number) <= most
        ]
        if not sizes:
            continue
        size = min(sizes, key=lambda size: abs(moved + size - number))
        moved += size - number
        filled[own] = False
        filled[own[np.argsort(-scores[own], kind="stable")][:size]] = True
    return filled


def _in_blocks(network: Network, channels: Channels, kept: NDArray[np.bool_]) -> list[str]:
    """Return the names of the convolutions of images that keep a block or more, the widest first."""
    found: dict[str, int] = {}
    for layer in network.layers:
        own = channels.reached.get(layer.weights_name, np.array([], np.intp))
        number = int(kept[own].sum())
        if isinstance(layer, Conv2D | SeparableConv2D) and number >= BLOCK and _is_apart(own, channels):
            found[layer.weights_name] = number
    return sorted(found, key=lambda owner: -found[owner])


def _whole_blocks(number: int, most: int, least: int) -> list[int]:
    """Return the whole blocks around a number of channels that a layer may keep, the larger first."""
    down = BLOCK * (number // BLOCK)
    up = BLOCK * ceil(number / BLOCK)
    may_shrink = down >= least and number - down <= _MOST_TAKEN * number
    return [*([up] if up <= most else []), *([down] if may_shrink else [])]


def _is_apart(own: Labels, channels: Channels) -> bool:
    """Say whether every layer that makes some of these channels makes all of them and no others."""
    touching = [labels for labels in channels.makers.values() if np.isin(labels, own).any()]
    return all(len(labels) == len(own) and np.isin(labels, own).all() for labels in touching)


def score_channels(channels: Channels, weights: Weights, criterion: Literal["l1", "l2", "bn_gamma"]) -> Numbers:
    """Score channels by the size of the variables that produce (or scale) them, in standard deviations of their layer.

    l1 and l2 are norms of each filter (Li et al. 2017); bn_gamma is |gamma| (Liu et al. 2017). Filters of many weights
    have norms that hardly differ: only as standard scores do layers compare. A channel that several layers produce, as
    one of a residual sum, scores the mean of its layers' scores; one that all of them leave at zero scores -inf.
    """
    total, count, living = (np.zeros(channels.count) for _ in range(3))
    for name, axes in channels.axes.items():
        labels, variable = axes[-1], name.rpartition("/")[2]
        wanted = variable == "gamma" if criterion == "bn_gamma" else variable in _PRODUCING
        if not wanted or labels is None or name not in weights:
            continue
        size = _sizes(weights[name], order=2 if criterion == "l2" else 1)
        alive = size > DEAD * size.max(initial=0)
        removable = labels != KEPT
        np.add.at(total, labels[removable], _standard_scores(size, alive)[removable])
        np.add.at(count, labels[removable], 1)
        np.add.at(living, labels[removable], alive[removable])
    return np.where(living == 0, -np.inf, total / np.maximum(count, 1))


def _standard_scores(size: Numbers, alive: NDArray[np.bool_]) -> Numbers:
    """Return how many standard deviations of the living sizes each size lies above their mean."""
    if not alive.any():
        return np.zeros_like(size)
    deviation = max(float(size[alive].std()), 1e-9 * float(size.max()))
    scores: Numbers = (size - size[alive].mean()) / deviation
    return scores


def _sizes(values: NDArray[Any], *, order: int) -> Numbers:
    """Return the norm of each slice along the last axis."""
    flat = values.astype(np.float64).reshape(-1, values.shape[-1])
    norms: Numbers = np.linalg.norm(flat, ord=order, axis=0)
    return norms


def score_by_gradients(
    channels: Channels, weights: Weights, gradients: Iterable[Mapping[str, NDArray[Any]]]
) -> Numbers:
    """Score channels by the square of the loss's first-order change without them (Molchanov et al. 2019).

    That is (sum of g w)^2 over the kernel, bias, gamma and beta slices of a channel, averaged over the batches whose
    `gradients` are given. Layers are compared as they are: all changes are changes of one loss.
    """
    total, batches = np.zeros(channels.count), 0
    for batch in gradients:
        change = np.zeros(channels.count)
        for name, gradient in batch.items():
            labels, variable = channels.axes.get(name, (None,))[-1], name.rpartition("/")[2]
            if labels is not None and variable in (*_PRODUCING, "bias", "gamma", "beta"):
                products = (gradient.astype(np.float64) * weights[name]).reshape(-1, len(labels)).sum(axis=0)
                np.add.at(change, labels[labels != KEPT], products[labels != KEPT])
        total += np.square(change)
        batches += 1
    return total / max(batches, 1)


def kernels_of(names: Iterable[str]) -> list[str]:
    """Return the variables whose single weights are pruned: kernels, but no bias, normalization or embedding."""
    return [name for name in names if name.endswith("kernel")]


def share_of_round(ratio: float, done: float) -> float:
    """Return the share of zeros when `done` of the rounds are: ratio (1 - (1 - t)^3) (Zhu & Gupta 2017)."""
    return ratio * (1 - (1 - done) ** 3)


def zero_smallest(weights: Weights, share: float) -> dict[str, NDArray[Any]]:
    """Set the share of all kernels' weights with the lowest scores to zero, by one ranking of all layers.

    The score is a weight's square over the sum of all squares in its layer that are no smaller (LAMP, Lee et al. 2021):
    magnitude that layers of unlike scale can be compared by, and that never empties a layer.
    """
    names = [name for name in kernels_of(weights) if weights[name].size]
    scores = np.concatenate([_lamp(weights[name]) for name in names])
    zeros = np.zeros(len(scores), np.bool_)
    zeros[np.argsort(scores, kind="stable")[: round(share * len(scores))]] = True
    parts = np.split(zeros, np.cumsum([weights[name].size for name in names])[:-1])
    masked = {
        name: np.where(part.reshape(weights[name].shape), 0, weights[name]).astype(weights[name].dtype)
        for name, part in zip(names, parts, strict=True)
    }
    return {**weights, **masked}


def _lamp(values: NDArray[Any]) -> Numbers:
    squares = np.square(values.astype(np.float64)).reshape(-1)
    order = np.argsort(squares, kind="stable")
    remaining = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(remaining, np.finfo(np.float64).tiny)
    return scores


def share_of_zeros(weights: Weights) -> float:
    """Return the share of zeros among the weights of all kernels."""
    names = kernels_of(weights)
    return sum(int((weights[name] == 0).sum()) for name in names) / sum(weights[name].size for name in names)
