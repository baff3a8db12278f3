"""Traps of knowledge distillation, each with the test that catches it."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.fusion import log_probabilities, softmax, weighted_mean
from app.serving.runtime import load_engine
from tests.worker.methods.conftest import SMALL_MLP, TRAINING
from worker.measure import predict_rows
from worker.nn.objectives import distillation_objective
from worker.optimize import teaching
from worker.optimize.teaching import teach
from worker.package import file_ref
from worker.rows import open_data

STUDENT = {"type": "cnn", "filters": [4, 8], "dense": [16], "dropout": 0.0}
TEACHABLE = {"epochs": 10, "batch_size": 64, "optimizer": {"type": "adam", "learning_rate": 0.01}}


@pytest.fixture(scope="module")
def teacher(workshop, parent, dense):
    members = [{"model": f"{job.product.name_hint}/1"} for job in (parent, dense)]
    spec = {
        "kind": "ensemble",
        "name": "pair",
        "calibrate": False,
        "method": {"method": "parallel", "members": members},
    }
    return workshop.run(spec, members=[parent.version(), dense.version()])


@pytest.fixture(scope="module")
def distilled(workshop, teacher):
    method = {"method": "distill", "teacher": "pair/1", "student": STUDENT, "temperature": 2.0}
    spec = {"kind": "optimize", "name": "student", "method": method, "training": TEACHABLE}
    return workshop.run(spec, teacher=[teacher.version()])


def losses(targets, logits, *, temperature=4.0, alpha=1.0):
    objective = distillation_objective(temperature=temperature, alpha=alpha)
    return np.asarray(objective.loss(keras.ops.convert_to_tensor(targets), keras.ops.convert_to_tensor(logits)))


def packed(labels, teacher_logits):
    return np.concatenate([labels, log_probabilities(softmax(teacher_logits))], axis=1).astype(np.float32)


def test_an_ensemble_teaches_a_student_of_a_tenth_of_its_size(distilled, teacher):
    own, taught_by = distilled.product.manifest.metrics, teacher.product.manifest.metrics
    assert own.parameters < taught_by.parameters / 4
    assert own.accuracy > taught_by.accuracy - 0.08
    assert distilled.report["method"]["taught_by"] == "fused probabilities"
    assert distilled.product.manifest.links[0].role == "teacher"


def test_trap_1_the_teacher_sees_the_very_rows_and_stays_as_it_is(workshop, teacher, monkeypatch):
    version, data = teacher.version(), open_data(workshop.dataset)
    before = file_ref(version.files["model.onnx"])
    seen = []

    class Spy:
        def __init__(self, path):
            self.engine = load_engine(path)
            self.dtype, self.shape, self.outputs = self.engine.dtype, self.engine.shape, self.engine.outputs

        def run(self, inputs, outputs):
            seen.append(inputs.copy())
            return self.engine.run(inputs, outputs)

    monkeypatch.setattr(teaching, "load_engine", Spy)
    teach(version, data, temperature=4.0, alpha=0.9)
    fed = np.concatenate(seen)
    raw = np.concatenate([data.x["train"], data.x["selection"]])
    assert fed.dtype == np.float32
    np.testing.assert_array_equal(fed, raw.astype(np.float32))
    assert file_ref(version.files["model.onnx"]) == before


def test_trap_2_the_soft_gradient_keeps_its_size_at_every_temperature():
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(size=(64, 10)).astype(np.float32) * 0.3 for _ in range(2))
    labels = np.eye(10, dtype=np.float32)[rng.integers(10, size=64)]
    gradients = {t: soft_gradient(packed(labels, teacher), student, temperature=t) for t in (1.0, 2.0, 4.0, 8.0, 16.0)}
    norms = [np.linalg.norm(gradient) for gradient in gradients.values()]
    assert max(norms) / min(norms) < 3
    centred = (student - student.mean(1, keepdims=True)) - (teacher - teacher.mean(1, keepdims=True))
    limit = soft_gradient(packed(labels, teacher), student, temperature=20.0)
    np.testing.assert_allclose(limit, centred / 10, atol=3e-3)


def soft_gradient(targets, logits, *, temperature, step=0.1):
    """Return the slope of the summed loss by central differences, one class of all rows at a time."""
    columns = []
    for column in range(logits.shape[1]):
        nudge = np.zeros_like(logits)
        nudge[:, column] = step
        higher, lower = (
            losses(targets, logits + sign * nudge, temperature=temperature).astype(np.float64) for sign in (1, -1)
        )
        columns.append((higher - lower) / (2 * step))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_trap_2_alpha_weights_both_terms(alpha):
    rng = np.random.default_rng(1)
    student, teacher = (rng.normal(size=(8, 5)).astype(np.float32) for _ in range(2))
    targets = packed(np.eye(5, dtype=np.float32)[rng.integers(5, size=8)], teacher)
    hard, soft = (losses(targets, student, alpha=weight) for weight in (0.0, 1.0))
    np.testing.assert_allclose(losses(targets, student, alpha=alpha), (1 - alpha) * hard + alpha * soft, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-20, 20))
def test_trap_3_probabilities_teach_exactly_what_their_logits_teach(seed, shift):
    rng = np.random.default_rng(seed)
    student, teacher = (rng.normal(size=(6, 4)).astype(np.float32) for _ in range(2))
    labels = np.eye(4, dtype=np.float32)[rng.integers(4, size=6)]
    by_logits = np.concatenate([labels, teacher + np.float32(shift)], axis=1)
    np.testing.assert_allclose(losses(packed(labels, teacher), student), losses(by_logits, student), atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 2.0, 4.0, 10.0]))
def test_trap_4_the_loss_is_smallest_where_student_and_teacher_agree(seed, temperature):
    rng = np.random.default_rng(seed)
    teacher, other = (rng.normal(size=(6, 4)).astype(np.float32) * 2 for _ in range(2))
    targets = packed(np.eye(4, dtype=np.float32)[rng.integers(4, size=6)], teacher)
    agreeing = losses(targets, teacher, temperature=temperature)
    np.testing.assert_allclose(agreeing, 0, atol=1e-4)
    assert (losses(targets, other, temperature=temperature) >= agreeing - 1e-4).all()


def test_trap_8_a_teacher_that_memorised_the_rows_is_warned_of(workshop):
    sure = workshop.run(
        {
            "kind": "train",
            "name": "sure",
            "architecture": {**SMALL_MLP, "hidden": [128], "dropout": 0.0},
            "training": {**TRAINING, "epochs": 20, "optimizer": {"type": "adam", "learning_rate": 0.01}},
        }
    )
    method = {"method": "distill", "teacher": "sure/1", "student": SMALL_MLP, "control": False}
    spec = {"kind": "optimize", "method": method, "training": {"epochs": 1}}
    job = workshop.run(spec, teacher=[sure.version()])
    assert job.report["method"]["teacher_entropy"] < 0.05
    assert "memorised" in job.report["method"]["warnings"][0]
    assert any("memorised" in line for line in job.reporter.lines)


def test_trap_9_every_report_carries_a_hard_label_control_of_the_same_budget(distilled):
    comparisons = distilled.report["comparisons"]
    assert [item["against"] for item in comparisons] == [
        "its teacher pair/1",
        "the same student trained on labels alone",
    ]
    assert distilled.reporter.steps[-1][1] == 2 * TEACHABLE["epochs"] * 16
    lead = comparisons[1]["difference"]
    kept = distilled.report["method"]["gap_kept"]
    teacher_lead = lead - comparisons[0]["difference"]
    assert kept is None if teacher_lead <= 0 else kept == pytest.approx(lead / teacher_lead)


def test_trap_10_an_ensemble_teaches_the_mean_of_its_probabilities(workshop, parent, dense, teacher):
    data = open_data(workshop.dataset)
    rows = data.x["train"][:50]
    weights = np.array([link.weight for link in teacher.product.manifest.links])
    graphs = [load_engine(job.product.directory / "model.onnx") for job in (parent, dense)]
    by_mean = weighted_mean(np.stack([predict_rows(graph, rows, "probabilities") for graph in graphs]), weights)
    logits = np.stack([predict_rows(graph, rows, "logits") for graph in graphs])
    taught = teach(teacher.version(), data, temperature=4.0, alpha=0.9).rows.train_targets[:50, 10:]
    np.testing.assert_allclose(np.exp(taught), by_mean, atol=1e-5)
    assert np.abs(np.exp(taught) - softmax(np.tensordot(weights, logits, 1))).max() > 1e-3
