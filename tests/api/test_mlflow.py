"""MLflow's registry where its client does not go: codes of errors and shapes of answers."""

import hashlib
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.deps import Services
from tests.api.builders import ROW, Registry
from tests.api.conftest import Refusing
from tests.factories import counted_queries

BASE = "/api/2.0/mlflow"
MODELS = f"{BASE}/registered-models"
VERSIONS = f"{BASE}/model-versions"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
CODES = {"RESOURCE_DOES_NOT_EXIST": 404, "ENDPOINT_NOT_FOUND": 404, "RESOURCE_CONFLICT": 409}


def assert_refused(answer: Any, name: str, code: int | None = None) -> str:
    """Check the shape that MLflow's clients read; return the message."""
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (code or CODES.get(name, 400), name), answer.text
    assert set(body) == {"error_code", "message"}
    assert answer.headers["Content-Type"] == "application/json"
    for leak in ("Traceback", "sqlalchemy", "SELECT ", "/tmp", "pydantic"):
        assert leak not in answer.text
    message: str = body["message"]
    return message


def send(client: TestClient, method: str, path: str, body: object) -> Any:
    return client.request(method, f"{BASE}/{path}", json=body)


PET = {"name": "pets-cnn"}
FIRST = {**PET, "version": "1"}
INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
BAD_BODIES = [
    ("POST", "registered-models/create", {}, INVALID),
    ("POST", "registered-models/create", {"name": ""}, INVALID),
    ("POST", "registered-models/create", {"name": None}, INVALID),
    ("POST", "registered-models/create", {"name": 7}, INVALID),
    ("POST", "registered-models/create", [], INVALID),
    ("POST", "registered-models/create", {"name": "a/b"}, INVALID),
    ("POST", "registered-models/create", {"name": "Pets"}, INVALID),
    ("POST", "registered-models/create", {"name": "a..b"}, INVALID),
    ("POST", "registered-models/create", {"name": "x" * 64}, INVALID),
    ("POST", "registered-models/create", {"name": "new", "tags": {"a": "b"}}, INVALID),
    ("POST", "registered-models/create", {"name": "new", "tags": [{"value": "b"}]}, INVALID),
    ("POST", "registered-models/create", PET, "RESOURCE_ALREADY_EXISTS"),
    ("POST", "registered-models/rename", {**PET, "new_name": "mini-cnn"}, "RESOURCE_ALREADY_EXISTS"),
    ("POST", "registered-models/rename", {**PET, "new_name": "a:b"}, INVALID),
    ("POST", "registered-models/rename", {"name": "nobody", "new_name": "somebody"}, MISSING),
    ("PATCH", "registered-models/update", {"name": "nobody", "description": ""}, MISSING),
    ("DELETE", "registered-models/delete", {"name": "nobody"}, MISSING),
    ("DELETE", "registered-models/delete", {"name": "pets-duo-m0"}, "RESOURCE_CONFLICT"),
    ("POST", "registered-models/set-tag", {**PET, "key": "", "value": "x"}, INVALID),
    ("POST", "registered-models/set-tag", {**PET, "key": "k" * 251, "value": "x"}, INVALID),
    ("POST", "registered-models/set-tag", {**PET, "key": "k", "value": "x" * 100_001}, INVALID),
    ("POST", "registered-models/set-tag", {**PET, "key": "k", "value": "\x00"}, INVALID),
    ("POST", "registered-models/set-tag", {"name": "nobody", "key": "k", "value": "x"}, MISSING),
    ("DELETE", "registered-models/delete-tag", {"name": "nobody", "key": "k"}, MISSING),
    ("POST", "registered-models/alias", {**PET, "alias": "a", "version": 1}, INVALID),
    ("POST", "registered-models/alias", {**PET, "alias": "a", "version": "one"}, INVALID),
    ("POST", "registered-models/alias", {**PET, "alias": "a", "version": "9"}, MISSING),
    ("POST", "registered-models/alias", {**FIRST, "alias": "latest"}, INVALID),
    ("POST", "registered-models/alias", {**FIRST, "alias": "v3"}, INVALID),
    ("POST", "registered-models/alias", {**FIRST, "alias": "Champion"}, INVALID),
    ("POST", "registered-models/alias", {**FIRST, "alias": "a b"}, INVALID),
    ("POST", "registered-models/alias", {**FIRST, "alias": "a" * 64}, INVALID),
    ("DELETE", "registered-models/alias", {"name": "nobody", "alias": "a"}, MISSING),
    ("POST", "model-versions/create", PET, INVALID),
    ("POST", "model-versions/create", {**PET, "source": "models:/pets-cnn"}, INVALID),
    ("POST", "model-versions/create", {**PET, "source": "models:/pets-cnn/latest"}, INVALID),
    ("POST", "model-versions/create", {**PET, "source": "models:/pets-cnn/9"}, INVALID),
    ("POST", "model-versions/create", {**PET, "source": "models:/m-0123456789abcdef"}, INVALID),
    ("POST", "model-versions/create", {**PET, "source": "file:///etc/passwd"}, INVALID),
    ("POST", "model-versions/create", {**PET, "source": "../../etc/passwd"}, INVALID),
    ("POST", "model-versions/create", {**PET, "source": "s3://bucket/model"}, INVALID),
    ("POST", "model-versions/create", {**PET, "source": "mlflow-artifacts:/pets-cnn/1/../../x"}, INVALID),
    ("POST", "model-versions/create", {**PET, "source": f"http://elsewhere{FILES}/pets-cnn/1"}, INVALID),
    ("POST", "model-versions/create", {"name": "nobody", "source": "models:/pets-cnn/1"}, MISSING),
    ("PATCH", "model-versions/update", {**PET, "version": "9", "description": "x"}, MISSING),
    ("POST", "model-versions/set-tag", {**PET, "version": "9", "key": "k", "value": "v"}, MISSING),
    ("DELETE", "model-versions/delete-tag", {**PET, "version": "9", "key": "k"}, MISSING),
    ("DELETE", "model-versions/delete", {**PET, "version": "9"}, MISSING),
    ("DELETE", "model-versions/delete", {"name": "pets-duo-m0", "version": "1"}, "RESOURCE_CONFLICT"),
    ("POST", "model-versions/transition-stage", {**FIRST, "stage": "Production"}, INVALID),
]


@pytest.mark.parametrize(("method", "path", "body", "name"), BAD_BODIES)
def test_a_bad_body_is_refused_and_changes_nothing(
    refusing: TestClient, method: str, path: str, body: object, name: str
) -> None:
    assert_refused(send(refusing, method, path, body), name)


BAD_QUERIES = [
    ("registered-models/get", {}, INVALID),
    ("registered-models/get", {"name": "nobody"}, MISSING),
    ("registered-models/get", {"name": "a\x00b"}, INVALID),
    ("registered-models/alias", {**PET, "alias": "nobody"}, INVALID),
    ("registered-models/alias", {"name": "nobody", "alias": "champion"}, MISSING),
    ("registered-models/get-latest-versions", {"name": "nobody"}, MISSING),
    ("registered-models/search", {"filter": "name LIKE"}, INVALID),
    ("registered-models/search", {"filter": "name = 'a' OR name = 'b'"}, INVALID),
    ("registered-models/search", {"filter": "name = 'a'; DROP TABLE models"}, INVALID),
    ("registered-models/search", {"filter": "name = 'a' AND " * 1000}, INVALID),
    ("registered-models/search", {"filter": "name = 'a" + "\x00'"}, INVALID),
    ("registered-models/search", {"filter": "version_number = 1"}, INVALID),
    ("registered-models/search", {"order_by": "colour"}, INVALID),
    ("registered-models/search", {"order_by": "name; DROP TABLE models"}, INVALID),
    ("registered-models/search", {"max_results": "0"}, INVALID),
    ("registered-models/search", {"max_results": "1001"}, INVALID),
    ("registered-models/search", {"max_results": "many"}, INVALID),
    ("registered-models/search", {"page_token": "eyJvZmZzZXQiOiA1fQ=="}, INVALID),
    ("model-versions/search", {"max_results": "200001"}, INVALID),
    ("model-versions/search", {"filter": "version_number > 'one'"}, INVALID),
    ("model-versions/search", {"filter": "version_number > 99999999999999999999"}, INVALID),
    ("model-versions/search", {"filter": "tags.a IN ('b')"}, INVALID),
    ("model-versions/get", PET, INVALID),
    ("model-versions/get", {**PET, "version": "x"}, INVALID),
    ("model-versions/get", {**PET, "version": "99999999999"}, INVALID),
    ("model-versions/get-download-uri", {**PET, "version": "9"}, MISSING),
    ("logged-models/m-1", {}, MISSING),
    ("runs/get", {"run_id": "x"}, "ENDPOINT_NOT_FOUND"),
    ("experiments/get", {}, "ENDPOINT_NOT_FOUND"),
]


@pytest.mark.parametrize(("path", "query", "name"), BAD_QUERIES)
def test_a_bad_query_is_refused(refusing: TestClient, path: str, query: dict[str, str], name: str) -> None:
    for prefix in ("/api", "/ajax-api"):
        assert_refused(refusing.get(f"{prefix}/2.0/mlflow/{path}", params=query), name)


def test_even_what_the_gate_refuses_has_the_shape_that_clients_read(refusing: TestClient) -> None:
    url = f"{MODELS}/create"
    assert_refused(refusing.post(url, content=b"x" * 2_000_000), "BAD_REQUEST", 413)
    assert_refused(refusing.post(url, json={}, headers={"Host": "elsewhere"}), "BAD_REQUEST")
    assert_refused(refusing.post(url, content=b"{", headers={"Content-Type": "application/json"}), INVALID)
    assert_refused(refusing.post(url, content=b"{}"), "BAD_REQUEST")
    for prefix in ("", "/ajax-"):
        answer = refusing.put(f"{prefix}{url}".replace("-/", "-"), json=PET)
        assert_refused(answer, "ENDPOINT_NOT_FOUND", 405)
        assert answer.headers["Allow"] == "POST"
    assert_refused(refusing.get("/api/3.0/mlflow/traces"), "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize(
    "path",
    [
        "nobody/1",
        "pets-cnn",
        "pets-cnn/9",
        "pets-cnn/1/none",
        "pets-cnn/1/../../x",
        "pets-cnn/1/%2e%2e/x",
        "/etc/passwd",
    ],
)
def test_only_files_of_versions_are_served(refusing: TestClient, path: str) -> None:
    assert_refused(refusing.get(FILES, params={"path": path}), MISSING)
    answer = refusing.get(f"{FILES}/{path}")
    assert answer.json()["error_code"] in (MISSING, "ENDPOINT_NOT_FOUND")
    assert answer.status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_no_file_is_written_or_deleted(refusing: TestClient, method: str) -> None:
    answer = refusing.request(method, f"{FILES}/pets-cnn/1/model.onnx", content=b"x")
    assert "never change" in assert_refused(answer, "ENDPOINT_NOT_FOUND", 405)


def test_files_are_listed_with_their_sizes(shared: Refusing) -> None:
    listed = {file["path"]: file for file in shared.client.get(FILES, params={"path": "pets-cnn/1"}).json()["files"]}
    assert set(listed) == {"MLmodel", "model.onnx", "report.json", "requirements.txt"}
    for name, described in listed.items():
        answer = shared.client.get(f"{FILES}/pets-cnn/1/{name}")
        assert (described["file_size"], described["is_dir"]) == (len(answer.content), False)
    assert shared.client.get(FILES, params={"path": "pets-cnn/1/model.onnx"}).json() == {}


def test_a_range_of_a_file_is_served_but_not_thousands(shared: Refusing) -> None:
    url = f"{FILES}/pets-cnn/1/model.onnx"
    assert shared.client.get(url, headers={"Range": "bytes=0-3"}).status_code == 206
    assert shared.client.get(url, headers={"Range": "bytes=0-0,1-1"}).status_code == 416


def test_a_deleted_version_is_not_found_anywhere(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn")
    assert send(client, "DELETE", "model-versions/delete", FIRST).json() == {}
    assert_refused(client.get(f"{VERSIONS}/get", params=FIRST), MISSING)
    assert_refused(client.get(f"{FILES}/pets-cnn/1/model.onnx"), MISSING)
    assert_refused(send(client, "DELETE", "model-versions/delete", FIRST), MISSING)
    sent = {"name": "pets-cnn", "source": "models:/pets-cnn/1"}
    assert_refused(send(client, "POST", "model-versions/create", sent), INVALID)
    assert client.get("/v1/models/pets-cnn/versions/1").status_code == 410


def test_looking_at_a_model_costs_few_queries_whatever_its_versions(
    client: TestClient, services: Services, registry: Registry
) -> None:
    registry.add_dataset()
    for seed in range(3):
        registry.add_model("pets-cnn", seed=seed)
    services.view.refresh()  # or the view's follower would, meanwhile
    with counted_queries(registry.sessions.kw["bind"]) as statements:
        assert client.get(f"{MODELS}/get", params=PET).status_code == 200
    # The view's follower may ask for the revision meanwhile.
    assert len([text for text in statements if text.startswith("SELECT") and "registry_revision" not in text]) == 6


def test_clients_learn_what_they_need_not_try(shared: Refusing) -> None:
    told = shared.client.get("/api/3.0/mlflow/server-info").json()
    assert not told["workspaces_enabled"]
    assert not told["multipart_uploads_enabled"]


def test_empty_lists_and_unknown_fields_are_left_out(client: TestClient) -> None:
    made = send(client, "POST", "registered-models/create", {"name": "fresh", "deployment_job_id": "x"})
    assert set(made.json()["registered_model"]) == {"name", "creation_timestamp", "last_updated_timestamp"}
    assert client.get(f"{VERSIONS}/search").json() == {}
    assert client.get("/v1/models/fresh").status_code == 404, "it has no version yet"


def test_a_rejected_version_says_so_and_takes_no_alias(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn", rejected="accuracy fell")
    version = client.get(f"{VERSIONS}/get", params=FIRST).json()["model_version"]
    assert (version["status"], version["status_message"]) == ("FAILED_REGISTRATION", "accuracy fell")
    refused = send(client, "POST", "registered-models/alias", {**FIRST, "alias": "champion"})
    assert "accuracy fell" in assert_refused(refused, "RESOURCE_CONFLICT")


def test_a_damaged_version_takes_no_alias_and_is_not_downloaded(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn")
    sha256 = client.get("/v1/models/pets-cnn/versions/1").json()["files"]["model.onnx"]["sha256"]
    stored = registry.store.fetch(sha256)
    stored.chmod(0o644)
    stored.write_bytes(b"damaged")
    refused = send(client, "POST", "registered-models/alias", {**FIRST, "alias": "champion"})
    assert_refused(refused, "TEMPORARILY_UNAVAILABLE", 503)
    assert_refused(client.get(f"{FILES}/pets-cnn/1/model.onnx"), "TEMPORARILY_UNAVAILABLE", 503)
    assert "aliases" not in client.get(f"{MODELS}/get", params=PET).json()["registered_model"]


def test_what_is_promoted_here_is_served_by_all_contracts(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn", seed=1)
    registry.add_model("pets-cnn", seed=2)
    assert send(client, "POST", "registered-models/alias", {**FIRST, "alias": "champion"}).json() == {}
    body = {"instances": [ROW]}
    first = client.post("/v1/models/pets-cnn/versions/1:predict", json=body).json()["predictions"]
    assert client.post("/v1/models/pets-cnn/labels/champion:predict", json=body).json()["predictions"] == first
    history = client.get("/v1/models/pets-cnn/aliases/champion/history").json()["changes"]
    assert [change["version"] for change in history] == [1]
    sent = {"name": "pets-cnn", "source": "models:/pets-cnn@champion"}
    copy = send(client, "POST", "model-versions/create", sent).json()["model_version"]
    assert (copy["version"], copy["source"]) == ("3", "models:/pets-cnn@champion")
    assert client.post("/v1/models/pets-cnn/versions/3:predict", json=body).json()["predictions"] == first
    files = client.get("/v1/models/pets-cnn/versions/3").json()["files"]
    content = client.get(f"{FILES}/pets-cnn/3/model.onnx").content
    assert hashlib.sha256(content).hexdigest() == files["model.onnx"]["sha256"]
