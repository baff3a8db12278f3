"""Predictions in every form: what comes back is what the graphs compute."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.api.deps import Services
from app.domain import fusion
from tests.api.builders import CLASSES, ROW, ROWS, Registry, single_graph


def expected(seed: int, rows: np.ndarray) -> np.ndarray:
    """Compute by hand what `single_graph` computes."""
    constants = {item.name: item for item in single_graph(seed).graph.initializer}
    from onnx import numpy_helper

    kernel, bias = (numpy_helper.to_array(constants[name]) for name in ("kernel", "bias"))
    return fusion.softmax(rows.reshape(len(rows), -1).astype(np.float64) @ kernel + bias)


@pytest.fixture(autouse=True)
def pets(registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn", seed=7)
    registry.add_ensemble()


def test_instances_are_answered_with_predictions_in_order(client: TestClient) -> None:
    rows = np.arange(12, dtype=float).reshape(3, 2, 2, 1)
    answer = client.post("/v1/models/pets-cnn:predict", json={"instances": rows.tolist()})
    assert answer.status_code == 200
    assert np.allclose(answer.json()["predictions"], expected(7, rows), atol=1e-5)
    assert answer.json()["model"] == "pets-cnn"
    assert answer.json()["version"] == 1


def test_named_instances_and_inputs_are_the_same_request(client: TestClient) -> None:
    plain = client.post("/v1/models/pets-cnn:predict", json={"instances": [ROW]}).json()["predictions"]
    named = client.post("/v1/models/pets-cnn:predict", json={"instances": [{"x": ROW}]}).json()["predictions"]
    columns = client.post("/v1/models/pets-cnn:predict", json={"inputs": {"x": [ROW]}}).json()["outputs"]
    assert plain == named == columns


def test_many_rows_are_answered_in_batches_without_mixing_them_up(client: TestClient) -> None:
    rows = np.random.default_rng(0).uniform(0, 3, (600, 2, 2, 1)).round(2)
    answer = client.post("/v1/models/pets-cnn:predict", json={"instances": rows.tolist()})
    assert np.allclose(answer.json()["predictions"], expected(7, rows), atol=1e-5)


@pytest.mark.parametrize("path", ["/v1/models/pets-duo", "/v1/ensembles/pets-duo", "/v1/ensembles/pets-duo/versions/1"])
def test_an_ensemble_answers_the_weighted_mean_of_its_members(client: TestClient, path: str) -> None:
    rows = np.array([ROW])
    answer = client.post(f"{path}:predict", json={"instances": [ROW], "members": True, "weights": True}).json()
    members = [expected(1, rows), expected(2, rows)]
    assert np.allclose(answer["members"], members, atol=1e-5)
    assert answer["weights"] == [0.25, 0.75]
    assert np.allclose(answer["predictions"], 0.25 * members[0] + 0.75 * members[1], atol=1e-5)


def test_an_alias_is_predicted_with_and_follows_its_move_at_once(client: TestClient, registry: Registry) -> None:
    registry.add_model("pets-cnn", seed=8)
    rows = np.array([ROW])
    for version, seed in ((1, 7), (2, 8)):
        assert client.put("/v1/models/pets-cnn/aliases/champion", json={"version": version}).status_code == 200
        answer = client.post("/v1/models/pets-cnn/labels/champion:predict", json={"instances": [ROW]}).json()
        assert answer["version"] == version
        assert np.allclose(answer["predictions"], expected(seed, rows), atol=1e-5)


def test_a_version_that_another_process_just_registered_is_found(client: TestClient, registry: Registry) -> None:
    registry.add_model("newcomer", seed=3)
    assert client.post("/v1/models/newcomer:predict", json={"instances": [ROW]}).status_code == 200


def test_an_ensemble_predicts_the_rows_of_a_data_set(client: TestClient) -> None:
    query = {"dataset": "pets", "set": "report", "offset": 2, "limit": 3, "members": "true", "uncertainty": "true"}
    answer = client.get("/v1/ensembles/pets-duo/predictions", params=query).json()
    assert [row["row"] for row in answer["predictions"]] == [2, 3, 4]
    assert answer["total_rows"] == ROWS["report"]
    shown = client.get("/v1/datasets/pets/rows", params={"offset": 2, "limit": 3}).json()["rows"]
    assert [row["actual"] for row in answer["predictions"]] == [row["label"] for row in shown]
    rows = np.array([row["x"] for row in shown])
    members = np.stack([expected(1, rows), expected(2, rows)])
    fused = 0.25 * members[0] + 0.75 * members[1]
    uncertainty = fusion.uncertainty(members, np.array([0.25, 0.75]))
    for index, row in enumerate(answer["predictions"]):
        assert np.allclose(row["probabilities"], fused[index], atol=1e-5)
        assert row["label"] == CLASSES[int(fused[index].argmax())]
        assert np.allclose(row["members"][1]["probabilities"], members[1, index], atol=1e-5)
        assert row["uncertainty"]["entropy"] == pytest.approx(uncertainty.entropy[index], abs=1e-4)
        assert row["uncertainty"]["mutual_information"] == pytest.approx(
            uncertainty.mutual_information[index], abs=1e-4
        )


def test_query_values_are_rows_and_may_repeat(client: TestClient) -> None:
    answer = client.get("/v1/ensembles/pets-duo/predictions?x=0,1,2,3&x=3,2,1,0").json()
    rows = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    fused = 0.25 * expected(1, rows) + 0.75 * expected(2, rows)
    assert np.allclose([row["probabilities"] for row in answer["predictions"]], fused, atol=1e-5)


def test_the_same_question_has_the_same_etag_and_is_answered_once(client: TestClient) -> None:
    first = client.get("/v1/models/pets-cnn/predictions?x=0,1,2,3")
    again = client.get("/v1/models/pets-cnn/predictions?x=0,1,2,3", headers={"If-None-Match": first.headers["ETag"]})
    other = client.get("/v1/models/pets-cnn/predictions?x=0,1,2,4", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, other.status_code) == (304, 200)


def test_versions_and_aliases_select_what_predicts(client: TestClient, registry: Registry) -> None:
    registry.add_model("pets-cnn", seed=8)
    client.put("/v1/models/pets-cnn/aliases/stable", json={"version": 1})
    versions = [
        client.get(f"/v1/models/pets-cnn/predictions?x=0,1,2,3{choice}").json()["version"]
        for choice in ("", "&version=1", "&alias=stable")
    ]
    assert versions == [2, 1, 1]


def test_predicting_asks_the_database_nothing(client: TestClient, services: Services) -> None:
    from tests.factories import counted_queries

    body = {"instances": [ROW]}
    client.post("/v1/models/pets-cnn:predict", json=body)
    with counted_queries(services.sessions.kw["bind"]) as queries:
        client.post("/v1/models/pets-cnn:predict", json=body)
    # The view's own look at the revision may fall into the same instant.
    assert [query for query in queries if "registry_revision" not in query and "jobs" not in query] == []


def test_a_corrupted_graph_never_serves(client: TestClient, services: Services, registry: Registry) -> None:
    registry.add_model("broken", seed=5)
    sha256 = client.get("/v1/models/broken/versions/1").json()["files"]["model.onnx"]["sha256"]
    path = services.store.fetch(sha256)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    answer = client.post("/v1/models/broken:predict", json={"instances": [ROW]})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/artifact-corrupted")
    assert "Retry-After" in answer.headers


def test_tensorflow_servings_own_calls_work(client: TestClient) -> None:
    state = client.get("/v1/models/pets-cnn").json()["model_version_status"]
    assert state == [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
    metadata = client.get("/v1/models/pets-cnn/metadata").json()
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert [size["size"] for size in signature["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1", "2", "2", "1"]
    posted = client.post(
        "/v1/models/pets-cnn/versions/1:predict",
        content='{"signature_name": "serving_default", "instances": [[[[0], [1]], [[2], [3]]]]}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert posted.status_code == 200
