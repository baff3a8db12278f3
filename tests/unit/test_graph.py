import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from app.domain import fusion as numpy_fusion
from app.domain.errors import InvalidEnsembleError, ShapeMismatchError
from app.serving.graph import Fusion, LogitSum, MetaLearner, WeightedMean, fuse
from app.serving.runtime import load_engine, predict_rows

CLASSES = 3


def member(seed: int, *, features: int = 4, outputs: int = CLASSES, task: str = "classification") -> onnx.ModelProto:
    """Return the graph of a linear model with weights of its seed; all of them share the same scaling constant."""
    rng = np.random.default_rng(seed)
    numbers = {
        "scale": np.full(features, 0.5, np.float32),
        "kernel": rng.normal(0, 2, (features, outputs)).astype(np.float32),
        "bias": rng.normal(size=outputs).astype(np.float32),
    }
    answers = ["probabilities", "logits"] if task == "classification" else ["prediction"]
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"], name="scaled"),
        helper.make_node("Gemm", ["scaled", "kernel", "bias"], ["answer"], name="answer"),
        helper.make_node("Identity", ["answer"], [answers[-1]], name="identity"),
    ]
    if task == "classification":
        nodes.append(helper.make_node("Softmax", ["answer"], ["probabilities"], name="softmax", axis=-1))
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])
    answered = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", outputs]) for name in answers]
    initializers = [numpy_helper.from_array(values, name) for name, values in numbers.items()]
    graph = helper.make_graph(nodes, "member", [taken], answered, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def rows(count: int = 20, features: int = 4) -> np.ndarray:
    return np.random.default_rng(9).normal(0, 2, (count, features)).astype(np.float32)


def answers(graph: onnx.ModelProto, output: str) -> np.ndarray:
    return predict_rows(load_engine(graph.SerializeToString()), rows(), output, batch_size=7)


def member_answers(count: int, output: str, **options: object) -> np.ndarray:
    return np.stack([answers(member(seed, **options), output) for seed in range(count)]).astype(np.float64)


def fused(count: int, fusion: Fusion, **options: object) -> onnx.ModelProto:
    return fuse([member(seed, **options) for seed in range(count)], fusion)


positive = st.floats(0.01, 5).map(float)


@settings(max_examples=20, deadline=None)
@given(weights=st.lists(positive, min_size=1, max_size=4))
def test_the_weighted_mean_is_that_of_the_formula(weights):
    found = answers(fused(len(weights), WeightedMean(tuple(weights))), "probabilities")
    expected = numpy_fusion.weighted_mean(member_answers(len(weights), "probabilities"), np.array(weights))
    assert np.abs(found - expected).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(weights=st.lists(st.floats(0, 2), min_size=1, max_size=4))
def test_the_sum_of_logits_is_that_of_the_formula(weights):
    graph = fused(len(weights), LogitSum(tuple(weights)))
    logits = numpy_fusion.serial_logits(member_answers(len(weights), "logits"), np.array(weights))
    assert np.abs(answers(graph, "logits") - logits).max() < 1e-4
    assert np.abs(answers(graph, "probabilities") - numpy_fusion.softmax(logits)).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 4), seed=st.integers(0, 1000))
def test_the_meta_learner_is_that_of_the_formula(count, seed):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 0.3, (count * CLASSES, CLASSES)).astype(np.float32)
    bias = rng.normal(size=CLASSES).astype(np.float32)
    expected = numpy_fusion.stacked_probabilities(member_answers(count, "probabilities"), kernel, bias)
    found = answers(fused(count, MetaLearner(kernel, bias)), "probabilities")
    assert np.abs(found - expected).max() < 1e-5


def test_regressions_fuse_their_predictions():
    options = {"outputs": 1, "task": "regression"}
    single = member_answers(2, "prediction", **options)
    mean = answers(fused(2, WeightedMean((1, 3)), **options), "prediction")
    assert np.allclose(mean, 0.25 * single[0] + 0.75 * single[1], atol=1e-5)
    total = answers(fused(2, LogitSum((1, 0.5)), **options), "prediction")
    assert np.allclose(total, single[0] + 0.5 * single[1], atol=1e-5)
    learner = MetaLearner(np.float32([[0.2], [0.7]]), np.float32([1]))
    assert np.allclose(
        answers(fused(2, learner, **options), "prediction"), 0.2 * single[0] + 0.7 * single[1] + 1, atol=1e-5
    )


@pytest.mark.parametrize(
    ("fusion", "outputs"),
    [
        (WeightedMean((1, 1)), ("probabilities", "member.0.probabilities", "member.1.probabilities")),
        (LogitSum((1, 1)), ("probabilities", "logits", "member.0.logits", "member.1.logits")),
    ],
)
def test_every_member_answers_beside_the_fusion(fusion, outputs):
    graph = fused(2, fusion)
    assert load_engine(graph.SerializeToString()).outputs == outputs
    alone = answers(member(1), outputs[-1].removeprefix("member.1."))
    assert np.array_equal(answers(graph, outputs[-1]), alone)


def test_identical_initializers_are_stored_once():
    graph = fuse([member(0), member(1), member(0)], WeightedMean((1, 2, 4)))
    contents = [(tensor.data_type, numpy_helper.to_array(tensor).tobytes()) for tensor in graph.graph.initializer]
    assert len(contents) == len(set(contents)) == 1 + 2 * 2 + 3


def test_a_fused_ensemble_may_be_a_member():
    inner = fused(2, WeightedMean((1, 1)))
    single = member_answers(3, "probabilities")
    found = answers(fuse([inner, member(2)], WeightedMean((1, 1))), "probabilities")
    assert np.allclose(found, single[0] / 4 + single[1] / 4 + single[2] / 2, atol=1e-6)


def test_trap_21_the_order_of_the_members_does_not_change_the_answer():
    kernel = np.random.default_rng(0).normal(size=(2 * CLASSES, CLASSES)).astype(np.float32)
    bias = np.zeros(CLASSES, np.float32)
    swapped = np.concatenate([kernel[CLASSES:], kernel[:CLASSES]])
    forward = fuse([member(0), member(1)], MetaLearner(kernel, bias))
    backward = fuse([member(1), member(0)], MetaLearner(swapped, bias))
    assert np.allclose(answers(forward, "probabilities"), answers(backward, "probabilities"), atol=1e-6)


@pytest.mark.parametrize(
    ("members", "fusion", "error", "words"),
    [
        ([], WeightedMean(()), InvalidEnsembleError, "at least one member"),
        ([member(0), member(1)], WeightedMean((1,)), InvalidEnsembleError, "2 members need as many weights"),
        ([member(0)], WeightedMean((0,)), InvalidEnsembleError, "not all zero"),
        (
            [member(0), member(1, features=5)],
            WeightedMean((1, 1)),
            ShapeMismatchError,
            r"Member 1 takes rows of \(5,\)",
        ),
        ([member(0), member(1, outputs=4)], WeightedMean((1, 1)), ShapeMismatchError, "Member 1 answers 4 numbers"),
        (
            [member(0), member(1, outputs=3, task="regression")],
            WeightedMean((1, 1)),
            InvalidEnsembleError,
            "answers prediction",
        ),
        (
            [member(0)],
            MetaLearner(np.zeros((4, 3), np.float32), np.zeros(3, np.float32)),
            ShapeMismatchError,
            "kernel of",
        ),
        ([fuse([member(0)], WeightedMean((1,)))], LogitSum((1,)), InvalidEnsembleError, "needs logits"),
    ],
)
def test_members_that_do_not_fit_together_are_refused(members, fusion, error, words):
    with pytest.raises(error, match=words):
        fuse(members, fusion)


def test_only_what_is_asked_is_answered():
    engine = load_engine(fused(2, WeightedMean((1, 1))).SerializeToString())
    found = engine.run(rows(3), ["member.1.probabilities", "probabilities"])
    assert [array.shape for array in found] == [(3, CLASSES), (3, CLASSES)]


def test_rows_are_cast_batch_by_batch_and_may_be_memory_mapped(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(40).reshape(10, 4).astype(np.int16))
    engine = load_engine(member(0).SerializeToString())
    mapped = predict_rows(engine, np.load(path, mmap_mode="r"), "probabilities", batch_size=3)
    assert np.allclose(mapped, predict_rows(engine, np.load(path), "probabilities"), atol=1e-6)


def test_no_rows_have_no_answers():
    assert predict_rows(load_engine(member(0).SerializeToString()), rows(0), "probabilities").shape == (0, CLASSES)
