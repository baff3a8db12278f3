"""The n-grams of bytes of a text are found by one formula: in plain Python, in Keras and in ONNX."""

import numpy as np
import pytest

from app.domain import layers as ly
from app.domain.network import InputSpec, Network
from app.serving.runtime import load_engine
from tests.worker.nn.test_export import random_weights
from worker.nn.architectures import build_model
from worker.nn.export import to_onnx
from worker.nn.stacked import StackedModel, stackable

LAYER = ly.HashedNGrams(name="ngrams", sizes=(1, 2, 4), buckets=200)
STEPS = 40
TEXTS = ("WINNER!! Claim your prize now", "ok", "ok ok ok ok ok ok", "", "Grüße, 你好", "a\0b")


def network_of(*layers: ly.Layer) -> Network:
    return Network(input=InputSpec(shape=(STEPS,), dtype="uint8"), layers=(LAYER, *layers), classes=200)


def rows_of(texts: tuple[str, ...]) -> np.ndarray:
    return np.stack([np.frombuffer(text.encode().ljust(STEPS, b"\0"), np.uint8) for text in texts])


def by_hand(row: np.ndarray) -> np.ndarray:
    places = set()
    for size in LAYER.sizes:
        for start in range(STEPS - size + 1):
            ngram = [int(byte) for byte in row[start : start + size]]
            if 0 not in ngram:
                code = size
                for byte in ngram:
                    code = (code * LAYER.FACTOR + byte) % LAYER.PRIME
                places.add(code * LAYER.FACTOR % LAYER.PRIME % LAYER.buckets)
    found = np.zeros(LAYER.buckets)
    found[sorted(places)] = 1 / np.sqrt(max(len(places), 1))
    return found


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (50, STEPS), dtype=np.uint8)
    return np.concatenate([rows_of(TEXTS), noise])


def test_keras_finds_the_ngrams_that_the_formula_finds(rows):
    model = build_model(network_of(), seed=0)
    np.testing.assert_allclose(np.asarray(model(rows)), [by_hand(row) for row in rows], atol=1e-6)


def test_the_graph_finds_the_ngrams_that_the_formula_finds(rows):
    network = network_of(ly.Dense(name="answer", units=200, use_bias=False))
    graph = to_onnx(network, {"answer/kernel": np.eye(200, dtype=np.float32)})
    found = load_engine(graph.SerializeToString()).run(rows, ["logits"])[0]
    np.testing.assert_allclose(found, [by_hand(row) for row in rows], atol=1e-6)


def test_padding_and_how_often_and_where_an_ngram_stands_change_nothing(rows):
    model = build_model(network_of(), seed=0)
    spread, again = rows_of(("ok ok ok", "\0\0ok ok ok ok")), np.asarray(model(rows_of(("ok ok ok",))))
    for answer in np.asarray(model(spread)):
        np.testing.assert_array_equal(answer, again[0])


def test_members_that_train_together_find_them_too(rows):
    network = network_of(ly.Dense(name="answer", units=200))
    assert stackable(network)
    weights = [random_weights(network, seed) for seed in (1, 2)]
    together = np.asarray(StackedModel(network, weights, (1, 2))(np.stack([rows, rows[::-1]], axis=1)))
    for place, (own, seen) in enumerate(zip(weights, (rows, rows[::-1]), strict=True)):
        np.testing.assert_allclose(together[:, place], build_model(network, own, seed=0)(seen), atol=1e-5)


def test_texts_that_differ_share_few_buckets():
    layer = ly.HashedNGrams(name="ngrams", sizes=(2,))
    network = Network(input=InputSpec(shape=(2,), dtype="uint8"), layers=(layer,), classes=layer.buckets)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz ", np.uint8)
    pairs = np.stack(np.meshgrid(letters, letters), axis=-1).reshape(-1, 2)
    buckets = set(np.argmax(build_model(network, seed=0)(pairs), axis=1))
    # As many as of 729 balls at random in 4,096 bins: 668, give or take 7.
    assert len(buckets) > 640
