"""Rows of a data set are walked page by page, all of one version."""

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.api.deps import Services
from tests.api.builders import ROWS, Registry, assert_problem


@pytest.fixture(autouse=True)
def pets(registry: Registry, services: Services) -> None:
    registry.add_dataset()
    registry.add_dataset("mini", shape=(3, 3, 1))
    registry.add_model("pets-cnn", seed=7)
    registry.add_model("pets-cnn", seed=8)
    services.view.refresh()


def walk(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    """Return every page."""
    pages = [client.get("/v1/models/pets-cnn/predictions", params={"dataset": "pets", **query}).json()]
    while token := pages[-1]["next_page_token"]:
        asked = {"dataset": "pets", **query, "page_token": token}
        pages.append(client.get("/v1/models/pets-cnn/predictions", params=asked).json())
    return pages


def test_pages_together_are_the_whole_set(client: TestClient) -> None:
    whole = client.get("/v1/models/pets-cnn/predictions", params={"dataset": "pets"}).json()
    pages = walk(client, page_size=4)
    assert [len(page["predictions"]) for page in pages] == [4, 2]
    found = [row for page in pages for row in page["predictions"]]
    assert [row["row"] for row in found] == list(range(ROWS["report"]))
    for row, alone in zip(found, whole["predictions"], strict=True):
        assert np.allclose(row["probabilities"], alone["probabilities"], rtol=0, atol=1e-6)
    assert whole["next_page_token"] == ""


def test_a_walk_stays_with_its_version_when_the_alias_moves(client: TestClient) -> None:
    alias, path = "/v1/models/pets-cnn/aliases/champion", "/v1/models/pets-cnn/predictions"
    query = {"dataset": "pets", "alias": "champion", "page_size": 4}
    client.put(alias, json={"version": 1})
    first = client.get(path, params=query).json()
    client.put(alias, json={"version": 2})
    assert client.get(path, params=query).json()["version"] == 2
    second = client.get(path, params={**query, "page_token": first["next_page_token"]})
    assert (first["version"], second.json()["version"], second.json()["offset"]) == (1, 1, 4)
    again = {"If-None-Match": second.headers["etag"]}
    assert client.get(path, params={**query, "page_token": first["next_page_token"]}, headers=again).status_code == 304


@pytest.mark.parametrize(
    "changes",
    [{"set": "train"}, {"alias": "champion"}, {"members": "true"}, {"page_token": "AAAA"}, {"dataset": "mini"}],
)
def test_a_token_is_good_only_for_the_walk_it_was_made_for(client: TestClient, changes: dict[str, str]) -> None:
    client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1})
    path, query = "/v1/models/pets-cnn/predictions", {"dataset": "pets", "page_size": "4"}
    token = client.get(path, params=query).json()["next_page_token"]
    assert_problem(client.get(path, params={**query, "page_token": token, **changes}), 400, "invalid-page-token")


@pytest.mark.parametrize("extra", [{"offset": 1}, {"limit": 2}])
def test_pages_and_offsets_do_not_mix(client: TestClient, extra: dict[str, int]) -> None:
    query = {"dataset": "pets", "page_size": 4, **extra}
    assert_problem(client.get("/v1/models/pets-cnn/predictions", params=query), 422, "invalid-request")


def test_inputs_in_the_query_have_no_pages(client: TestClient) -> None:
    query = {"x": "0,1,2,3", "page_size": 4}
    assert_problem(client.get("/v1/models/pets-cnn/predictions", params=query), 422, "invalid-request")


def test_offsets_lead_on_to_pages(client: TestClient) -> None:
    path = "/v1/models/pets-cnn/predictions"
    first = client.get(path, params={"dataset": "pets", "offset": 1, "limit": 2}).json()
    rest = client.get(path, params={"dataset": "pets", "page_token": first["next_page_token"]}).json()
    assert [row["row"] for row in rest["predictions"]] == [3, 4, 5]
