"""Convolving as a job, on signals, audio and text; tables have nothing to convolve."""

import pytest

from app.domain.job_errors import MethodNotApplicableError
from tests.worker.methods.kinds import ARCHITECTURES, TRAINING, workshop_of

ONE = {**TRAINING, "epochs": 1}
DILATED = {
    "type": "graph",
    "layers": [
        {"type": "conv1d", "name": "first", "filters": 8, "activation": "relu"},
        {"type": "conv1d", "name": "wide", "filters": 8, "dilation": 2, "groups": 2, "activation": "relu"},
        {"type": "global_avg_pool", "name": "pool"},
        {"type": "dense", "name": "answer", "units": 3},
    ],
}
CASES = {
    "signal": (DILATED, "separable"),
    "audio": ({"type": "cnn1d", "filters": [4, 8], "dropout": 0.0}, "gap"),
    "text": ({"type": "textcnn", "filters": 8}, "separable"),
}


def convolve(workshop, architecture, to):
    parent = workshop.run({"kind": "train", "name": "parent", "architecture": architecture, "training": ONE})
    method = {"method": "convolve", "parent": "parent/1", "to": to, "max_drop": None}
    spec = {"kind": "optimize", "method": method, "training": ONE}
    return parent, workshop.run(spec, parent=[parent.version()])


@pytest.mark.parametrize("kind", CASES)
def test_rows_that_have_places_are_convolved(kind, tmp_path):
    parent, job = convolve(workshop_of(kind, tmp_path), *CASES[kind])
    notes = job.report["method"]
    assert notes["replaced"]
    assert notes["started_at_random"] == []
    assert notes["parameters_after"] < notes["parameters_before"]
    assert job.product.manifest.metrics.macs == notes["macs_after"] <= parent.product.manifest.metrics.macs
    assert notes["before_fine_tuning"]["selection_loss"] > 0


@pytest.mark.parametrize("to", ["conv", "separable", "gap"])
def test_a_table_has_nothing_to_convolve_and_is_told_why(to, tmp_path):
    with pytest.raises(MethodNotApplicableError, match=f"nothing that can become {to}") as refused:
        convolve(workshop_of("table", tmp_path), ARCHITECTURES["table"], to)
    assert "needs a" in refused.value.hint or "must be images or signals" in refused.value.hint
