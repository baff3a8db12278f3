"""Statistics of batch normalization, recomputed for weights that no training has fitted them to."""

import numpy as np
import pytest

from app.domain import layers as ly
from app.domain.network import InputSpec, Network

NORM = ly.BatchNorm(name="norm")
ANSWER = ly.Dense(name="answer", units=2)


def network(*layers: ly.Layer) -> Network:
    return Network(input=InputSpec(shape=(3,)), layers=layers, task="classification", classes=2)


def weights_of(network: Network) -> dict[str, np.ndarray]:
    from worker.nn.architectures import build_model, extract_weights

    return extract_weights(build_model(network, seed=0))


def recomputed(network: Network, rows: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    from worker.nn.statistics import recompute_statistics

    return recompute_statistics(network, weights_of(network), rows, seed=seed)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(700, 3)) * [1, 5, 0.1] + [0, -3, 40]).astype(np.float32)


def test_trap_26_statistics_are_those_of_the_rows_whatever_stood_there(rows):
    found = recomputed(network(NORM, ANSWER), rows)
    np.testing.assert_allclose(found["norm/moving_mean"], rows.mean(axis=0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found["norm/moving_variance"], rows.var(axis=0), rtol=0.02)


def test_nothing_but_statistics_changes(rows):
    net = network(ly.Dense(name="first", units=4), NORM, ANSWER)
    before, after = weights_of(net), recomputed(net, rows)
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert np.array_equal(after[name], values) == (not name.startswith("norm/moving"))


def test_later_layers_see_rows_that_earlier_ones_have_normalized(rows):
    layers = (NORM, ly.Dense(name="first", units=4, activation="relu"), ly.BatchNorm(name="second"), ANSWER)
    net = network(*layers)
    found = recomputed(net, rows)
    scaled = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + NORM.epsilon)
    seen = np.maximum(scaled @ found["first/kernel"] + found["first/bias"], 0)
    np.testing.assert_allclose(found["second/moving_mean"], seen.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(found["second/moving_variance"], seen.var(axis=0), rtol=0.05)


def test_dropout_is_off_as_it_is_in_use(rows):
    dropped = recomputed(network(ly.Dropout(name="drop", rate=0.5), NORM, ANSWER), rows)
    plain = recomputed(network(NORM, ANSWER), rows)
    for kind in ("moving_mean", "moving_variance"):
        np.testing.assert_array_equal(dropped[f"norm/{kind}"], plain[f"norm/{kind}"])


def test_rows_in_the_order_of_their_classes_give_the_same_statistics(rows):
    ordered = rows[np.argsort(rows[:, 1])]
    for kind in ("moving_mean", "moving_variance"):
        one, other = (recomputed(network(NORM, ANSWER), given)[f"norm/{kind}"] for given in (rows, ordered))
        np.testing.assert_allclose(one, other, rtol=0.05, atol=1e-3)


def test_equal_seeds_give_equal_statistics_and_others_differ_by_their_batches_alone(rows):
    net = network(NORM, ly.Dense(name="first", units=4, activation="relu"), ly.BatchNorm(name="second"), ANSWER)
    one, again, other = (recomputed(net, rows, seed=seed)["second/moving_variance"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, rtol=0.05)
