"""Batch predictions: what is refused at once, how their files are downloaded, how the online rows are walked."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.deps import Services
from app.db.attempts import claim
from app.db.base import new_id
from app.db.endings import AttemptEnd
from app.db.results import finish_with_file
from app.domain.jobs import Timing
from app.domain.predict_specs import PredictionFile
from tests.api.builders import ROWS, Registry, assert_problem

SPEC = {"kind": "predict", "name": "all-pets", "model": "pets-cnn", "dataset": "pets"}


@pytest.fixture(autouse=True)
def pets(registry: Registry, services: Services) -> None:
    registry.add_dataset()
    registry.add_dataset("mini", shape=(3, 3, 1))
    registry.add_model("pets-cnn", seed=7)
    registry.add_model("pets-cnn", seed=8)
    registry.add_model("failed", seed=9, rejected="too much worse")
    services.view.refresh()


def submit(client: TestClient, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json={**SPEC, **changes})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def finish(services: Services, registry: Registry, content: bytes) -> None:
    """Hand over a file as a worker does."""
    job = claim(services.sessions, new_id(), timing=Timing())
    assert job is not None
    result = PredictionFile(
        format=job.spec["format"],
        rows=6,
        file=registry.put_bytes(content),
        model="pets-cnn",
        version=2,
        digest="1" * 64,
        dataset="pets",
        dataset_digest="2" * 64,
        set="report",
    )
    assert finish_with_file(services.sessions, job.lease, result, end=AttemptEnd()).outcome == "succeeded"


@pytest.mark.parametrize(
    ("changes", "code", "slug", "pointer"),
    [
        ({"model": "nobody"}, 422, "reference-not-found", "/model"),
        ({"model": "pets-cnn/9"}, 422, "reference-not-found", "/model"),
        ({"model": "pets-cnn@nobody"}, 422, "reference-not-found", "/model"),
        ({"model": "no name"}, 422, "invalid-name", "/model"),
        ({"model": "failed"}, 409, "version-rejected", "/model"),
        ({"dataset": "nowhere"}, 422, "dataset-not-found", "/dataset"),
        ({"dataset": "mini"}, 422, "shape-mismatch", "/model"),
        ({"set": "test"}, 422, "unknown-component", "/set"),
        ({"format": "xlsx"}, 422, "unknown-component", "/format"),
        ({"priority": 11}, 422, "out-of-range", "/priority"),
        ({"max_runtime_seconds": 0}, 422, "out-of-range", "/max_runtime_seconds"),
        ({"training": {"epochs": 3}}, 422, "unknown-field", "/training"),
        ({"alias": "champion"}, 422, "unknown-field", "/alias"),
    ],
)
def test_what_cannot_work_is_refused_with_its_field(
    client: TestClient, changes: dict[str, Any], code: int, slug: str, pointer: str
) -> None:
    answer = client.post("/v1/jobs", json={**SPEC, **changes})
    assert_problem(answer, code, slug)
    assert [field["pointer"] for field in answer.json()["errors"]] == [pointer]
    assert client.get("/v1/jobs", params={"kind": "predict"}).json()["jobs"] == []


def test_a_mismatch_tells_both_shapes_and_types(client: TestClient) -> None:
    detail = client.post("/v1/jobs", json={**SPEC, "dataset": "mini"}).json()["detail"]
    assert "[2, 2, 1] float32" in detail
    assert "[3, 3, 1] uint8" in detail


def test_a_set_without_rows_is_refused_with_those_that_have_some(client: TestClient, registry: Registry) -> None:
    registry.add_dataset("bare", rows=0)
    answer = client.post("/v1/jobs", json={**SPEC, "dataset": "bare", "set": "train"})
    assert_problem(answer, 422, "out-of-range")
    assert "report (6 rows)" in answer.json()["hint"]


def test_a_rejected_version_answers_by_its_number(client: TestClient) -> None:
    assert submit(client, model="failed/1")["spec"]["model"] == "failed/1"


def test_validation_counts_the_rows_and_writes_nothing(client: TestClient) -> None:
    answer = client.post("/v1/jobs", params={"validate_only": "true"}, json={**SPEC, "set": "all"})
    assert answer.status_code == 200
    assert answer.json()["spec"]["model"] == "pets-cnn/2"
    assert answer.json()["estimate"]["rows"] == sum(ROWS.values())
    assert answer.json()["estimate"]["seconds"] >= 0
    assert client.get("/v1/jobs", params={"kind": "predict"}).json()["jobs"] == []


def test_a_result_is_downloaded_by_etag_and_by_range(
    client: TestClient, services: Services, registry: Registry
) -> None:
    job = submit(client, format="csv")
    path = f"/v1/jobs/{job['id']}/result"
    assert_problem(client.get(path), 409, "result-not-ready")
    finish(services, registry, b"row,label\r\n0,cat\r\n")
    answer = client.get(path)
    result = client.get(f"/v1/jobs/{job['id']}").json()["result"]
    assert answer.content == b"row,label\r\n0,cat\r\n"
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="all-pets.csv"'
    assert answer.headers["etag"] == f'"{result["sha256"]}"'
    assert result["url"] == path
    assert client.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    part = client.get(path, headers={"Range": "bytes=4-8"})
    assert (part.status_code, part.content) == (206, b"label")
    assert_problem(client.get(path, headers={"Range": "bytes=0-0,2-3"}), 416, "range-not-satisfiable")
    assert_problem(client.get(path, headers={"Range": "bytes=999-"}), 416, "range-not-satisfiable")


def test_a_cancelled_job_and_jobs_of_other_kinds_have_no_file(client: TestClient) -> None:
    job_id = submit(client)["id"]
    client.post(f"/v1/jobs/{job_id}:cancel")
    assert_problem(client.get(f"/v1/jobs/{job_id}/result"), 409, "result-not-ready")
    train = {"kind": "train", "name": "new", "dataset": "pets", "architecture": {"type": "mlp"}}
    train["training"] = {"batch_size": 4}  # type: ignore[assignment]
    other = client.post("/v1/jobs", json=train).json()["id"]
    assert_problem(client.get(f"/v1/jobs/{other}/result"), 404, "not-found")
    assert_problem(client.get(f"/v1/jobs/{new_id()}/result"), 404, "job-not-found")


def test_a_cancelled_prediction_is_submitted_again(client: TestClient) -> None:
    job_id = submit(client, model="pets-cnn/1")["id"]
    client.post(f"/v1/jobs/{job_id}:cancel")
    again = client.post(f"/v1/jobs/{job_id}:retry")
    assert (again.status_code, again.json()["spec"]["model"]) == (202, "pets-cnn/1")
