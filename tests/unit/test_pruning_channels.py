"""Channels go together with all that depends on them: removing channels that answer zero changes no answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import layers as ly
from app.domain.network import InputSpec, Network, trace
from app.domain.surgery.channels import KEPT, Channels, find_channels, remove_channels
from app.serving.runtime import load_engine, predict_rows
from worker.nn.export import to_onnx

ZERO_AT_ZERO = ("linear", "relu", "leaky_relu", "gelu", "silu", "tanh")


class Drawer:
    """Add layers to a random network, each behind the one before."""

    def __init__(self, draw: st.DrawFn, layers: list[ly.Layer], shape: tuple[int, ...]) -> None:
        self._draw = draw
        self.layers = layers
        self.shape = shape

    def add(self, kind: type, **options: object) -> str:
        layer = kind(name=f"layer{len(self.layers)}", **options)
        shapes = [self.shape] if "inputs" not in options else [self._shapes[name] for name in layer.inputs]
        self.layers.append(layer)
        self.shape = layer.infer(*shapes).output
        self._shapes[layer.name] = self.shape
        return layer.name

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        self.__dict__.setdefault("_known", {})
        return self.__dict__["_known"]

    def pick(self, *values: object) -> object:
        return self._draw(st.sampled_from(values))

    def width(self) -> int:
        return 2 * self._draw(st.integers(1, 4))

    def conv(self, filters: int, **options: object) -> str:
        given = {"kernel_size": self.pick(1, 3), "use_bias": self.pick(True, False), "activation": self.activation()}
        return self.add(ly.Conv2D, filters=filters, **{**given, **options})

    def activation(self) -> object:
        return self.pick(*ZERO_AT_ZERO)

    def before(self) -> str:
        return self.layers[-1].name

    def plain(self) -> None:
        self.conv(self.width())

    def residual(self) -> None:
        start = self.before()
        self.conv(self.width())
        if self.pick(True, False):
            self.norm()
        last = self.conv(self._shapes[start][-1])
        self.add(ly.Add, inputs=(start, last))

    def joined(self) -> None:
        start = self.before()
        one = self.conv(self.width(), inputs=(start,))
        other = self.conv(self.width(), inputs=(start,))
        self.add(ly.Concat, inputs=(one, start, other))

    def norm(self) -> None:
        self.add(ly.BatchNorm)
        self.add(ly.Activation, activation=self.activation())

    def shared(self) -> None:
        channels, kernel_size = self.shape[-1], self.pick(1, 3)
        options = {"use_bias": True, "kernel_size": kernel_size, "weights": f"shared{len(self.layers)}"}
        self.conv(channels, **options)
        self.norm()
        self.conv(channels, **options)

    def depthwise(self) -> None:
        self.add(ly.DepthwiseConv2D, depth_multiplier=self.pick(1, 2), use_bias=self.pick(True, False))

    def separable(self) -> None:
        self.add(ly.SeparableConv2D, filters=self.width(), depth_multiplier=self.pick(1, 2))

    def grouped(self) -> None:
        groups = self.pick(*(number for number in range(2, self.shape[-1] + 1) if self.shape[-1] % number == 0))
        self.conv(groups * self.pick(1, 2, 3), groups=groups)

    def pooled(self) -> None:
        self.add(self.pick(ly.MaxPool2D, ly.AvgPool2D), pool_size=2, strides=1, padding="same")

    def dense(self) -> None:
        self.add(ly.Dense, units=self.width(), activation=self.activation())

    def folded(self) -> None:
        high, wide, channels = self.shape
        self.add(ly.Reshape, shape=self.pick((high * wide, 1, channels), (high, wide // 2, 2 * channels)))
        self.add(ly.Reshape, shape=(high, wide, channels))


BLOCKS = ["plain", "residual", "joined", "norm", "shared", "depthwise", "separable", "grouped", "pooled", "folded"]


@st.composite
def networks(draw: st.DrawFn, *first: str) -> Network:
    drawer = Drawer(draw, [], (4, 4, 2))
    drawer.add(ly.Standardize)
    drawer.plain()
    for block in [*first, *draw(st.lists(st.sampled_from([*BLOCKS, "dense"]), max_size=1 if first else 4))]:
        getattr(drawer, block)()
    drawer.add(drawer.pick(ly.Flatten, ly.GlobalAvgPool, ly.GlobalMaxPool))
    if drawer.pick(True, False):
        drawer.norm()
    drawer.dense()
    drawer.add(ly.Dropout)
    drawer.add(ly.Dense, units=3)
    return Network(input=InputSpec(shape=(4, 4, 2)), layers=drawer.layers, classes=3)


def random_weights(network: Network, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        if name.endswith(("variance", "deviation"))
        else rng.normal(0, 0.4, shape).astype(np.float32)
        for name, shape in trace(network).variables.items()
    }


def silenced(weights: dict[str, np.ndarray], channels: Channels, gone: np.ndarray) -> dict[str, np.ndarray]:
    """Let the removed channels answer zero: the filters that make them, their biases, and their normalization."""
    silent = {name: value.copy() for name, value in weights.items()}
    for name, value in silent.items():
        labels = channels.axes[name][-1]
        making = ("/kernel", "/pointwise_kernel", "/embeddings", "/bias", "/gamma", "/beta")
        if labels is not None and name.endswith(making):
            value[..., np.where(labels == KEPT, False, gone[labels])] = 0
    return silent


def answers(network: Network, weights: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    return predict_rows(load_engine(to_onnx(network, weights).SerializeToString()), rows, "logits")


def some_channels(channels: Channels, seed: int) -> np.ndarray:
    """Return which channels go: about half, but never all of a layer."""
    rng = np.random.default_rng(seed)
    gone = rng.random(channels.count) < rng.uniform(0.2, 0.8)
    for own in channels.reached.values():
        gone[rng.choice(own)] = False
    return gone


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 10**6))
def test_trap_32_structured_removal_follows_residual_concat_norm_and_flatten(network, seed):
    check_removal(network, seed)


@pytest.mark.parametrize("block", BLOCKS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_trap_32_structured_removal_follows_each_kind_of_block(block, data):
    check_removal(data.draw(networks(block)), data.draw(st.integers(0, 10**6)))


def check_removal(network: Network, seed: int) -> None:
    channels = find_channels(network)
    gone = some_channels(channels, seed)
    weights = silenced(random_weights(network, seed), channels, gone)
    smaller, kept = remove_channels(network, weights, channels, ~gone)
    traced = trace(smaller)
    assert {name: value.shape for name, value in kept.items()} == traced.variables
    assert (traced.parameters < trace(network).parameters) == gone.any()
    rows = np.random.default_rng(seed).normal(size=(5, 4, 4, 2)).astype(np.float32)
    before = answers(network, weights, rows)
    np.testing.assert_allclose(answers(smaller, kept, rows), before, atol=1e-5 * max(1, np.abs(before).max()))


def removable(network: Network) -> dict[str, int]:
    """Count the channels that each name's variables produce and that may go."""
    return {owner: len(own) for owner, own in find_channels(network).reached.items()}


def network_of(*layers: ly.Layer, shape: tuple[int, ...], classes: int = 3) -> Network:
    return Network(input=InputSpec(shape=shape), layers=layers, classes=classes)


def test_trap_33_a_shared_layer_is_pruned_once_for_all_its_places():
    network = network_of(
        ly.Dense(name="first", units=8, activation="relu"),
        ly.Dense(name="again", units=8, weights="twice", activation="relu"),
        ly.BatchNorm(name="norm"),
        ly.Dense(name="once_more", units=8, weights="twice", activation="tanh"),
        ly.Dense(name="answer", units=3),
        shape=(4,),
    )
    channels = find_channels(network)
    assert removable(network) == {"first": 8, "twice": 8}
    assert channels.count == 8  # what enters the shared layer and what it answers are the same channels
    kept = np.arange(8) < 5
    smaller, weights = remove_channels(network, random_weights(network, 0), channels, kept)
    assert weights["twice/kernel"].shape == (5, 5)
    assert [layer.units for layer in smaller.layers if layer.weights_name == "twice"] == [5, 5]
    assert {name: value.shape for name, value in weights.items()} == trace(smaller).variables


def test_the_input_and_the_answer_are_never_pruned():
    network = network_of(
        ly.Conv1D(name="side", filters=2, inputs=("input",)),
        ly.Add(name="tied", inputs=("side", "input")),
        ly.Conv1D(name="free", filters=6),
        ly.Conv1D(name="last", filters=3),
        ly.GlobalAvgPool(name="answer"),
        shape=(7, 2),
    )
    assert removable(network) == {"free": 6}


def test_an_embedding_loses_width_but_no_entry():
    network = network_of(
        ly.Embedding(name="embedding", vocabulary=9, width=4),
        ly.Flatten(name="flat"),
        ly.Dense(name="answer", units=3),
        shape=(5,),
    )
    kept = np.array([True, False, True, False])
    smaller, weights = remove_channels(network, random_weights(network, 0), find_channels(network), kept)
    assert weights["embedding/embeddings"].shape == (9, 2)
    assert weights["answer/kernel"].shape == (10, 3)
    assert smaller.layer("embedding").width == 2


def test_a_spectrum_keeps_its_bins_while_what_follows_is_pruned():
    network = network_of(
        ly.LogMel(name="mel", sample_rate=8000, frame_length=64, frame_step=32, mel_bins=8),
        ly.BatchNorm(name="norm"),
        ly.Reshape(name="image", shape=(11, 8, 1)),
        ly.Conv2D(name="conv", filters=4),
        ly.GlobalAvgPool(name="mean"),
        ly.Dense(name="answer", units=3),
        shape=(400, 1),
    )
    assert removable(network) == {"conv": 4}


def test_ngrams_of_bytes_keep_their_buckets_while_what_follows_is_pruned():
    network = network_of(
        ly.HashedNGrams(name="ngrams", buckets=64),
        ly.Dense(name="hidden", units=8),
        ly.Dense(name="answer", units=3),
        shape=(20,),
    )
    assert removable(network) == {"hidden": 8}


def test_channels_that_a_reshape_splits_stay():
    network = network_of(
        ly.Dense(name="wide", units=12),
        ly.Reshape(name="image", shape=(2, 2, 3)),
        ly.Conv2D(name="conv", filters=4),
        ly.GlobalAvgPool(name="mean"),
        ly.Dense(name="answer", units=3),
        shape=(5,),
    )
    assert removable(network) == {"conv": 4}


@pytest.mark.parametrize(
    ("filters", "groups", "channels", "left"),
    [(8, 2, 4 + 4, (6, 2)), (8, 8, 8, (7, 7)), (16, 8, 8, (14, 7))],
    ids=["same places of all groups", "depthwise", "depthwise with two filters each"],
)
def test_a_grouped_convolution_stays_one(filters, groups, channels, left):
    network = network_of(
        ly.Conv2D(name="before", filters=8),
        ly.Conv2D(name="grouped", filters=filters, groups=groups),
        ly.GlobalAvgPool(name="mean"),
        ly.Dense(name="answer", units=3),
        shape=(5, 5, 2),
    )
    found = find_channels(network)
    assert found.count == channels
    kept = np.arange(found.count) != found.reached["grouped"][0]
    smaller, weights = remove_channels(network, random_weights(network, 0), found, kept)
    assert (smaller.layer("grouped").filters, smaller.layer("grouped").groups) == left
    assert {name: value.shape for name, value in weights.items()} == trace(smaller).variables
