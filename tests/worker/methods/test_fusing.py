"""What every fusion of real members says of itself: temperatures, sets, diversity; and cascades."""

import numpy as np
import pytest

from app.domain.fusion import uncertainty
from app.domain.presets import build_network
from app.domain.specs import TrainSpec, job_spec_adapter
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.conftest import SMALL_MLP, TRAINING
from worker.learning import plain_lesson
from worker.rows import open_data


def fuse(workshop, jobs, *, method=None, **spec):
    chosen = {"method": "parallel", **(method or {})}
    chosen["members"] = [{"model": f"{job.product.name_hint}/1"} for job in jobs]
    body = {"kind": "ensemble", "name": "fused", "training": TRAINING, "method": chosen, **spec}
    return workshop.run(body, members=[job.version() for job in jobs])


@pytest.fixture(scope="module")
def calibrated(workshop, trio):
    return fuse(workshop, trio, conformal=0.1)


def answers(job, workshop, name="probabilities", rows="report_x"):
    x = np.load(workshop.dataset.files[rows])
    return predict_rows(load_engine(job.product.directory / "model.onnx"), x, name)


def test_temperatures_stand_in_the_report_and_lower_the_loss_they_were_fitted_on(calibrated):
    told = calibrated.report["method"]["calibration"]
    assert len(told["members"]) == 3
    for each in [*told["members"], told["fusion_temperature"]]:
        assert each["temperature"] > 0
        assert each["nll"] <= each["nll_before"] + 1e-9


def test_a_fusion_without_calibration_is_the_plain_weighted_mean(workshop, trio, calibrated):
    plain = fuse(workshop, trio, calibrate=False, method={"weights": "uniform"})
    members = np.stack([answers(job, workshop) for job in trio])
    np.testing.assert_allclose(answers(plain, workshop), members.mean(axis=0), atol=1e-5)
    changed = answers(calibrated, workshop, "member.0.probabilities")
    assert (changed.argmax(axis=1) == members[0].argmax(axis=1)).all(), "no answer becomes another class"


def test_the_members_of_a_calibrated_graph_split_its_uncertainty(workshop, calibrated):
    members = np.stack([answers(calibrated, workshop, f"member.{place}.probabilities") for place in range(3)])
    told = uncertainty(members.astype(np.float64))
    assert (told.mutual_information >= 0).all()
    assert told.mutual_information.mean() > 0


def test_sets_cover_the_report_rows_about_as_promised(workshop, calibrated):
    told = calibrated.report["method"]["conformal"]
    sets = answers(calibrated, workshop, "prediction_set")
    labels = np.load(workshop.dataset.files["report_y"])
    covered = sets[np.arange(len(labels)), labels].mean()
    assert told["coverage"] == pytest.approx(covered)
    assert covered == pytest.approx(0.9, abs=0.06)
    assert told["mean_set_size"] == pytest.approx(sets.sum(axis=1).mean())
    assert calibrated.product.manifest.extra_outputs == ("prediction_set",)


def test_the_report_tells_how_members_differ_and_what_each_is_worth(workshop, trio, calibrated):
    told = calibrated.report["method"]
    labels = np.load(workshop.dataset.files["report_y"])
    votes = np.stack([answers(job, workshop).argmax(axis=1) for job in trio])
    assert told["diversity"]["disagreement"][0][1] == pytest.approx((votes[0] != votes[1]).mean())
    wrong = votes != labels
    assert told["diversity"]["double_fault"][0][2] == pytest.approx((wrong[0] & wrong[2]).mean())
    assert set(told["diversity"]) >= {"yule_q", "correlation", "mean_disagreement"}
    assert all(set(member["marginal_value"]) == {"accuracy", "nll"} for member in told["members"])


def test_a_cascade_asks_the_dear_member_for_few_rows_and_keeps_its_promise(workshop, parent, dense):
    job = fuse(workshop, [dense, parent], method={"method": "cascade", "max_loss": 0.5})
    told = job.report["method"]
    predicted, measured = told["predicted"], told["measured"]
    assert predicted["asked"][0] == measured["asked"][0] == 1.0
    assert measured["asked"][1] < 0.9
    assert measured["macs_per_row"] < parent.product.manifest.metrics.macs + dense.product.manifest.metrics.macs
    assert abs(predicted["accuracy"] - measured["accuracy"]) < 0.05
    assert job.accuracy == pytest.approx(measured["accuracy"], abs=1e-9)
    places = answers(job, workshop, "answered_by")
    assert (places == 1).mean() == pytest.approx(measured["asked"][1])


def test_given_thresholds_are_kept_as_they_are(workshop, parent, dense):
    job = fuse(workshop, [dense, parent], method={"method": "cascade", "thresholds": [1.0]}, calibrate=False)
    assert job.report["method"]["thresholds"] == [1.0]
    assert job.report["method"]["measured"]["asked"][1] > 0.5, "hardly any row is certain"


def test_a_bagged_member_learns_from_as_many_rows_drawn_with_replacement(workshop):
    data = open_data(workshop.dataset)
    spec = job_spec_adapter.validate_python(
        {"kind": "train", "name": "bag", "dataset": "digits", "architecture": SMALL_MLP, "rows": "bootstrap", "seed": 3}
    )
    assert isinstance(spec, TrainSpec)
    rows = _rows(spec, data)
    assert rows.count == len(data.y["train"])
    assert 0.6 < len(np.unique(rows.chosen)) / rows.count < 0.67, "about 1 - 1/e of the rows"
    other = _rows(spec.model_copy(update={"seed": 4}), data)
    assert not np.array_equal(rows.chosen, other.chosen)


def _rows(spec, data):
    return plain_lesson(spec, build_network(spec.architecture, data.dataset_schema), data).rows
