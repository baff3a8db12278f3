"""A stack's graph answers what the arithmetic says, with a hidden layer, with passed numbers, and with both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import ShapeMismatchError
from app.domain.fusion import serial_logits, softmax
from app.serving.graph import LogitSum, fuse
from app.serving.meta_nodes import HiddenLayer, MetaLearner, Passed
from app.serving.runtime import load_engine
from tests.unit.test_graph import CLASSES, answers, fused, member, member_answers, rows
from worker.ensemble.learner import meta_answers, passed_by

FEATURES = 4


def learner(members: int, seed: int, *, outputs: int, width: int, passed: bool) -> MetaLearner:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    features = members * outputs + (FEATURES if passed else 0)
    return MetaLearner(
        draw(features, outputs),
        draw(outputs),
        HiddenLayer(draw(features, width), draw(width), draw(width, outputs)) if width else None,
        passed_by(rows()) if passed else None,
    )


@settings(max_examples=20, deadline=None)
@given(members=st.integers(1, 3), seed=st.integers(0, 1000), width=st.integers(0, 5), passed=st.booleans())
def test_a_stack_of_classifiers_is_that_of_the_formula(members, seed, width, passed):
    own = learner(members, seed, outputs=CLASSES, width=width, passed=passed)
    expected = meta_answers(own, member_answers(members, "probabilities"), rows(), classification=True)
    assert np.abs(answers(fused(members, own), "probabilities") - expected).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(members=st.integers(1, 3), seed=st.integers(0, 1000), width=st.integers(0, 5), passed=st.booleans())
def test_a_stack_of_regressions_is_that_of_the_formula(members, seed, width, passed):
    options = {"outputs": 1, "task": "regression"}
    own = learner(members, seed, outputs=1, width=width, passed=passed)
    expected = meta_answers(own, member_answers(members, "prediction", **options), rows(), classification=False)
    np.testing.assert_allclose(answers(fused(members, own, **options), "prediction"), expected, atol=1e-5, rtol=1e-5)


def test_every_member_answers_beside_a_stack_with_a_hidden_layer():
    graph = fused(2, learner(2, 0, outputs=CLASSES, width=3, passed=True))
    outputs = load_engine(graph.SerializeToString()).outputs
    assert outputs == ("probabilities", "logits", "member.0.probabilities", "member.1.probabilities")
    alone = answers(member(1), "probabilities")
    np.testing.assert_array_equal(answers(graph, "member.1.probabilities"), alone)


@settings(max_examples=10, deadline=None)
@given(weights=st.lists(st.floats(0, 2), min_size=1, max_size=3), seed=st.integers(0, 1000))
def test_a_sum_of_logits_may_start_from_a_constant(weights, seed):
    start = np.random.default_rng(seed).normal(size=CLASSES)
    graph = fused(len(weights), LogitSum(tuple(weights), tuple(start.tolist())))
    logits = serial_logits(member_answers(len(weights), "logits"), np.array(weights), start=start)
    assert np.abs(answers(graph, "probabilities") - softmax(logits)).max() < 1e-5
    assert "member.0.logits" in load_engine(graph.SerializeToString()).outputs


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        (LogitSum((1,), (0.0,)), "starts from 1 numbers"),
        (MetaLearner(np.zeros((3, 3), np.float32), np.zeros(3, np.float32), passed=passed_by(rows())), "kernel of"),
    ],
)
def test_numbers_that_do_not_fit_the_members_are_refused(fusion, words):
    with pytest.raises(ShapeMismatchError, match=words):
        fuse([member(0)], fusion)


def test_a_column_that_never_changes_is_only_centred():
    constant = np.column_stack([np.full(9, 7.0), np.arange(9.0)])
    found = passed_by(constant)
    assert isinstance(found, Passed)
    assert found.deviation[0] == 1
    assert found.deviation[1] == pytest.approx(constant[:, 1].std())
