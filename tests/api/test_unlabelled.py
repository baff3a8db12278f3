"""Rows without labels: registered like any other data set, for the transfer set of a distillation alone."""

import io
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.db.session import reading
from app.db.tables import Job
from app.domain.optimize_specs import Distill
from tests.api.builders import Registry, assert_problem


def upload(client: TestClient, name: str, seed: int) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.random.default_rng(seed).integers(0, 256, (9, 2, 2, 1)).astype(np.uint8))
    files = {"file": ("rows.npz", buffer.getvalue())}
    answer = client.post("/v1/datasets", data={"name": name, "task": "unlabelled"}, files=files)
    assert answer.status_code == 201, answer.text
    assert answer.json()["schema"]["rows"] == {"train": 9, "selection": 0, "report": 0}


def distillation(unlabelled: str | None) -> dict[str, Any]:
    method = {"method": "distill", "teacher": "pets-mlp", "student": {"type": "mlp", "hidden": [4]}}
    transfer = {"transfer": {"unlabelled": unlabelled}} if unlabelled else {}
    training = {"batch_size": 4}
    return {"kind": "optimize", "name": "new", "dataset": "pets", "method": method | transfer, "training": training}


@pytest.fixture
def pets(client: TestClient, registry: Registry) -> TestClient:
    registry.add_dataset("pets")
    registry.add_model("pets-mlp")
    upload(client, "more", 0)
    upload(client, "other", 1)
    return client


def test_a_row_without_a_label_is_shown_without_one(pets: TestClient) -> None:
    shown = pets.get("/v1/datasets/more/rows?set=train&limit=2").json()
    assert [row["y"] for row in shown["rows"]] == [None, None]
    assert shown["total_rows"] == 9


def test_nothing_is_trained_on_rows_without_labels(pets: TestClient) -> None:
    spec = {"kind": "train", "name": "new", "dataset": "more", "architecture": {"type": "mlp"}}
    problem = assert_problem(pets.post("/v1/jobs", json=spec), 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == "/dataset"
    assert "transfer.unlabelled" in problem["hint"]


def test_the_recipe_of_a_job_names_the_unlabelled_rows_by_content(pets: TestClient, registry: Registry) -> None:
    digests = []
    for name in (None, "more", "other"):
        answer = pets.post("/v1/jobs", json=distillation(name) | {"reuse": False})
        assert answer.status_code in (201, 202), answer.text
        with reading(registry.sessions) as session:
            job = session.get_one(Job, answer.json()["id"])
            digests.append(job.recipe_digest)
            assert Distill.model_validate(job.spec["method"], strict=False).transfer.unlabelled == name
    assert len(set(digests)) == 3
