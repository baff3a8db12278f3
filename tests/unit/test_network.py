import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import layers as ly
from app.domain.datasets import Statistics
from app.domain.errors import InvalidArchitectureError, ModelTooLargeError, ShapeMismatchError
from app.domain.network import InputSpec, Network, SizeLimits, statistics_weights, trace


def network_of(*layers: ly.Layer, shape: tuple[int, ...] = (8,), classes: int = 3) -> Network:
    return Network(input=InputSpec(shape=shape), layers=layers, classes=classes)


def dense(name: str, units: int, **options: object) -> ly.Dense:
    return ly.Dense(name=name, units=units, **options)


def test_a_layer_without_inputs_takes_the_layer_before():
    network = network_of(dense("one", 4), dense("two", 3))
    assert [layer.inputs for layer in network.layers] == [("input",), ("one",)]


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_parameters_and_macs_of_dense_layers_are_those_of_the_formula(sizes):
    network = network_of(*(dense(f"d{i}", size) for i, size in enumerate(sizes)), classes=sizes[-1])
    pairs = list(zip([8, *sizes], sizes, strict=False))
    found = trace(network)
    assert found.parameters == sum(fan_in * units + units for fan_in, units in pairs)
    assert found.macs == sum(fan_in * units for fan_in, units in pairs)


def test_a_shared_variable_is_counted_and_stored_once():
    network = network_of(
        dense("one", 8), dense("two", 8, weights="one"), dense("three", 8, weights="one"), dense("end", 3)
    )
    found = trace(network)
    assert found.parameters == (8 * 8 + 8) + (8 * 3 + 3)
    assert set(found.variables) == {"one/kernel", "one/bias", "end/kernel", "end/bias"}
    assert found.macs == 3 * 8 * 8 + 8 * 3


def test_trap_13_sharing_between_unequal_shapes_is_an_error():
    network = network_of(dense("one", 8), dense("two", 9, weights="one"), dense("end", 3))
    with pytest.raises(InvalidArchitectureError, match=r"'two' shares the weights 'one'.*kernel \(8, 9\)"):
        trace(network)


def test_layers_of_unequal_type_cannot_share():
    network = network_of(ly.BatchNorm(name="norm"), ly.Standardize(name="fixed", weights="norm"), dense("end", 3))
    with pytest.raises(InvalidArchitectureError, match="is a standardize"):
        trace(network)


def test_layers_that_share_may_differ_in_activation_only():
    layers = [ly.Conv1D(name="a", filters=2), ly.Conv1D(name="b", filters=2, weights="a", activation="relu")]
    rest = [ly.Flatten(name="flat"), dense("end", 3)]
    assert trace(network_of(*layers, *rest, shape=(8, 2))).parameters == (3 * 2 * 2 + 2) + (16 * 3 + 3)
    strided = ly.Conv1D(name="b", filters=2, weights="a", strides=2)
    with pytest.raises(InvalidArchitectureError, match="set up otherwise"):
        trace(network_of(layers[0], strided, *rest, shape=(8, 2)))


def test_statistics_of_the_data_are_no_parameters():
    network = network_of(ly.Standardize(name="standardize"), dense("end", 3))
    assert trace(network).parameters == 8 * 3 + 3
    assert trace(network).variables["standardize/mean"] == (8,)


@pytest.mark.parametrize("units", [10**9, 2**31 - 1])
def test_a_huge_layer_is_refused_by_arithmetic_alone(units):
    network = network_of(dense("huge", units), dense("end", 3))
    tracemalloc.start()
    try:
        with pytest.raises(ModelTooLargeError, match="at most 50,000,000"):
            trace(network)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000, "no array may be made"
    finally:
        tracemalloc.stop()


def test_too_many_layers_are_refused():
    network = network_of(*(ly.Activation(name=f"a{i}", activation="relu") for i in range(10_000)))
    with pytest.raises(ModelTooLargeError, match="10,000 layers"):
        trace(network)


def test_outputs_that_explode_are_refused():
    doubling = [
        ly.Concat(name=f"c{i}", inputs=(before, before))
        for i, before in enumerate(["input", *(f"c{i}" for i in range(60))])
    ]
    with pytest.raises(ModelTooLargeError, match="numbers per row"):
        trace(network_of(*doubling))


def test_limits_can_be_set():
    with pytest.raises(ModelTooLargeError, match="at most 10 are"):
        trace(network_of(dense("end", 3)), limits=SizeLimits(parameters=10))


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([dense("a", 3, inputs=("b",))], "'b', which does not exist"),
        ([dense("a", 3, inputs=("a",))], "'a', which does not come before it"),
        ([dense("a", 3, inputs=("b",)), dense("b", 3, inputs=("a",))], "may not form a cycle|does not come before"),
        ([dense("a", 3), dense("a", 3)], "Two layers are called 'a'"),
        ([dense("input", 3)], "No layer may be called 'input'"),
        ([dense("a", 3), dense("b", 3, inputs=("input",))], "Nothing uses the output of layer 'a'"),
        ([dense("a", 3, activation="relu")], "must answer logits"),
        ([dense("a", 3, inputs=("input", "input"))], "takes one input, not 2"),
    ],
)
def test_layers_that_do_not_fit_together_are_named(layers, words):
    with pytest.raises(InvalidArchitectureError, match=words):
        trace(network_of(*layers))


def test_the_answer_must_fit_the_classes():
    with pytest.raises(ShapeMismatchError, match=r"answers \(4,\) per row; the data set needs \(3,\)"):
        trace(network_of(dense("end", 4)))


def test_a_network_survives_json():
    network = network_of(ly.Conv1D(name="conv", filters=4), ly.Flatten(name="flat"), dense("end", 3), shape=(8, 1))
    assert Network.model_validate_json(network.model_dump_json()) == network
    assert Network.model_validate(network.model_dump(mode="json")) == network


def test_a_constant_column_is_only_centred():
    network = network_of(ly.Standardize(name="s"), dense("end", 3), shape=(2,))
    weights = statistics_weights(network, Statistics(mean=(1.0, 2.0), deviation=(0.0, 4.0)))
    assert np.array_equal(weights["s/mean"], np.float32([1, 2]))
    assert np.array_equal(weights["s/deviation"], np.float32([1, 4]))


def test_statistics_of_other_data_are_refused():
    network = network_of(ly.Standardize(name="s"), dense("end", 3))
    with pytest.raises(ShapeMismatchError):
        statistics_weights(network, Statistics(mean=(1.0,), deviation=(1.0,)))
    with pytest.raises(ShapeMismatchError):
        statistics_weights(network, None)
