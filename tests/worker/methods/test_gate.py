"""The gate: a version that may have lost more than max_drop is rejected, and says by how much."""

import numpy as np
import pytest

from tests.worker.methods.conftest import TRAINING
from worker.gate import examine_drop
from worker.rows import open_data

TOO_SMALL = {"type": "mlp", "hidden": [2], "dropout": 0.0}


def distill(student, **options):
    method = {"method": "distill", "teacher": "cnn/1", "student": student, "control": False, **options}
    return {"kind": "optimize", "method": method, "training": {**TRAINING, "epochs": 2}}


def answers_with(data, *, wrong: int):
    """Answer all report rows right but the first so many."""
    labels = np.array(data.y["report"])
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return np.eye(10)[labels]


def test_a_version_that_lost_too_much_is_rejected_with_the_reason(workshop, parent):
    job = workshop.run(distill(TOO_SMALL, max_drop=0.5), teacher=[parent.version()])
    gate, reason = job.report["gate"], job.product.manifest.rejected
    assert gate["passed"] is False
    assert gate["against"] == "its teacher cnn/1"
    assert gate["lower_bound"] < gate["difference"] < -0.5
    assert f"{-gate['lower_bound']:.2f} points of accuracy worse than its teacher cnn/1" in reason
    assert "at most 0.50 is allowed" in reason
    assert "raise max_drop" in reason


def test_a_version_within_its_allowance_passes(workshop, parent):
    job = workshop.run(distill(TOO_SMALL, max_drop=100), teacher=[parent.version()])
    assert job.report["gate"]["passed"] is True
    assert job.product.manifest.rejected is None


def test_without_max_drop_everything_passes(workshop, parent):
    job = workshop.run(distill(TOO_SMALL, max_drop=None), teacher=[parent.version()])
    assert job.report["gate"] is None
    assert job.product.manifest.rejected is None


def test_a_copy_of_a_model_passes_what_the_rows_can_show_and_nothing_finer(workshop):
    data = open_data(workshop.dataset)
    own, rows = answers_with(data, wrong=20), len(data.y["report"])
    shown = 100 * 2.706 / (rows + 2.706)
    gate = examine_drop(own, own, data, against="itself", max_drop=1.01 * shown)
    assert (gate.passed, gate.difference, gate.reason) == (True, 0, None)
    assert gate.smallest_shown == pytest.approx(shown, rel=1e-3)
    refused = examine_drop(own, own, data, against="itself", max_drop=0.99 * shown)
    assert not refused.passed
    assert "measure on more" in refused.reason


def test_the_reason_says_when_the_rows_are_too_few(workshop):
    data = open_data(workshop.dataset)
    gate = examine_drop(
        answers_with(data, wrong=30), answers_with(data, wrong=0), data, against="its parent", max_drop=0.1
    )
    assert not gate.passed
    assert gate.smallest_shown > 0.1
    assert "measure on more" in gate.reason


def test_a_regression_is_gated_by_its_rmse_in_percent(regressions):
    data = open_data(regressions.dataset)
    targets = np.asarray(data.y["report"], np.float64)
    noise = np.random.default_rng(0).normal(size=targets.shape)
    gate = examine_drop(targets + 1.1 * noise, targets + noise, data, against="its parent", max_drop=5)
    assert gate.difference == pytest.approx(-10)
    assert not gate.passed
    assert "% of RMSE" in gate.reason
    assert examine_drop(targets + 1.1 * noise, targets + noise, data, against="its parent", max_drop=11).passed
