"""Versions that failed their gate: there to be looked at and asked by number, never served by a bare name."""

import pytest
from starlette.testclient import TestClient

from tests.api.builders import ROW, Registry, assert_problem

REASON = "2.1 points worse than its parent, at most 0.5 allowed"
BODY = {"instances": [ROW]}


@pytest.fixture(autouse=True)
def pets(registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn", seed=1)
    registry.add_model("pets-cnn", seed=2, rejected=REASON)


def test_it_is_listed_with_state_and_reason(client: TestClient) -> None:
    listed = client.get("/v1/models/pets-cnn/versions").json()["versions"]
    assert [(version["version"], version["state"], version["rejected"]) for version in listed] == [
        (2, "rejected", REASON),
        (1, "ready", None),
    ]
    model = client.get("/v1/models/pets-cnn").json()
    assert model["newest"]["version"] == 1
    assert [state["version"] for state in model["model_version_status"]] == ["2", "1"]
    assert REASON in model["model_version_status"][0]["status"]["error_message"]
    assert client.get("/v1/models/pets-cnn/versions/2/lineage").status_code == 200


def test_its_number_answers_and_the_name_leads_past_it(client: TestClient) -> None:
    assert client.post("/v1/models/pets-cnn/versions/2:predict", json=BODY).json()["version"] == 2
    assert client.post("/v1/models/pets-cnn:predict", json=BODY).json()["version"] == 1
    assert client.get("/v1/models/pets-cnn/predictions?dataset=pets&limit=1").json()["version"] == 1


def test_a_model_with_rejected_versions_alone_says_which_and_why(client: TestClient, registry: Registry) -> None:
    registry.add_model("pets-tiny", rejected=REASON)
    problem = assert_problem(client.post("/v1/models/pets-tiny:predict", json=BODY), 409, "version-rejected")
    assert f"pets-tiny/1: {REASON}" in problem["detail"]
    assert "pets-tiny/1" in problem["hint"]
    assert client.get("/v1/models/pets-tiny").json()["newest"]["state"] == "rejected"
    assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["pets-cnn", "pets-tiny"]


def test_an_alias_names_it_only_by_force(client: TestClient) -> None:
    path = "/v1/models/pets-cnn/aliases/champion"
    problem = assert_problem(client.put(path, json={"version": 2}), 409, "version-rejected")
    assert REASON in problem["detail"]
    assert_problem(client.get("/v1/models/pets-cnn/labels/champion"), 404, "model-not-found")
    assert client.put(path, json={"version": 2, "force": True}).json()["aliases"] == ["champion"]
    assert client.post("/v1/models/pets-cnn/labels/champion:predict", json=BODY).json()["version"] == 2


def test_an_alias_rolls_back_to_where_it_was_forced_before(client: TestClient) -> None:
    path = "/v1/models/pets-cnn/aliases/champion"
    client.put(path, json={"version": 2, "force": True})
    client.put(path, json={"version": 1})
    assert client.post(f"{path}:rollback").json()["version"] == 2


def test_a_job_may_start_from_it_by_number(client: TestClient, registry: Registry) -> None:
    registry.add_model("pets-tiny", rejected=REASON)
    spec = {"kind": "optimize", "name": "new", "dataset": "pets", "training": {"batch_size": 4}}
    method = {"method": "distill", "student": {"type": "mlp", "hidden": [4]}}
    by_number = spec | {"method": method | {"teacher": "pets-cnn/2"}}
    checked = client.post("/v1/jobs?validate_only=true", json=by_number)
    assert checked.status_code == 200, checked.text
    assert checked.json()["spec"]["method"]["teacher"] == "pets-cnn/2"
    by_name = client.post("/v1/jobs", json=spec | {"method": method | {"teacher": "pets-tiny"}})
    problem = assert_problem(by_name, 409, "version-rejected")
    assert problem["errors"][0]["pointer"] == "/method/teacher"


def test_the_job_that_made_it_succeeds_and_says_so(client: TestClient) -> None:
    job = client.get("/v1/jobs").json()["jobs"][0]
    assert (job["state"], job["result"]["version"], job["result"]["state"]) == ("succeeded", 2, "rejected")


def test_it_can_be_deleted(client: TestClient) -> None:
    assert client.delete("/v1/models/pets-cnn/versions/2").status_code == 204
    assert_problem(client.get("/v1/models/pets-cnn/versions/2"), 410, "model-deleted")
