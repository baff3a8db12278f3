"""A model that was made elsewhere, from its upload to a prediction by an ensemble that it is a member of."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient

from app.db.base import new_id
from app.domain.jobs import Timing
from app.main import create_app
from app.store import open_store
from tests.e2e.conftest import Service
from tests.workers import read_job, until
from worker.process import TRAINER_COMMAND
from worker.supervisor import Supervisor


@pytest.fixture
def service(make_service: Callable[..., Service], sqlite_url: str, timing: Timing) -> Service:
    patient = timing.model_copy(update={"stall_seconds": 120.0})
    return make_service(sqlite_url, timing=patient, worker={"trainer_command": TRAINER_COMMAND, "warm": False})


def blobs(directory: Path, row_set: str) -> tuple[np.ndarray, np.ndarray]:
    return np.load(directory / f"{row_set}_x.npy"), np.load(directory / f"{row_set}_y.npy")


def test_two_imported_models_are_measured_fused_and_served(service: Service, tmp_path: Path) -> None:
    x, y = blobs(tmp_path, "train")
    rows, _ = blobs(tmp_path, "report")
    # The second one knows the labels in the order of the alphabet, high before low, and carries them in its file.
    turned = np.array(["low", "high"])[y]
    models = [RandomForestClassifier(5, random_state=0).fit(x, y), LogisticRegression().fit(x, turned)]
    store = open_store(service.settings.store_url)
    worker = Supervisor(service.settings, service.sessions, store, worker_id=new_id(), directory=tmp_path / "work")
    application = TestClient(create_app(service.settings), base_url="http://localhost")
    with contextlib.closing(worker), application as client:

        def done(answer: Any) -> dict[str, Any]:
            assert answer.status_code == 202, answer.text
            until(worker.run_one)
            job: dict[str, Any] = client.get(f"/v1/jobs/{answer.json()['id']}").json()
            assert job["state"] == "succeeded", read_job(service.sessions, job["id"]).error
            return job

        for name, model in zip(("forest", "logistic"), models, strict=True):
            graph = to_onnx(model, x[:1], options={"zipmap": False}).SerializeToString()
            form = {"name": name, "dataset": "blobs"}
            done(client.post("/v1/models", data=form, files={"file": (f"{name}.onnx", graph)}))
        report = client.get("/v1/models/forest/versions/1/report").json()
        assert report["method"]["method"] == "import"
        assert report["metrics"]["accuracy"] > 0.9
        method = {"method": "parallel", "weights": [1, 3], "members": [{"model": "forest"}, {"model": "logistic"}]}
        done(
            client.post(
                "/v1/jobs",
                json={"kind": "ensemble", "name": "both", "dataset": "blobs", "method": method, "calibrate": False},
            )
        )
        answer = client.post("/v1/models/both:predict", json={"instances": rows[:20].tolist()})
        expected = 0.25 * models[0].predict_proba(rows[:20]) + 0.75 * models[1].predict_proba(rows[:20])[:, ::-1]
        assert np.allclose(answer.json()["predictions"], expected, atol=1e-5), answer.text
