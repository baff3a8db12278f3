"""A regression learns in units of its own, and answers in those of the data set, whatever these are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import load_diabetes

from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import Network
from app.domain.presets import build_network
from app.domain.specs import job_spec_adapter
from tests.worker.fakes import FakeReporter
from tests.worker.methods.jobs import Job, Workshop, write_dataset
from worker.context import Stopped
from worker.learning import Lesson, engine_of, learn, plain_lesson
from worker.rows import open_data

SCHEMA = {"features": "table", "shape": (10,), "dtype": "float32", "task": "regression"}
BOUNDS = {"train": slice(0, 265), "selection": slice(265, 353), "report": slice(353, None)}
MLP = {"type": "mlp", "hidden": [16, 16, 16], "dropout": 0.0}
SHORT = {"epochs": 3, "optimizer": {"type": "adam", "learning_rate": 0.004}}
# A training so short and slow that it leaves everything where it was.
STILL = {"epochs": 1, "batch_size": 512, "optimizer": {"type": "sgd", "learning_rate": 1e-6}}


def diabetes(directory: Path, *, scale: float = 1.0, shift: float = 0.0) -> Workshop:
    """Return a workshop on scikit-learn's diabetes: 442 real patients, targets from 25 to 346 in other units."""
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order].astype(np.float32), (scale * y[order, None] + shift).astype(np.float32)
    dataset = write_dataset(directory / "data", SCHEMA, {name: (x[part], y[part]) for name, part in BOUNDS.items()})
    return Workshop(directory / "jobs", dataset)


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Workshop:
    return diabetes(tmp_path_factory.mktemp("diabetes"))


@pytest.fixture(scope="module")
def parent(patients) -> Job:
    return patients.run(train_spec(training={**SHORT, "epochs": 20}))


def train_spec(**options: Any) -> dict[str, Any]:
    return {"kind": "train", "name": "own", "architecture": MLP, "training": SHORT, **options}


def optimize(method: str, **options: Any) -> dict[str, Any]:
    own = {"method": method, "parent": "own/1", "max_drop": None, **options}
    return {"kind": "optimize", "name": "child", "method": own, "training": STILL}


def lesson_of(workshop: Workshop, spec: dict[str, Any]) -> Lesson:
    data = open_data(workshop.dataset)
    read = job_spec_adapter.validate_python({"dataset": "digits", **spec})
    return plain_lesson(read, build_network(read.architecture, data.dataset_schema), data)


def answers_for(job: Job, rows: str, workshop: Workshop) -> np.ndarray:
    network = Network.model_validate_json((job.product.directory / "network.json").read_bytes())
    weights = load_file(job.product.directory / "weights.safetensors")
    return engine_of(network, weights).run(np.load(workshop.dataset.files[f"{rows}_x"]), ["prediction"])[0]


def losses_of(job: Job) -> list[tuple[float, float]]:
    return [(epoch["loss"], epoch["selection_loss"]) for epoch in job.report["history"]]


def test_the_defaults_beat_the_mean_by_far_in_whatever_units_the_targets_are(patients, tmp_path):
    own, other = (
        workshop.run({"kind": "train", "name": "defaults", "architecture": {"type": "mlp"}})
        for workshop in (patients, diabetes(tmp_path, scale=1000, shift=5e6))
    )
    assert own.report["baseline"]["verdict"] == "better"
    assert own.report["metrics"]["rmse"] < 0.88 * np.load(patients.dataset.files["report_y"]).std()
    assert other.report["metrics"]["rmse"] == pytest.approx(1000 * own.report["metrics"]["rmse"], rel=1e-3)
    np.testing.assert_allclose(losses_of(own), losses_of(other), rtol=1e-3)


def test_a_loss_of_1_is_that_of_the_mean(patients):
    line = {"type": "graph", "layers": [{"type": "dense", "name": "answer", "units": 1}]}
    data, lesson = open_data(patients.dataset), lesson_of(patients, train_spec(training=STILL, architecture=line))
    zeros = np.zeros((10, 1), np.float32)
    trained = learn(replace(lesson, start={**lesson.start, "answer/kernel": zeros}), FakeReporter(Path()), None)
    assert trained.history[0]["loss"] == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(trained.weights["answer/bias"], data.y["train"].mean(), rtol=1e-5)


CHILDREN = {
    "prune": {"structure": "unstructured", "ratio": 0.05, "rounds": 1},
    "cluster": {"clusters": 128},
}


@pytest.mark.parametrize("method", CHILDREN)
@pytest.mark.parametrize("learn_from", ["labels", "parent"])
def test_a_child_starts_from_the_figures_of_its_parent(patients, parent, method, learn_from):
    job = patients.run(optimize(method, learn_from=learn_from, **CHILDREN[method]), parent=[parent.version()])
    assert job.report["metrics"]["rmse"] == pytest.approx(parent.report["metrics"]["rmse"], rel=0.02)


def test_weights_that_are_only_turned_between_units_stay_as_they_were(patients, parent):
    start = load_file(parent.product.directory / "weights.safetensors")
    lesson = replace(lesson_of(patients, train_spec(training=STILL)), start=start)
    trained = learn(lesson, FakeReporter(Path()), None)
    for name, values in trained.weights.items():
        np.testing.assert_allclose(values, start[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_zeros_and_shared_values_of_the_answer_layer_survive_the_training(patients):
    rng = np.random.default_rng(0)
    lesson = lesson_of(patients, train_spec())
    kernel = np.where(np.arange(16) < 5, 0, 50 * rng.normal(size=16)).astype(np.float32)[:, None]
    groups = {"answer/kernel": np.where(kernel == 0, -1, np.arange(16)[:, None] // 8)}
    start = {**lesson.start, "answer/kernel": kernel}
    trained = learn(replace(lesson, start=start, keep_zeros=True, groups=groups), FakeReporter(Path()), None)
    found = trained.weights["answer/kernel"][:, 0]
    assert (found[:5] == 0).all()
    assert [len(np.unique(part)) for part in (found[5:8], found[8:])] == [1, 1]
    assert np.abs(found[5:]).min() > 1


@pytest.mark.parametrize("averaging", [None, 0.9])
def test_an_interrupted_regression_comes_to_the_same_bits(patients, averaging):
    spec = train_spec(training={**SHORT, "averaging": averaging})
    whole = patients.run(spec)
    with pytest.raises(Stopped):
        patients.run(spec, stop_after=7)
    resumed = patients.run(spec, resume=patients.last.reporter.checkpoints[-1][1])
    expected, found = (load_file(job.product.directory / "weights.safetensors") for job in (whole, resumed))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert losses_of(whole) == losses_of(resumed)


@pytest.mark.parametrize("value", [0.0, 0.1, 12345.0])
def test_equal_targets_are_learned_as_they_are(tmp_path, value):
    workshop = diabetes(tmp_path, scale=0.0, shift=value)
    job = workshop.run(train_spec(training={**SHORT, "epochs": 30}))
    assert job.report["metrics"]["rmse"] < 0.2


@pytest.mark.parametrize("answer", [{"use_bias": False}, {"activation": "relu"}])
def test_an_answer_that_cannot_change_its_units_is_trained_as_it_is(patients, answer):
    last = {"type": "dense", "name": "answer", "units": 1, **answer}
    layers = [{"type": "dense", "name": "hidden", "units": 8, "activation": "relu"}, last]
    training = {"epochs": 5, "optimizer": {"type": "adam", "learning_rate": 0.1}}
    job = patients.run(train_spec(architecture={"type": "graph", "layers": layers}, training=training))
    selection = np.load(patients.dataset.files["selection_y"])
    deviation = np.load(patients.dataset.files["train_y"]).std()
    predicted = answers_for(job, "selection", patients)
    best = min(loss for _, loss in losses_of(job))
    assert best == pytest.approx(np.square((selection - predicted) / deviation).mean(), rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_a_sum_of_members_only_gets_better_in_whatever_units(tmp_path, scale):
    workshop = diabetes(tmp_path, scale=scale, shift=300 * scale)
    members = [{"architecture": {"type": "mlp", "hidden": [8], "dropout": 0.0}, "seed": seed} for seed in (0, 1, 2)]
    method, training = {"method": "serial", "members": members}, {**SHORT, "epochs": 20}
    job = workshop.run({"kind": "ensemble", "name": "sum", "training": training, "method": method})
    rounds = job.report["method"]["rounds"]
    losses = [found["selection_loss"] for found in rounds]
    assert len(losses) > 1
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < np.load(workshop.dataset.files["selection_y"]).var()


def test_a_student_of_a_regression_learns_by_answers_and_hints(patients, parent):
    student = {"type": "mlp", "hidden": [16], "dropout": 0.0}
    hints = {"student_layer": "dense1", "teacher_layer": "dense1", "weight": 0.1}
    method = {"method": "distill", "teacher": "own/1", "student": student, "hints": hints, "control": False}
    spec = {"kind": "optimize", "name": "student", "method": method, "training": {**SHORT, "epochs": 20}}
    job = patients.run(spec, teacher=[parent.version()])
    assert job.report["metrics"]["rmse"] < 1.1 * parent.report["metrics"]["rmse"]
    with pytest.raises(MethodNotApplicableError, match="is its answer"):
        patients.run(
            {**spec, "method": {**method, "hints": {**hints, "student_layer": "answer"}}}, teacher=[parent.version()]
        )
