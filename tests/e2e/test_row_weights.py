"""Row weights from an uploaded file to a registered version: read, handed to the trainer, learned by, told."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.datasets.ingest import Upload, ingest
from app.datasets.options import IngestOptions
from app.db.base import new_id
from app.db.datasets import add_dataset
from app.domain.jobs import Timing
from app.serving.runtime import load_engine, predict_rows
from app.store import open_store
from tests.e2e.conftest import Service
from tests.workers import read_job, submit_job, until, versions_of
from worker.process import TRAINER_COMMAND
from worker.supervisor import Supervisor

TRAINING = {"epochs": 30, "batch_size": 32, "optimizer": {"type": "adam", "learning_rate": 0.02}}


def doubtful_labels() -> bytes:
    """Write points of two clouds, two thirds of them with the other cloud's label and a hundredth of the weight."""
    rng = np.random.default_rng(0)
    lines = []
    for row in range(300):
        cloud, doubtful = row % 2, row % 3 > 0
        place = rng.normal(size=2) + 6 * cloud
        label = ["low", "high"][1 - cloud if doubtful else cloud]
        lines.append(f"{place[0]:.6f},{place[1]:.6f},{0.01 if doubtful else 1},{label}")
    return "\n".join(["a,b,sure,label", *lines]).encode()


@pytest.fixture
def service(make_service: Callable[..., Service], sqlite_url: str, timing: Timing) -> Service:
    patient = timing.model_copy(update={"stall_seconds": 120.0})
    return make_service(sqlite_url, timing=patient, worker={"trainer_command": TRAINER_COMMAND, "warm": False})


def test_an_uploaded_weight_decides_what_a_model_learns(service: Service, tmp_path: Path) -> None:
    store = open_store(service.settings.store_url)
    (tmp_path / "clouds.csv").write_bytes(doubtful_labels())
    options = IngestOptions(name="clouds", weight="sure")
    read = ingest(Upload(tmp_path / "clouds.csv", "clouds.csv"), options, workspace=tmp_path / "uploads", store=store)
    with service.sessions.begin() as session:
        dataset_id = add_dataset(session, "clouds", read.manifest)[0].id
    architecture = {"type": "mlp", "hidden": [8], "dropout": 0.0}
    job_id = submit_job(
        service.sessions, dataset_id, "sure", dataset="clouds", architecture=architecture, training=TRAINING
    )
    supervisor = Supervisor(service.settings, service.sessions, store, worker_id=new_id(), directory=tmp_path / "work")
    try:
        assert until(supervisor.run_one) == "succeeded", read_job(service.sessions, job_id).error
    finally:
        supervisor.close()
    (version,) = versions_of(service.sessions, job_id)
    files = {name: store.fetch(reference["sha256"]) for name, reference in version.manifest["files"].items()}
    report = json.loads(files["report.json"].read_bytes())
    assert set(report["row_weights"]) == {"weighed", "alike"}
    assert report["metrics"]["accuracy"] < 0.5, "the report counts every row alike, so the doubtful labels decide"
    centres = np.array([[0, 0], [6, 6]], np.float32)
    answers = predict_rows(load_engine(files["model.onnx"]), centres, "probabilities")
    classes = read.manifest.dataset_schema.classes
    assert [classes[answer] for answer in answers.argmax(axis=1)] == ["low", "high"]
