"""Models, aliases, lineage and artifacts over HTTP."""

import hashlib

import orjson
import pytest
from starlette.testclient import TestClient

from tests.api.builders import ROW, Registry, assert_problem


@pytest.fixture(autouse=True)
def pets(registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn", seed=1)
    registry.add_model("pets-cnn", seed=2)


def test_a_model_is_shown_with_its_newest_version_and_aliases(client: TestClient) -> None:
    client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1})
    model = client.get("/v1/models/pets-cnn").json()
    assert model["newest"]["version"] == 2
    assert model["aliases"] == {"champion": 1}
    assert [state["version"] for state in model["model_version_status"]] == ["2", "1"]
    assert [listed["name"] for listed in client.get("/v1/models").json()["models"]] == ["pets-cnn"]
    versions = client.get("/v1/models/pets-cnn/versions").json()["versions"]
    assert [version["version"] for version in versions] == [2, 1]


def test_a_version_names_its_input_metrics_and_files(client: TestClient) -> None:
    answer = client.get("/v1/models/pets-cnn/versions/1")
    version = answer.json()
    assert version["input"] == {"name": "x", "shape": [-1, 2, 2, 1], "dtype": "float32"}
    assert version["metrics"]["accuracy"] == 0.9
    assert set(version["files"]) == {"model.onnx", "report.json"}
    assert answer.headers["ETag"] == f'"{version["digest"]}"'


def test_an_artifact_is_what_its_digest_says(client: TestClient) -> None:
    file = client.get("/v1/models/pets-cnn/versions/1").json()["files"]["model.onnx"]
    answer = client.get(file["url"])
    assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
    assert answer.headers["ETag"] == f'"{file["sha256"]}"'
    again = client.get(file["url"], headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    part = client.get(file["url"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, answer.content[:4])


def test_thousands_of_ranges_are_refused(client: TestClient) -> None:
    ranges = "bytes=0-0," + ",".join("1-1" for _ in range(2000))
    answer = client.get("/v1/models/pets-cnn/versions/1/artifacts/model.onnx", headers={"Range": ranges})
    assert answer.status_code == 416


@pytest.mark.parametrize("file", ["nothing", "..%2f..%2fetc%2fpasswd", "%2e%2e", "model.onnx%00", "blobs"])
def test_only_a_versions_own_files_can_be_downloaded(client: TestClient, file: str) -> None:
    assert client.get(f"/v1/models/pets-cnn/versions/1/artifacts/{file}").status_code == 404


def test_an_alias_moves_only_from_where_it_was_expected(client: TestClient) -> None:
    first = client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1})
    moved = client.put(
        "/v1/models/pets-cnn/aliases/champion", json={"version": 2}, headers={"If-Match": first.headers["ETag"]}
    )
    assert moved.status_code == 200
    late = client.put(
        "/v1/models/pets-cnn/aliases/champion", json={"version": 1}, headers={"If-Match": first.headers["ETag"]}
    )
    assert_problem(late, 412, "precondition-failed")
    gone = client.delete("/v1/models/pets-cnn/aliases/champion", headers={"If-Match": first.headers["ETag"]})
    assert_problem(gone, 412, "precondition-failed")
    assert client.delete("/v1/models/pets-cnn/aliases/champion").status_code == 204
    assert_problem(client.get("/v1/models/pets-cnn/labels/champion"), 404, "model-not-found")


def test_an_alias_is_rolled_back_and_its_history_kept(client: TestClient) -> None:
    for version in (1, 2):
        client.put("/v1/models/pets-cnn/aliases/champion", json={"version": version})
    assert client.post("/v1/models/pets-cnn/aliases/champion:rollback").json()["version"] == 1
    changes = client.get("/v1/models/pets-cnn/aliases/champion/history").json()["changes"]
    assert [(change["previous_version"], change["version"]) for change in changes] == [(2, 1), (1, 2), (None, 1)]


def test_an_alias_that_never_moved_cannot_be_rolled_back(client: TestClient) -> None:
    client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1})
    assert_problem(client.post("/v1/models/pets-cnn/aliases/champion:rollback"), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "code", "slug"),
    [
        ({"version": 9}, 404, "model-not-found"),
        ({"version": 0}, 422, "out-of-range"),
        ({"version": "1"}, 422, "invalid-request"),
        ({"version": True}, 422, "invalid-request"),
        ({"version": 1, "until": "noon"}, 422, "unknown-field"),
        ({}, 422, "invalid-request"),
    ],
)
def test_an_alias_cannot_point_nowhere(client: TestClient, body: dict[str, object], code: int, slug: str) -> None:
    assert_problem(client.put("/v1/models/pets-cnn/aliases/champion", json=body), code, slug)


def test_tags_are_replaced(client: TestClient) -> None:
    tagged = client.patch("/v1/models/pets-cnn/versions/1", json={"tags": {"team": "vision"}})
    assert tagged.json()["tags"] == {"team": "vision"}
    assert client.patch("/v1/models/pets-cnn/versions/1", json={"tags": {}}).json()["tags"] == {}
    wrong = client.patch("/v1/models/pets-cnn/versions/1", json={"tags": {"a": 1}})
    assert assert_problem(wrong, 422, "invalid-request")["errors"][0]["pointer"] == "/tags/a"


def test_an_ensemble_shows_members_weights_and_gain(client: TestClient, registry: Registry) -> None:
    registry.add_ensemble()
    ensemble = client.get("/v1/ensembles/pets-duo").json()
    members = [(member["name"], member["weight"]) for member in ensemble["members"]]
    assert members == [("pets-duo-m0", 0.25), ("pets-duo-m1", 0.75)]
    assert ensemble["gain"]["interval"] == [-0.01, 0.05]
    assert ensemble["gain"]["verdict"] == "no difference shown"
    assert [listed["name"] for listed in client.get("/v1/ensembles").json()["ensembles"]] == ["pets-duo"]
    assert client.get("/v1/ensembles/pets-duo/versions/1").json() == ensemble
    assert_problem(client.get("/v1/ensembles/pets-cnn"), 404, "model-not-found")
    lineage = client.get("/v1/models/pets-duo/versions/1/lineage").json()
    assert [link["name"] for link in lineage["made_from"]] == ["pets-duo-m0", "pets-duo-m1"]
    used = client.get("/v1/models/pets-duo-m0/versions/1/lineage").json()["used_by"]
    assert [(link["name"], link["role"]) for link in used] == [("pets-duo", "member")]


def test_the_report_is_the_one_that_the_worker_wrote(client: TestClient) -> None:
    report = client.get("/v1/models/pets-cnn/versions/1/report").json()
    assert report["baseline"]["difference"] == 0.02


def test_a_report_of_many_megabytes_arrives_whole(client: TestClient, registry: Registry) -> None:
    rows = [{"row": number, "probabilities": [number / 7, 1 - number / 7]} for number in range(70_000)]
    content = orjson.dumps({"baseline": {}, "rows": rows})
    file = registry.put_bytes(content)
    assert len(content) > 4_000_000
    registry.add_model("pets-big", files={"report.json": file})
    answer = client.get("/v1/models/pets-big/versions/1/report")
    assert (answer.headers["Content-Type"], answer.content) == ("application/json", content)
    assert answer.headers["Content-Length"] == str(len(content))


def test_the_leaderboard_marks_what_no_other_beats(client: TestClient, registry: Registry) -> None:
    from app.domain.models import Metrics

    figures = {"macs": 1, "weights_bytes": 1, "latency_ms_batch_32": 1.0, "served_bytes": 1}
    for name, accuracy, latency, parameters in (("a", 0.9, 1.0, 10), ("b", 0.8, 2.0, 5), ("c", 0.95, 3.0, 20)):
        metrics = Metrics(accuracy=accuracy, latency_ms_batch_1=latency, parameters=parameters, **figures)
        registry.add_model(f"pets-{name}", metrics=metrics)
    board = [model for model in client.get("/v1/compare?dataset=pets").json()["models"] if model["name"] != "pets-cnn"]
    assert [(model["name"], model["pareto"]) for model in board] == [
        ("pets-c", True),
        ("pets-a", False),
        ("pets-b", False),
    ]
    sizes = client.get("/v1/compare?dataset=pets&x=parameters").json()["models"]
    assert {model["name"] for model in sizes if model["pareto"]} >= {"pets-b", "pets-c"}


def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(client: TestClient, registry: Registry) -> None:
    assert client.delete("/v1/models/pets-cnn/versions/2").status_code == 204
    assert_problem(client.get("/v1/models/pets-cnn/versions/2"), 410, "model-deleted")
    body = {"instances": [ROW]}
    assert_problem(client.post("/v1/models/pets-cnn/versions/2:predict", json=body), 410, "model-deleted")
    assert client.post("/v1/models/pets-cnn:predict", json=body).json()["version"] == 1
    assert_problem(client.delete("/v1/models/pets-cnn/versions/2"), 410, "model-deleted")
    registry.add_model("pets-cnn", seed=3)
    assert client.get("/v1/models/pets-cnn").json()["newest"]["version"] == 3


def test_what_an_alias_or_an_ensemble_needs_is_not_deleted(client: TestClient, registry: Registry) -> None:
    registry.add_ensemble()
    client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1})
    for path in ("/v1/models/pets-cnn/versions/1", "/v1/models/pets-duo-m0/versions/1"):
        assert_problem(client.delete(path), 409, "still-referenced")
    client.delete("/v1/models/pets-cnn/aliases/champion")
    assert client.delete("/v1/models/pets-cnn/versions/1").status_code == 204


def test_a_model_is_described(client: TestClient) -> None:
    described = client.patch("/v1/models/pets-cnn", json={"description": "Tells cats from dogs."})
    assert described.json()["description"] == "Tells cats from dogs."
    assert_problem(client.patch("/v1/models/nothing", json={"description": ""}), 404, "model-not-found")
