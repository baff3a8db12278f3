import numpy as np
import pytest

from app.domain import layers as ly
from app.domain.network import InputSpec, Network


def network_of(*layers) -> Network:
    return Network(input=InputSpec(shape=(3,)), layers=layers, task="regression", classes=1)


LINE = network_of(ly.Dense(name="answer", units=1))


def units_for(targets, *, network: Network = LINE, **options):
    from worker.nn.training import Rows
    from worker.nn.units import units_of

    targets = np.asarray(targets, np.float32).reshape(len(targets), -1)
    x = np.zeros((len(targets), 3), np.float32)
    return units_of(network, Rows(x, targets, x[:0], targets[:0], **options))


def test_units_are_the_mean_and_deviation_of_the_rows_to_learn_from_by_weight():
    units = units_for([1, 5, 5, 9])
    assert (units.mean, units.deviation) == (5, pytest.approx(8**0.5))
    units = units_for([1, 5, 77], chosen=np.array([1, 0, 1]))
    assert (units.mean, units.deviation) == (pytest.approx(11 / 3), pytest.approx(np.std([1, 5, 5])))
    units = units_for([1, 5, 77], sample_weight=np.array([1, 2, 0], np.float32))
    assert (units.mean, units.deviation) == (pytest.approx(11 / 3), pytest.approx(np.std([1, 5, 5])))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_equal_targets_have_the_deviation_1(value):
    units = units_for([value] * 7 + [3], sample_weight=np.array([1] * 7 + [0], np.float32))
    assert (units.mean, units.deviation) == (np.float32(value), 1.0)


def test_weights_go_there_and_back():
    rng = np.random.default_rng(0)
    units = units_for(rng.normal(300, 70, 40))
    x = rng.normal(size=(9, 3))
    own = {"answer/kernel": rng.normal(0, 70, (3, 1)).astype(np.float32), "answer/bias": np.full(1, 310, np.float32)}
    own["other/kernel"] = np.zeros((2, 2), np.float32)
    inward = units.inward(own)
    answers, standardized = (x @ weights["answer/kernel"] + weights["answer/bias"] for weights in (own, inward))
    np.testing.assert_allclose(standardized, (answers - units.mean) / units.deviation, rtol=1e-4, atol=1e-5)
    for name, values in units.outward(inward).items():
        np.testing.assert_allclose(values, own[name], rtol=1e-6)


BARE = ly.Dense(name="answer", units=1, use_bias=False)
UNTURNED = {
    "no bias": [BARE],
    "an activation": [ly.Dense(name="answer", units=1, activation="relu")],
    "another layer behind it": [ly.Dense(name="wide", units=1), ly.Flatten(name="answer")],
    "another place": [
        ly.Dense(name="narrow", units=1),
        ly.Dense(name="shared", units=1, weights="own"),
        ly.Dense(name="answer", units=1, weights="own"),
    ],
}


@pytest.mark.parametrize("layers", UNTURNED.values(), ids=UNTURNED)
def test_an_answer_that_cannot_be_turned_stays(layers):
    units = units_for([1, 2, 3], network=network_of(*layers))
    assert units.layer is None
    weights = {"answer/kernel": np.ones((3, 1), np.float32), "None/bias": np.ones(1, np.float32)}
    assert units.inward(weights) == units.outward(weights) == weights


def test_the_objective_compares_the_first_number_alone_in_its_units():
    from keras import ops

    from worker.nn.objectives import Objective

    def loss(targets, answers):
        return ops.sum(ops.square(targets - answers), axis=-1)

    targets, answers = np.array([[300, 7]], np.float32), np.array([[1.5, 9]], np.float32)
    units = units_for([[200, 0], [400, 5]])
    found = units.objective(Objective("own", loss, None))
    assert found.name == "standardized_own"
    assert ops.convert_to_numpy(found.loss(targets, answers)).tolist() == [1.5**2 + 4]
    units = units_for([[200, 0], [400, 5]], network=network_of(BARE))
    found = units.objective(Objective("own", loss, None))
    answers = np.array([[450, 9]], np.float32)
    assert ops.convert_to_numpy(found.loss(targets, answers)).tolist() == [1.5**2 + 4]
