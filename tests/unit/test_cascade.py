"""A cascade's graph asks for what its arithmetic asks for, and answers the same."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from app.domain.calibration import apply_temperature
from app.domain.cascade import asked, choose_thresholds, pass_on
from app.domain.errors import InvalidEnsembleError
from app.domain.fusion import softmax
from app.serving.cascade import Cascade, cascade_graph
from app.serving.graph import WeightedMean, fuse
from app.serving.runtime import load_engine

FEATURES, CLASSES = 5, 3


def linear(seed: int, scale: float = 2.0) -> tuple[onnx.ModelProto, np.ndarray]:
    """Return a graph of softmax(x W) and its W."""
    kernel = (np.random.default_rng(seed).normal(size=(FEATURES, CLASSES)) * scale).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "kernel"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "member",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), kernel


def answers_by_hand(kernels: list[np.ndarray], temperatures: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    raw = [softmax((x @ kernel).astype(np.float64)) for kernel in kernels]
    return np.stack([apply_temperature(own, each) for own, each in zip(raw, temperatures, strict=True)])


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 33),
    members=st.integers(2, 4),
    threshold=st.sampled_from([0.0, 0.4, 0.6, 0.8, 0.95, 2.0]),
)
@settings(max_examples=60)
def test_the_graph_equals_the_arithmetic(seed: int, rows: int, members: int, threshold: float) -> None:
    made = [linear(seed + place) for place in range(members)]
    temperatures = tuple(1.0 + 0.5 * place for place in range(members))
    thresholds = (threshold,) * (members - 1)
    engine = load_engine(
        cascade_graph([graph for graph, _ in made], Cascade(thresholds, temperatures)).SerializeToString()
    )
    x = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    answers = answers_by_hand([kernel for _, kernel in made], temperatures, x)
    expected = pass_on(answers, thresholds)
    near = (np.abs(answers[:-1].max(axis=-1) - threshold) < 1e-5).any(axis=0)
    found, places, first = engine.run(x, ["probabilities", "answered_by", "member.0.probabilities"])
    np.testing.assert_allclose(found[~near], expected.probabilities[~near], atol=1e-5)
    assert (places[~near] == expected.answered_by[~near]).all()
    np.testing.assert_allclose(first, answers[0], atol=1e-5)


def test_a_dear_member_is_not_run_for_rows_that_a_cheap_one_is_sure_of() -> None:
    (cheap, _), (dear, _) = linear(0), linear(1)
    graph = cascade_graph([cheap, dear], Cascade((0.5,), (1.0, 1.0)))
    outside = [node.op_type for node in graph.graph.node]
    assert outside.count("MatMul") == 1, "the second member's product lies in the branch"
    assert "If" in outside


def test_thresholds_spend_least_without_losing_more_than_allowed() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 500)
    sure = rng.random(500)
    wrong = (labels + 1) % CLASSES
    sure_answers = np.eye(CLASSES)[labels] * 0.6 + 0.4 / CLASSES
    cheap = np.where((sure > 0.5)[:, None], sure_answers, np.eye(CLASSES)[wrong] * 0.2 + 0.8 / CLASSES)
    last = np.eye(CLASSES)[labels] * 0.9 + 0.1 / CLASSES
    choice = choose_thresholds(np.stack([cheap, last]), labels, [1.0, 10.0], max_loss=0.0)
    assert choice.accuracy == 1.0
    assert choice.asked[1] == pytest.approx((sure <= 0.5).mean())
    assert choice.cost == pytest.approx(1 + 10 * choice.asked[1])


def test_where_the_cheap_member_knows_nothing_the_last_is_asked_for_every_row() -> None:
    labels = np.array([0, 1, 2, 0])
    cheap, last = np.eye(CLASSES)[(labels + 1) % CLASSES], np.eye(CLASSES)[labels]
    choice = choose_thresholds(np.stack([cheap, last]), labels, [1.0, 10.0], max_loss=0.0)
    assert (choice.accuracy, choice.asked) == (1.0, (1.0, 1.0))
    assert asked(pass_on(np.stack([cheap, last]), choice.thresholds).answered_by, 2).tolist() == [1.0, 1.0]


def test_numbers_that_do_not_fit_the_members_are_refused() -> None:
    members = [linear(seed)[0] for seed in range(3)]
    with pytest.raises(InvalidEnsembleError, match="2 thresholds"):
        cascade_graph(members, Cascade((0.5,), (1.0, 1.0, 1.0)))


@given(seed=st.integers(0, 1_000), rows=st.integers(1, 9))
@settings(max_examples=25)
def test_temperatures_and_sets_in_a_fused_graph_equal_the_arithmetic(seed: int, rows: int) -> None:
    made = [linear(seed + place) for place in range(3)]
    fusion = WeightedMean((0.2, 0.5, 0.3), temperatures=(0.5, 1.0, 3.0), temperature=0.7)
    engine = load_engine(fuse([graph for graph, _ in made], fusion, level=0.4).SerializeToString())
    x = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    answers = answers_by_hand([kernel for _, kernel in made], fusion.temperatures, x)
    expected = apply_temperature(np.einsum("m,mnk->nk", np.array(fusion.weights), answers), 0.7)
    found, sets, member = engine.run(x, ["probabilities", "prediction_set", "member.2.probabilities"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(member, answers[2], atol=1e-5)
    near = np.abs(expected - 0.4) < 1e-4
    assert (sets[~near] == (expected >= 0.4)[~near]).all()
