"""Searches and a version's life over MLflow's routes, on SQLite and on PostgreSQL."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.settings import Settings
from tests.api.builders import Registry
from tests.api.test_mlflow import FIRST, INVALID, MODELS, VERSIONS, assert_refused, send


@pytest.fixture
def settings(settings: Settings, database_url: str) -> Settings:
    return settings.model_copy(update={"database_url": database_url})


def pages(client: TestClient, url: str, noun: str, **query: Any) -> list[list[str]]:
    """Follow the tokens to the end; return the names of each page."""
    found: list[list[str]] = []
    token = ""
    while not found or token:
        answer = client.get(url, params={**query, "page_token": token}).json()
        found.append([f"{item['name']}/{item.get('version', '')}" for item in answer.get(noun, [])])
        token = answer.get("next_page_token", "")
    return found


def test_pages_follow_each_other_and_tokens_are_good_for_one_search(client: TestClient) -> None:
    for name in ("a", "b", "c"):
        send(client, "POST", "registered-models/create", {"name": name, "tags": [{"key": "k", "value": name}]})
    url = f"{MODELS}/search"
    assert pages(client, url, "registered_models", max_results=2) == [["a/", "b/"], ["c/"]]
    assert pages(client, url, "registered_models", max_results=3) == [["a/", "b/", "c/"]]
    ordered = {"max_results": 1, "order_by": "creation_timestamp DESC"}
    assert pages(client, url, "registered_models", **ordered) == [["c/"], ["b/"], ["a/"]]
    token = client.get(url, params={"max_results": 1}).json()["next_page_token"]
    other = client.get(url, params={"max_results": 1, "page_token": token, "filter": "name = 'a'"})
    assert_refused(other, INVALID)
    assert_refused(client.get(url, params={"page_token": f"{token[:-2]}xx"}), INVALID)
    assert_refused(client.get(f"{VERSIONS}/search", params={"page_token": token}), INVALID)


def test_a_version_is_copied_promoted_searched_and_deleted(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn", seed=1)
    registry.add_model("pets-cnn", seed=2)
    assert send(client, "POST", "registered-models/create", {"name": "best"}).status_code == 200
    tagged = {"name": "best", "source": "models:/pets-cnn/1", "tags": [{"key": "team", "value": "Vision"}]}
    made = send(client, "POST", "model-versions/create", {**tagged, "description": "Copied.", "run_id": "r"}).json()
    assert made["model_version"]["tags"] == tagged["tags"]
    own = client.get(f"{VERSIONS}/get-download-uri", params=FIRST).json()["artifact_uri"]
    again = send(client, "POST", "model-versions/create", {"name": "best", "source": own}).json()["model_version"]
    assert (again["version"], again["source"], again["status"]) == ("2", own, "READY")
    assert (
        send(client, "POST", "registered-models/alias", {"name": "best", "version": "2", "alias": "top"}).json() == {}
    )
    model = client.get(f"{MODELS}/get", params={"name": "best"}).json()["registered_model"]
    assert model["aliases"] == [{"alias": "top", "version": "2"}]
    assert [version["version"] for version in model["latest_versions"]] == ["2"]
    assert "aliases" not in model["latest_versions"][0]
    url = f"{VERSIONS}/search"
    assert pages(client, url, "model_versions", filter="tags.team ILIKE 'v%' AND name = 'best'") == [["best/1"]]
    by_number = {"order_by": ["name DESC", "version_number ASC"], "max_results": 3}
    expected = [["pets-cnn/1", "pets-cnn/2", "best/1"], ["best/2"]]
    assert pages(client, url, "model_versions", **by_number) == expected
    assert send(client, "DELETE", "registered-models/delete", {"name": "best"}).json() == {}
    assert pages(client, url, "model_versions", filter="run_id = 'r'") == [[]]
    assert client.get("/v1/models/best").status_code == 404
    assert client.get("/v1/models/pets-cnn").json()["newest"]["version"] == 2
