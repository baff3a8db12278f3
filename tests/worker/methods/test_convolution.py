import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import layers as ly
from app.domain.datasets import DatasetSchema
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import InputSpec, Network, trace
from app.domain.presets import CNN, CNN1D, MLP, TextCNN, build_network
from app.domain.surgery.convolution import convolve
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


CONFIGURATIONS = [
    {"strides": (stride, stride), "padding": padding, "use_bias": bias, "kernel_size": (kernel, 3), "filters": 5}
    for stride, padding, bias, kernel in itertools.product((1, 2), ("same", "valid"), (True, False), (2, 3))
]


@pytest.mark.parametrize("options", CONFIGURATIONS)
def test_trap_41_a_separable_layer_keeps_stride_padding_and_bias(options):
    network = one_convolution(**options)
    convolved = convolve(network, random_weights(network), to="separable")
    before, after = trace(network), trace(convolved.network)
    assert convolved.replaced == ["middle"]
    assert after.shapes == before.shapes
    places = math.prod(before.shapes["middle"][:-1])
    assert after.macs_by_layer["middle"] == places * (4 * options["kernel_size"][0] * 3 + 4 * 5)
    assert ("middle/bias" in after.variables) == options["use_bias"]


@pytest.mark.parametrize(
    "options", [{"dilation": (2, 2)}, {"strides": (2, 1)}, {"kernel_size": (1, 1)}, {"groups": 2, "filters": 6}]
)
def test_trap_41_what_a_separable_layer_cannot_express_is_kept(options):
    network = one_convolution(**{"filters": 5, **options})
    with pytest.raises(MethodNotApplicableError):
        convolve(network, random_weights(network), to="separable")


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


def test_a_wider_mean_mixes_channels_first():
    network = build_network(CNN(filters=(8, 16)), DIGITS)
    convolved = convolve(network, random_weights(network), to="gap", width=1.5)
    assert trace(convolved.network).shapes["flatten"] == (24,)


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
