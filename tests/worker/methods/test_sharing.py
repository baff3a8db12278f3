import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import layers as ly
from app.domain.datasets import DatasetSchema
from app.domain.errors import ShapeMismatchError
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import InputSpec, Network, trace
from app.domain.presets import MLP, ResNet, build_network
from app.domain.surgery.sharing import find_groups, merge, share
from worker.nn.export import to_onnx

DIGITS = DatasetSchema(
    features="image",
    shape=(8, 8, 1),
    dtype="uint8",
    classes=tuple("0123456789"),
    rows={"train": 10, "selection": 10, "report": 10},
)


def random_weights(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (
            rng.uniform(0.5, 1.5, shape) if "variance" in name or "deviation" in name else rng.normal(size=shape)
        ).astype(np.float32)
        for name, shape in trace(network).variables.items()
    }


def resnet(blocks: int = 4) -> Network:
    return build_network(ResNet(blocks=blocks, width=8), DIGITS)


def test_one_group_lets_all_blocks_use_the_same_variables():
    network = resnet()
    shared = share(network, find_groups(network, 1))
    kernels = [name for name in trace(shared).variables if name.endswith("kernel")]
    assert kernels == ["stem/kernel", "shared1/kernel", "shared2/kernel", "answer/kernel"]
    one = sum(math.prod(shape) for name, shape in trace(shared).variables.items() if name.startswith("shared1/"))
    assert trace(network).parameters - trace(shared).parameters == 6 * one


def test_sharing_all_blocks_is_what_the_preset_shares():
    network = build_network(ResNet(blocks=4, width=8, groups=2), DIGITS)
    assert trace(share(resnet(), find_groups(resnet(), 2))).parameters == trace(network).parameters


@given(st.integers(2, 8), st.integers(1, 8))
def test_groups_split_equal_layers_in_order(blocks, groups):
    network = resnet(blocks)
    found = list(find_groups(network, groups).values()) if groups < blocks else []
    for place in "12":
        named = [name for group in found for name in group if name.endswith(place)]
        assert named == sorted(named)
    assert all(len(group) > 1 for group in found)
    assert len(found) <= 2 * groups


def test_layers_whose_names_tell_nothing_are_grouped_by_shape():
    layers = [ly.Dense(name=name, units=64, activation="relu") for name in ("first", "second", "third")]
    network = Network(input=InputSpec(shape=(64,)), layers=(*layers, ly.Dense(name="answer", units=10)), classes=10)
    assert list(find_groups(network, 1).values()) == [["first", "second", "third"]]


def test_groups_may_be_named():
    network = resnet(2)
    groups = find_groups(network, [["block1_conv1", "block2_conv1"], ["block1_conv2", "block2_conv2"]])
    assert list(groups.values()) == [["block1_conv1", "block2_conv1"], ["block1_conv2", "block2_conv2"]]


def test_groups_that_share_already_grow():
    network = build_network(ResNet(blocks=4, width=8, groups=2), DIGITS)
    shared = share(network, find_groups(network, 1))
    assert sum(name.endswith("kernel") for name in trace(shared).variables) == 4


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        ([["stem", "block1_conv1"]], ShapeMismatchError),
        ([["stem_norm", "block1_conv1_norm"]], MethodNotApplicableError),
        ([["block1_conv1", "nowhere"]], MethodNotApplicableError),
        ([["block1_conv1", "block2_conv1"], ["block1_conv1", "block2_conv2"]], MethodNotApplicableError),
    ],
)
def test_trap_13_what_cannot_be_shared_is_an_error_and_never_skipped(groups, error):
    with pytest.raises(error):
        find_groups(resnet(), groups)


def test_trap_13_normalization_stays_per_position():
    network = resnet()
    shared = share(network, find_groups(network, 1))
    norms = [layer for layer in shared.layers if layer.type == "batch_norm"]
    assert len({layer.weights_name for layer in norms}) == len(norms)


def test_a_network_without_equal_layers_has_nothing_to_share():
    with pytest.raises(MethodNotApplicableError):
        find_groups(build_network(MLP(hidden=(32, 16)), DIGITS), 1)


def test_a_merged_variable_starts_at_the_mean_of_its_group():
    network = resnet(2)
    weights = random_weights(network)
    groups = find_groups(network, 1)
    merged = merge(weights, groups)
    assert groups == {"shared1": ["block1_conv1", "block2_conv1"], "shared2": ["block1_conv2", "block2_conv2"]}
    assert set(merged) == set(trace(share(network, groups)).variables)
    kernels = [weights[f"block{block}_conv1/kernel"] for block in (1, 2)]
    np.testing.assert_allclose(merged["shared1/kernel"], np.mean(kernels, axis=0), rtol=1e-5, atol=1e-6)


def test_trap_12_a_real_share_stays_small_where_a_perturbed_copy_does_not():
    network = resnet(4)
    groups = find_groups(network, 1)
    shared, weights = share(network, groups), random_weights(network)
    for block in (1, 2, 3, 4):
        for place in (1, 2):
            nudge = np.float32(1e-3 * (2 * block + place))
            weights[f"block{block}_conv{place}/kernel"] = weights["block1_conv1/kernel"] + nudge
    copied = len(to_onnx(network, weights).SerializeToString())
    really_shared = len(to_onnx(shared, merge(weights, groups)).SerializeToString())
    assert copied - really_shared > 5 * 4 * 3 * 3 * 8 * 8
