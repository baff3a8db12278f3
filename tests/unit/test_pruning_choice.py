"""What contributes least: scores of channels and weights, and how many of each layer go."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import layers as ly
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import InputSpec, Network, trace
from app.domain.optimize_specs import PruneOptions
from app.domain.surgery.channels import find_channels
from app.domain.surgery.pruning import (
    BLOCK,
    Budget,
    check_prunable,
    choose_channels,
    fill_blocks,
    plan_budget,
    score_by_gradients,
    score_channels,
    share_of_round,
    share_of_zeros,
    zero_smallest,
)


def network_of(*layers: ly.Layer, shape: tuple[int, ...] = (8, 8, 1)) -> Network:
    return Network(input=InputSpec(shape=shape), layers=layers, classes=3)


def convolutions(*filters: int) -> Network:
    layers = [ly.Conv2D(name=f"conv{place}", filters=number) for place, number in enumerate(filters, 1)]
    return network_of(*layers, ly.GlobalAvgPool(name="mean"), ly.Dense(name="answer", units=3))


def two_layers(units: int = 4, *, norm: bool = True) -> Network:
    normalized = [ly.BatchNorm(name="norm")] if norm else []
    return network_of(ly.Dense(name="dense", units=units), *normalized, ly.Dense(name="answer", units=3), shape=(2,))


def weights_of(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in trace(network).variables.items()}


def prunes(**options: object) -> PruneOptions:
    return PruneOptions(method="prune", **options)


def test_norms_are_standard_scores_of_their_layer():
    network, kernel = two_layers(2), np.array([[3, 0], [-4, 1]], np.float32)
    weights = {**weights_of(network), "dense/kernel": kernel, "norm/gamma": np.array([-3, 1], np.float32)}
    channels = find_channels(network)
    for criterion in ("l1", "l2", "bn_gamma"):
        assert score_channels(channels, weights, criterion) == pytest.approx([1, -1])
    scaled = {**weights, "dense/kernel": 100 * kernel}
    assert score_channels(channels, scaled, "l2") == pytest.approx(score_channels(channels, weights, "l2"))
    swapped = {**weights, "dense/kernel": np.array([[2.5, 0], [2.5, 4]], np.float32)}
    assert score_channels(channels, swapped, "l1") == pytest.approx([1, -1])
    assert score_channels(channels, swapped, "l2") == pytest.approx([-1, 1])


def test_a_channel_of_several_layers_scores_their_mean():
    network = network_of(
        ly.Dense(name="one", units=2),
        ly.Dense(name="other", units=2),
        ly.Add(name="sum", inputs=("one", "other")),
        ly.Dense(name="answer", units=3),
        shape=(1,),
    )
    weights = weights_of(network) | {
        "one/kernel": np.array([[1, 3]], np.float32),
        "other/kernel": np.array([[1, 0], [0, 1]], np.float32),
    }
    assert score_channels(find_channels(network), weights, "l2") == pytest.approx([-0.5, 0.5])


def test_channels_that_are_switched_off_go_first_in_whatever_layer_they_are():
    network = convolutions(6, 6)
    weights = weights_of(network)
    weights["conv1/kernel"][..., :3] = 0
    scores = score_channels(find_channels(network), weights, "l2")
    assert sorted(np.argsort(scores)[:3]) == [0, 1, 2]
    assert np.isfinite(scores[3:]).all()


def test_gradients_score_the_square_of_the_change_they_foretell():
    network = two_layers(2)
    weights = {name: np.ones_like(value) for name, value in weights_of(network).items()}
    gradient = {"dense/kernel": np.array([[1, 2], [3, -2]], np.float32), "norm/beta": np.array([1, 0.5], np.float32)}
    opposite = {name: -value for name, value in gradient.items()}
    scores = score_by_gradients(find_channels(network), weights, [gradient, opposite])
    assert scores == pytest.approx([25, 0.25])


@given(st.lists(st.integers(2, 30), min_size=1, max_size=4), st.floats(0.05, 0.95), st.integers(0, 10**6))
def test_as_many_channels_go_as_were_asked_for_unless_a_layer_would_starve(filters, ratio, seed):
    channels = find_channels(convolutions(*filters))
    budget = plan_budget(channels, ratio)
    scores = np.random.default_rng(seed).random(channels.count)
    wanted = round(ratio * channels.count)
    kept = choose_channels(channels, scores, wanted, budget.least)
    left = {owner: int(kept[own].sum()) for owner, own in channels.reached.items()}
    assert all(left[owner] >= budget.least[owner] >= 1 for owner in left)
    possible = sum(len(own) - budget.least[owner] for owner, own in channels.reached.items())
    assert (~kept).sum() == min(wanted, possible)


def test_the_lowest_scores_go_first():
    channels = find_channels(convolutions(6))
    scores = np.array([0.5, 0.1, 0.9, 0.2, 0.8, 0.7])
    assert choose_channels(channels, scores, 2, {"conv1": 2}).tolist() == [True, False, True, False, True, True]


@pytest.mark.parametrize(("left", "filled"), [(5, 5), (8, 8), (11, 16), (13, 16), (17, 16), (20, 24), (21, 24)])
def test_convolutions_of_images_keep_whole_blocks_of_channels(left, filled):
    network = convolutions(30)
    channels = find_channels(network)
    scores = np.arange(30.0)
    kept = fill_blocks(network, channels, scores, scores >= 30 - left, Budget(200, {"conv1": 2}))
    assert kept.sum() == filled
    assert kept[-filled:].all()


@pytest.mark.parametrize(
    ("filters", "left", "filled"),
    [
        ((16, 16, 16, 16, 16), (11, 11, 11, 11, 12), (11, 11, 11, 11, 12)),  # few blocks: nothing fits within 3 points
        ((30,), (30,), (30,)),
        ((32, 64, 128), (17, 45, 90), (16, 48, 88)),
        ((64, 64, 64, 64), (44, 44, 44, 44), (48, 40, 48, 40)),
    ],
)
def test_filling_blocks_leaves_about_as_many_channels_as_were_asked_for(filters, left, filled):
    network = convolutions(*filters)
    channels = find_channels(network)
    budget = plan_budget(channels, 0.3)
    place = {owner: np.arange(len(own)) for owner, own in channels.reached.items()}
    kept = np.concatenate([place[f"conv{n}"] < number for n, number in enumerate(left, 1)])
    done = fill_blocks(network, channels, np.ones(channels.count), kept, budget)
    assert tuple(int(done[own].sum()) for own in channels.reached.values()) == filled
    assert abs(int(done.sum()) - sum(left)) <= 0.03 * channels.count


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(2, 90), min_size=1, max_size=4), st.floats(0.05, 0.9), st.integers(0, 10**6))
def test_whatever_is_filled_the_share_stays_within_three_points(filters, ratio, seed):
    network = convolutions(*filters)
    channels = find_channels(network)
    budget, scores = plan_budget(channels, ratio), np.random.default_rng(seed).random(channels.count)
    kept = choose_channels(channels, scores, round(ratio * channels.count), budget.least)
    filled = fill_blocks(network, channels, scores, kept, budget)
    assert abs(int(filled.sum()) - int(kept.sum())) <= 0.03 * channels.count + 0.5
    for owner, own in channels.reached.items():
        before, after = int(kept[own].sum()), int(filled[own].sum())
        assert after >= max(budget.least[owner], before * 7 / 8)
        assert after in (before, BLOCK * (before // BLOCK), BLOCK * math.ceil(before / BLOCK))


def test_what_is_tied_to_a_part_of_another_layer_keeps_its_channels():
    network = network_of(
        ly.Conv2D(name="one", filters=12, inputs=("input",)),
        ly.Conv2D(name="other", filters=12, inputs=("input",)),
        ly.Concat(name="both", inputs=("one", "other")),
        ly.Conv2D(name="whole", filters=24),
        ly.Add(name="sum", inputs=("both", "whole")),
        ly.GlobalAvgPool(name="mean"),
        ly.Dense(name="answer", units=3),
    )
    channels = find_channels(network)
    kept = np.arange(24) % 12 < 9
    budget = Budget(240, dict.fromkeys(channels.reached, 2))
    assert fill_blocks(network, channels, np.ones(24), kept, budget).tolist() == kept.tolist()


@given(st.floats(0.01, 0.95), st.integers(0, 10**6))
def test_the_share_of_zeros_is_the_one_that_was_asked_for(share, seed):
    network = two_layers(20)
    weights = weights_of(network, seed)
    sparse = zero_smallest(weights, share)
    kernels = [name for name in weights if name.endswith("kernel")]
    total = sum(weights[name].size for name in kernels)
    assert round(share_of_zeros(sparse) * total) == round(share * total)
    for name, value in sparse.items():
        assert value.dtype == weights[name].dtype
        np.testing.assert_array_equal(value[value != 0], weights[name][value != 0])
        assert name in kernels or (value == weights[name]).all()
    assert all((sparse[name] != 0).any() for name in kernels)  # the largest weight of a layer has the score 1
    for name in kernels:
        gone, left = np.abs(weights[name][sparse[name] == 0]), np.abs(sparse[name][sparse[name] != 0])
        assert gone.max(initial=0) <= left.min(initial=math.inf)


def test_a_layer_of_small_numbers_loses_no_more_than_another():
    network = two_layers(30, norm=False)
    weights = weights_of(network)
    small = {**weights, "dense/kernel": weights["dense/kernel"] / 1000}
    zeros = [(zero_smallest(own, 0.5)["dense/kernel"] == 0).sum() for own in (weights, small)]
    assert zeros[0] == zeros[1]


def test_zeros_come_along_a_cubic():
    assert [share_of_round(0.8, done) for done in (0, 0.5, 1)] == pytest.approx([0, 0.7, 0.8])


@pytest.mark.parametrize(
    ("network", "options", "words"),
    [
        (network_of(ly.Dense(name="answer", units=3), shape=(4,)), {}, "0 removable channels none"),
        (two_layers(2), {"ratio": 0.5}, "none can go"),
        (two_layers(8), {"ratio": 0.01}, "none can go"),
        (two_layers(8, norm=False), {"criterion": "bn_gamma"}, "layer 'dense' is scaled"),
        (two_layers(8), {"structure": "unstructured", "criterion": "bn_gamma"}, "whole channels"),
    ],
)
def test_what_cannot_be_pruned_is_told_without_weights(network, options, words):
    with pytest.raises(MethodNotApplicableError, match=words):
        check_prunable(network, prunes(**options))


@pytest.mark.parametrize(
    "options", [{}, {"criterion": "bn_gamma"}, {"criterion": "taylor"}, {"structure": "unstructured", "ratio": 0.99}]
)
def test_what_can_be_pruned_passes(options):
    check_prunable(two_layers(8), prunes(**options))


def test_a_network_without_any_kernel_has_no_weights_to_prune():
    with pytest.raises(MethodNotApplicableError, match="no kernel"):
        check_prunable(network_of(ly.GlobalAvgPool(name="mean"), shape=(4, 4, 3)), prunes(structure="unstructured"))
