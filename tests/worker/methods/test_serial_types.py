"""Serial ensembles of real networks: by reweighted rows and by the gradient, as well as by residuals."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from app.domain.fusion import negative_log_likelihood, serial_logits, softmax
from app.domain.job_errors import MethodNotApplicableError
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.jobs import Workshop, digits, report_of, wave, write_dataset
from worker.rows import open_data

NORMED = {"type": "mlp", "hidden": [16], "batch_norm": True, "dropout": 0.0}
TINY = {"type": "mlp", "hidden": [16], "dropout": 0.0}
TRAINING = {"epochs": 6, "batch_size": 50, "optimizer": {"type": "adam", "learning_rate": 0.01}}
TYPES = ["residual", "samme", "gradient"]


def serial(kind, rounds, *, architecture=TINY, **options):
    method = {
        "method": "serial",
        "type": kind,
        "members": [{"architecture": architecture}],
        "rounds": rounds,
        **options,
    }
    return {"kind": "ensemble", "name": "sum", "training": TRAINING, "calibrate": False, "method": method}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("serial")
    return Workshop(root / "jobs", digits(root / "digits", train=400))


@pytest.fixture(scope="module")
def jobs(small):
    """Return the job of every type, with members that have batch normalization."""
    return {kind: small.run(serial(kind, 3, architecture=NORMED)) for kind in TYPES}


def rows_of(workshop):
    return np.load(workshop.dataset.files["report_x"]), np.load(workshop.dataset.files["report_y"])


@pytest.mark.parametrize("kind", TYPES)
def test_trap_15_the_sum_answers_from_disk_what_its_members_answer_from_disk(small, jobs, kind):
    *parts, fused = jobs[kind].products
    report = report_of(fused)
    rows, labels = rows_of(small)
    logits = np.stack([predict_rows(load_engine(part.directory / "model.onnx"), rows, "logits") for part in parts])
    weights = np.array([link.weight for link in fused.manifest.links])
    start = np.array(report["method"].get("start", np.zeros(10)))
    expected = softmax(serial_logits(logits.astype(np.float64), weights, start=start))
    found = predict_rows(load_engine(fused.directory / "model.onnx"), rows, "probabilities")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert report["metrics"]["accuracy"] == pytest.approx((found.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("kind", TYPES)
def test_trap_16_later_rounds_leave_earlier_members_as_they_are(small, jobs, kind):
    """Weights and statistics of batch normalization of the first member do not depend on what comes after it."""
    alone = small.run(serial(kind, 1, architecture=NORMED))
    first, same = (load_file(job.products[0].directory / "weights.safetensors") for job in (jobs[kind], alone))
    assert any("moving" in name for name in first)
    assert first.keys() == same.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, same[name], err_msg=name)


@pytest.mark.parametrize("kind", TYPES)
def test_trap_17_the_reported_losses_are_the_means_of_minus_log_p(small, jobs, kind):
    fused = jobs[kind].product
    engine, data = load_engine(fused.directory / "model.onnx"), open_data(small.dataset)
    found = {
        name: negative_log_likelihood(predict_rows(engine, data.x[name], "probabilities"), np.asarray(data.y[name]))
        for name in ("train", "selection", "report")
    }
    assert fused.manifest.metrics.nll == pytest.approx(found["report"], rel=1e-4)
    last = report_of(fused)["method"]["rounds"][-1]
    assert last["train_loss"] == pytest.approx(found["train"], rel=1e-4)
    assert last["selection_loss"] == pytest.approx(found["selection"], rel=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_trap_23_each_round_leaves_less_to_learn(jobs, kind):
    rounds = jobs[kind].report["method"]["rounds"]
    assert len(rounds) > 1
    losses = [found["selection_loss"] for found in rounds]
    assert losses == sorted(losses, reverse=True)
    assert rounds[1]["target_norm"] < rounds[0]["target_norm"]
    if kind != "samme":
        train = [found["train_loss"] for found in rounds]
        assert train == sorted(train, reverse=True)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_better_than_its_first_member(jobs, kind):
    *parts, fused = jobs[kind].products
    assert fused.manifest.metrics.accuracy > parts[0].manifest.metrics.accuracy - 0.01
    assert report_of(fused)["baseline"]["against"].startswith("its best member")
    assert report_of(fused)["method"]["type"] == kind
    assert fused.manifest.metrics.accuracy > 0.6


def test_the_rounds_of_one_member_are_members_of_following_seeds(small):
    short = small.run(serial("gradient", 2))
    members = [{"architecture": TINY, "seed": seed} for seed in (0, 1)]
    spec = serial("gradient", 2)
    spec["method"] = {"method": "serial", "type": "gradient", "members": members}
    whole = small.run(spec)
    for one, other in zip(short.products[:-1], whole.products[:-1], strict=True):
        assert one.manifest.files["weights.safetensors"] == other.manifest.files["weights.safetensors"]


def test_trap_23_the_sum_ends_when_the_selection_loss_no_longer_falls(tmp_path):
    """Labels at random: what the second member learns of the train rows helps nowhere else."""
    workshop = Workshop(tmp_path / "jobs", digits(tmp_path / "digits", train=200, permuted=True))
    spec = serial("gradient", 4, shrinkage=1.0)
    spec["training"] = {**TRAINING, "epochs": 12}
    job = workshop.run(spec)
    notes = job.report["method"]
    assert notes["ended_early"]
    assert notes["planned_rounds"] == 4 > len(notes["rounds"])


def clouds(directory, weights):
    """Write rows whose columns say nothing of their class, and what they weigh."""
    rng = np.random.default_rng(0)
    parts = {
        name: (rng.normal(size=(count, 3)).astype(np.float32), np.arange(count) % 3)
        for name, count in (("train", 90), ("selection", 60), ("report", 60))
    }
    schema = {"features": "table", "shape": (3,), "dtype": "float32", "classes": ("a", "b", "c")}
    return write_dataset(directory, schema, parts, weights={name: weights(y) for name, (_, y) in parts.items()})


def test_trap_22_with_all_weight_on_one_class_the_member_predicts_it(tmp_path):
    workshop = Workshop(tmp_path / "jobs", clouds(tmp_path / "clouds", lambda labels: (labels == 1).astype(float)))
    spec = serial("samme", 2)
    spec["training"] = {**TRAINING, "epochs": 30}
    job = workshop.run(spec)
    rows, _ = rows_of(workshop)
    found = predict_rows(load_engine(job.product.directory / "model.onnx"), rows, "probabilities")
    assert (found.argmax(axis=1) == 1).all()
    assert len(job.products) == 2, "one member, which is never wrong where rows count, and the sum"
    assert job.report["method"]["rounds"][0]["error"] == 0


def test_trap_22_a_first_member_that_only_guesses_fails_the_job(tmp_path):
    """All train rows are equal, so every network answers one class for them, and two in three are wrong."""
    dataset = clouds(tmp_path / "clouds", np.ones_like)
    np.save(dataset.files["train_x"], np.ones((90, 3), np.float32))
    with pytest.raises(MethodNotApplicableError, match="no better than guessing"):
        Workshop(tmp_path / "jobs", dataset).run(serial("samme", 2))


def test_a_regression_is_boosted_by_its_gradient(tmp_path):
    workshop = Workshop(tmp_path / "jobs", wave(tmp_path / "wave"))
    spec = serial("gradient", 3, shrinkage=0.5)
    spec["training"] = {**TRAINING, "epochs": 10}
    job = workshop.run(spec)
    notes = job.report["method"]
    data = open_data(workshop.dataset)
    assert notes["start"] == pytest.approx([float(data.y["train"].mean())], rel=1e-5)
    norms = [found["target_norm"] for found in notes["rounds"]]
    assert len(norms) == 3
    assert norms == sorted(norms, reverse=True)
    assert norms[0] == pytest.approx(float(data.y["train"].std()), rel=1e-4)
    assert all(0 < found["weight"] <= 0.5 for found in notes["rounds"])
    assert job.report["parity"]["max_difference"] <= 1e-5
