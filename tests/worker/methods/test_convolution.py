import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import layers as ly
from app.domain.datasets import DatasetSchema
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import InputSpec, Network, trace
from app.domain.presets import CNN, CNN1D, MLP, TextCNN, build_network
from app.domain.surgery.convolution import convolve, dearer
from app.domain.surgery.rewriting import carry_over
from app.serving.runtime import load_engine, predict_rows
from worker.nn.export import to_onnx

ROWS = {"train": 10, "selection": 10, "report": 10}
DIGITS = DatasetSchema(features="image", shape=(8, 8, 1), dtype="uint8", classes=("a", "b", "c"), rows=ROWS)
SIGNAL = DatasetSchema(features="signal", shape=(40, 2), dtype="float32", classes=("a", "b", "c"), rows=ROWS)
TABLE = DatasetSchema(features="table", shape=(6,), dtype="float32", classes=("a", "b", "c"), rows=ROWS)
TEXT = DatasetSchema(features="text", shape=(30,), dtype="uint8", classes=("a", "b"), rows=ROWS)


def random_weights(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        if "variance" in name or "deviation" in name
        else rng.normal(size=shape).astype(np.float32) / 3
        for name, shape in trace(network).variables.items()
    }


def one_convolution(**options: object) -> Network:
    layers = (
        ly.Conv2D(name="first", filters=4, kernel_size=(1, 1)),
        ly.Conv2D(name="middle", **options),
        ly.GlobalAvgPool(name="pool"),
        ly.Dense(name="answer", units=3),
    )
    return Network(input=InputSpec(shape=(9, 9, 2)), layers=layers, classes=3)


@st.composite
def convolutions(draw: st.DrawFn) -> ly.Conv1D | ly.Conv2D:
    """Draw a convolution of any setting that a network may have, over several channels and places."""
    groups = draw(st.sampled_from([1, 2, 3]))
    options = {
        "name": "middle",
        "groups": groups,
        "filters": groups * draw(st.integers(2, 4)),
        "padding": draw(st.sampled_from(["same", "valid"])),
        "use_bias": draw(st.booleans()),
        "activation": draw(st.sampled_from(["linear", "relu"])),
        "weights": draw(st.sampled_from([None, "common"])),
    }
    axes, strided = draw(st.sampled_from([1, 2])), draw(st.booleans())
    sizes = {"kernel_size": st.integers(2, 3), "strides": st.integers(1, 2), "dilation": st.integers(1, 2)}
    del sizes["dilation" if strided else "strides"]
    for name, numbers in sizes.items():
        values = tuple(draw(st.lists(numbers, min_size=axes, max_size=axes)))
        options[name] = values if axes == 2 else values[0]
    return ly.Conv2D(**options) if axes == 2 else ly.Conv1D(**options)


def around(layer: ly.Conv1D | ly.Conv2D, channels: int) -> Network:
    places = (9, 8) if isinstance(layer, ly.Conv2D) else (9,)
    layers = (layer, ly.GlobalAvgPool(name="pool"), ly.Dense(name="answer", units=3))
    return Network(input=InputSpec(shape=(*places, channels)), layers=layers, classes=3)


def expected_macs(layer: ly.Conv1D | ly.Conv2D, channels: int) -> tuple[tuple[int, ...], int]:
    """Return output places and cost of a separable convolution by formula (Chollet 2017), without our layers."""
    axes = (9, 8) if isinstance(layer, ly.Conv2D) else (9,)
    window, strides, dilation = (
        value if isinstance(value, tuple) else (value,) for value in (layer.kernel_size, layer.strides, layer.dilation)
    )
    spans = [1 + gap * (size - 1) for size, gap in zip(window, dilation, strict=True)]
    lost = [0 if layer.padding == "same" else span - 1 for span in spans]
    places = tuple(math.ceil((n - less) / stride) for n, less, stride in zip(axes, lost, strides, strict=True))
    pointwise = channels // layer.groups * layer.filters
    return places, math.prod(places) * (math.prod(window) * channels + pointwise)


@settings(deadline=None)
@given(convolutions(), st.sampled_from([6, 12]))
def test_trap_41_a_separable_convolution_keeps_stride_padding_dilation_groups_and_bias(layer, channels):
    network = around(layer, channels)
    window = math.prod(np.ravel(layer.kernel_size).tolist())
    pointwise = channels // layer.groups * layer.filters
    if window * channels + pointwise >= window * pointwise:
        with pytest.raises(MethodNotApplicableError):
            convolve(network, random_weights(network), to="separable")
        return
    convolved = convolve(network, random_weights(network), to="separable")
    before, after = trace(network), trace(convolved.network)
    places, macs = expected_macs(layer, channels)
    assert convolved.replaced == ["middle"]
    assert after.shapes["middle"] == before.shapes["middle"] == (*places, layer.filters)
    assert sum(cost for name, cost in after.macs_by_layer.items() if name.startswith("middle")) == macs
    assert (f"{layer.weights or 'middle'}/bias" in after.variables) == layer.use_bias
    assert convolved.network.layer("middle").activation == layer.activation
    assert carry_over(convolved.start, after)[1] == []


@settings(max_examples=20, deadline=None)
@given(convolutions(), st.integers(0, 10**6))
def test_a_convolution_whose_kernel_is_separable_answers_the_same(layer, seed):
    channels = 6
    network, rng = around(layer, channels), np.random.default_rng(seed)
    weights = random_weights(network, seed)
    kernel = weights[f"{layer.weights or 'middle'}/kernel"]
    *window, seen, filters = kernel.shape
    depthwise = rng.normal(size=(*window, layer.groups, seen))
    pointwise = rng.normal(size=(seen, layer.groups, filters // layer.groups))
    kernel[:] = np.einsum("...gs,sgf->...sgf", depthwise, pointwise).reshape(kernel.shape) / 3
    try:
        convolved = convolve(network, weights, to="separable")
    except MethodNotApplicableError:
        return
    rows = rng.normal(size=(3, *network.input.shape)).astype(np.float32)
    answers = [
        predict_rows(load_engine(to_onnx(net, own).SerializeToString()), rows, "logits")
        for net, own in ((network, weights), (convolved.network, convolved.start))
    ]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("options", [{"kernel_size": (1, 1)}, {"filters": 1}, {"filters": 4, "groups": 4}])
def test_what_would_not_become_cheaper_is_kept(options):
    network = one_convolution(**{"filters": 5, **options})
    with pytest.raises(MethodNotApplicableError):
        convolve(network, random_weights(network), to="separable")


def test_layers_that_share_a_kernel_share_what_replaces_it():
    options = {"filters": 6, "weights": "common", "dilation": (2, 1)}
    layers = (
        ly.Conv2D(name="one", **options),
        ly.Conv2D(name="two", **options),
        ly.GlobalAvgPool(name="pool"),
        ly.Dense(name="answer", units=3),
    )
    network = Network(input=InputSpec(shape=(9, 9, 6)), layers=layers, classes=3)
    convolved = convolve(network, random_weights(network), to="separable")
    assert {name.partition("/")[0] for name in trace(convolved.network).variables} == {
        "common_depthwise",
        "common",
        "answer",
    }


def test_a_wider_grouped_convolution_can_still_be_split_into_its_groups():
    network = around(ly.Conv2D(name="middle", filters=6, groups=3), 12)
    convolved = convolve(network, random_weights(network), to="separable", width=1.7)
    assert convolved.network.layer("middle").filters == 9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_a_kernel_that_is_separable_is_factored_exactly(seed):
    network = one_convolution(filters=5)
    weights = random_weights(network, seed)
    rng = np.random.default_rng(seed)
    depthwise, pointwise = rng.normal(size=(3, 3, 4, 1)), rng.normal(size=(1, 1, 4, 5))
    weights["middle/kernel"] = (depthwise * pointwise).astype(np.float32)
    convolved = convolve(network, weights, to="separable")
    start, new = carry_over(convolved.start, trace(convolved.network))
    rows = rng.normal(size=(5, 9, 9, 2)).astype(np.float32)
    answers = [
        predict_rows(load_engine(to_onnx(net, own).SerializeToString()), rows, "probabilities")
        for net, own in ((network, weights), (convolved.network, start))
    ]
    assert new == []
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)


@pytest.mark.parametrize(("schema", "architecture"), [(DIGITS, CNN(filters=(8, 16))), (SIGNAL, CNN1D(filters=(8, 16)))])
@pytest.mark.parametrize("to", ["separable", "gap"])
def test_every_variable_of_a_convolved_network_has_a_start_from_its_parent(schema, architecture, to):
    network = build_network(architecture, schema)
    convolved = convolve(network, random_weights(network), to=to)
    traced = trace(convolved.network)
    assert carry_over(convolved.start, traced)[1] == []
    assert traced.parameters < trace(network).parameters


def test_a_wider_replacement_starts_without_what_no_longer_fits():
    network = build_network(CNN(filters=(8, 16)), DIGITS)
    convolved = convolve(network, random_weights(network), to="separable", width=2.0)
    assert "conv2/pointwise_kernel" in carry_over(convolved.start, trace(convolved.network))[1]


def convolved_costs(architecture, **options):
    network = build_network(architecture, DIGITS)
    return dearer(trace(network), trace(convolve(network, {}, **options).network))


def test_a_result_that_costs_more_than_its_parent_is_told_by_arithmetic():
    mlp, cnn = MLP(hidden=(128, 64)), CNN(filters=(8, 16))
    assert [line.partition(" than")[0] for line in convolved_costs(mlp, to="conv")] == [
        "More multiply-accumulates per row"
    ]
    assert len(convolved_costs(cnn, to="separable", width=8)) == 2
    assert convolved_costs(cnn, to="separable") == convolved_costs(cnn, to="gap") == []


def test_a_wider_mean_mixes_channels_first():
    network = build_network(CNN(filters=(8, 16)), DIGITS)
    convolved = convolve(network, random_weights(network), to="gap", width=1.5)
    assert trace(convolved.network).shapes["flatten"] == (24,)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_global_pooling_starts_exact_on_constant_maps(seed):
    layers = (
        ly.Conv2D(name="conv", filters=4, kernel_size=(1, 1)),
        ly.Flatten(name="flatten"),
        ly.Dense(name="answer", units=3),
    )
    network = Network(input=InputSpec(shape=(3, 3, 2)), layers=layers, classes=3)
    weights = random_weights(network, seed)
    convolved = convolve(network, weights, to="gap")
    rows = np.broadcast_to(np.random.default_rng(seed).normal(size=(5, 1, 1, 2)), (5, 3, 3, 2)).astype(np.float32)
    answers = [
        predict_rows(load_engine(to_onnx(net, own).SerializeToString()), rows, "logits")
        for net, own in ((network, weights), (convolved.network, convolved.start))
    ]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)


@pytest.mark.parametrize("schema", [DIGITS, SIGNAL])
def test_a_dense_front_becomes_convolution_and_pooling(schema):
    network = build_network(MLP(hidden=(128, 64)), schema)
    convolved = convolve(network, random_weights(network), to="conv")
    types = [layer.type for layer in convolved.network.layers]
    assert convolved.replaced == ["dense1"]
    assert [kind for kind in types if kind.startswith(("conv", "max_pool"))] == [
        "conv2d" if schema is DIGITS else "conv1d",
        "max_pool2d" if schema is DIGITS else "max_pool1d",
    ] * 2
    assert trace(convolved.network).shapes["answer"] == (3,)


@pytest.mark.parametrize(
    ("schema", "architecture", "to"),
    [
        (TABLE, MLP(), "conv"),
        (TEXT, MLP(), "conv"),
        (DIGITS, CNN(), "conv"),
        (DIGITS, MLP(hidden=()), "conv"),
        (DIGITS, MLP(), "gap"),
        (DIGITS, MLP(), "separable"),
        (DIGITS, CNN(head="gap", dense=()), "gap"),
        (TEXT, TextCNN(), "gap"),
    ],
)
def test_what_has_nothing_to_replace_is_refused(schema, architecture, to):
    network = build_network(architecture, schema)
    with pytest.raises(MethodNotApplicableError):
        convolve(network, random_weights(network), to=to)
