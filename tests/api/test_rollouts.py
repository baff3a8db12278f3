"""A candidate answers its share of an alias' requests, or runs beside them, and is promoted when conditions hold."""

import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.deps import Services
from tests.api.builders import ROW, Registry, assert_problem

ALIAS = "/v1/models/pets-cnn/aliases/champion"


@pytest.fixture
def pets(client: TestClient, registry: Registry) -> TestClient:
    """Serve two versions that answer differently, the first of them named by an alias."""
    registry.add_dataset()
    registry.add_model(seed=1)
    registry.add_model(seed=2)
    assert client.put(ALIAS, json={"version": 1}).status_code == 200
    return client


def ask(client: TestClient, key: str = "") -> int:
    headers = {"Leanfuse-Routing-Key": key} if key else {}
    answer = client.post("/v1/models/pets-cnn/labels/champion:predict", json={"instances": [ROW]}, headers=headers)
    assert answer.status_code == 200, answer.text
    version: int = answer.json()["version"]
    return version


def test_a_split_sends_a_share_of_the_keys_to_the_candidate(pets: TestClient) -> None:
    assert pets.put(f"{ALIAS}/rollout", json={"version": 2, "percent": 30}).json()["candidate"] == 2
    keys = [f"user-{number}" for number in range(60)]
    first = {key: ask(pets, key) for key in keys}
    assert first == {key: ask(pets, key) for key in keys}
    assert set(first.values()) == {1, 2}
    pets.put(f"{ALIAS}/rollout", json={"version": 2, "percent": 70})
    second = {key: ask(pets, key) for key in keys}
    assert all(second[key] == 2 for key in keys if first[key] == 2)
    assert sum(second.values()) > sum(first.values())
    by_get = pets.get(
        "/v1/models/pets-cnn/predictions?x=0,1,2,3&alias=champion", headers={"Leanfuse-Routing-Key": keys[0]}
    )
    assert by_get.json()["version"] == second[keys[0]]
    assert {ask(pets) for _ in range(40)} == {1, 2}


def test_a_shadow_is_compared_and_never_answers(pets: TestClient, services: Services) -> None:
    pets.put(f"{ALIAS}/rollout", json={"version": 2, "mode": "shadow", "percent": 100})
    assert {ask(pets) for _ in range(20)} == {1}
    until = time.monotonic() + 10
    while (report := pets.get(f"{ALIAS}/rollout").json()["report"])["requests"] < 20:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert report["rows"] == 20
    assert report["agreement"] in {0.0, 1.0}
    assert report["mean_absolute_difference"] > 0
    assert report["shadow_latency_ms"]["p95"] >= report["shadow_latency_ms"]["p50"] > 0
    assert report["errors"] == 0


def test_a_broken_shadow_harms_nobody(pets: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    pets.put(f"{ALIAS}/rollout", json={"version": 2, "mode": "shadow", "percent": 100})
    candidate = services.view.versions("pets-cnn")[0]
    services.predictor.unload(candidate)
    stored = services.store.fetch(candidate.manifest.files["model.onnx"].sha256)
    stored.chmod(0o600)
    stored.write_bytes(b"damaged")
    assert {ask(pets) for _ in range(5)} == {1}
    until = time.monotonic() + 10
    while pets.get(f"{ALIAS}/rollout").json()["report"]["errors"] < 5:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_candidate_is_promoted_only_when_all_conditions_hold(pets: TestClient) -> None:
    pets.put(f"{ALIAS}/rollout", json={"version": 2, "percent": 50})
    problem = assert_problem(
        pets.post(
            f"{ALIAS}:promote", json={"require": {"min_accuracy": 1.0, "max_bytes": 10**9, "min_agreement": 0.5}}
        ),
        409,
        "gate-not-met",
    )
    assert [item["pointer"] for item in problem["errors"]] == ["/require/min_accuracy", "/require/min_agreement"]
    assert "nothing was measured" in problem["errors"][1]["detail"]
    assert pets.get(f"{ALIAS}/rollout").status_code == 200
    promoted = pets.post(f"{ALIAS}:promote", json={"require": {"max_drop": 0.0, "max_bytes": 10**9}})
    assert promoted.json()["version"] == 2
    assert {ask(pets) for _ in range(10)} == {2}
    assert_problem(pets.get(f"{ALIAS}/rollout"), 404, "model-not-found")
    history = pets.get(f"{ALIAS}/history").json()
    assert [change["version"] for change in history["changes"]] == [2, 1]
    assert [(past["version"], past["outcome"]) for past in history["rollouts"]] == [(2, "promoted")]


def test_a_promotion_against_a_version_that_has_moved_on_is_refused(pets: TestClient) -> None:
    etag = pets.get("/v1/models/pets-cnn/versions/1").headers["ETag"]
    assert pets.post(f"{ALIAS}:promote", json={"version": 2}, headers={"If-Match": etag}).status_code == 200
    again = pets.post(f"{ALIAS}:promote", json={"version": 1}, headers={"If-Match": etag})
    assert_problem(again, 412, "precondition-failed")


def test_a_rollback_ends_a_rollout_first_and_then_moves_the_alias(pets: TestClient) -> None:
    pets.post(f"{ALIAS}:promote", json={"version": 2})
    pets.put(f"{ALIAS}/rollout", json={"version": 1, "percent": 50})
    assert pets.post(f"{ALIAS}:rollback").json()["version"] == 2
    assert {ask(pets) for _ in range(20)} == {2}
    assert pets.post(f"{ALIAS}:rollback").json()["version"] == 1
    assert {ask(pets) for _ in range(5)} == {1}


def test_an_ended_rollout_leaves_the_alias_where_it_is(pets: TestClient) -> None:
    pets.put(f"{ALIAS}/rollout", json={"version": 2, "percent": 50})
    assert pets.delete(f"{ALIAS}/rollout").status_code == 204
    assert {ask(pets) for _ in range(20)} == {1}
    assert_problem(pets.delete(f"{ALIAS}/rollout"), 404, "model-not-found")


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"version": 1}, 409, "conflict"),
    ({"version": 9}, 404, "model-not-found"),
    ({"version": 2, "percent": 0}, 422, "out-of-range"),
    ({"version": 2, "percent": 101}, 422, "out-of-range"),
    ({"version": 2, "percent": 1.5}, 422, "invalid-request"),
    ({"version": 2, "mode": "blue-green"}, 422, "unknown-component"),
    ({"version": 2, "salt": "x"}, 422, "unknown-field"),
    ({}, 422, "invalid-request"),
]


@pytest.mark.parametrize(("body", "code", "slug"), BAD)
def test_a_rollout_that_cannot_be_is_refused(pets: TestClient, body: dict[str, Any], code: int, slug: str) -> None:
    assert_problem(pets.put(f"{ALIAS}/rollout", json=body), code, slug)
    assert_problem(pets.get(f"{ALIAS}/rollout"), 404, "model-not-found")


def test_a_promotion_that_cannot_be_is_refused(pets: TestClient) -> None:
    assert_problem(pets.post(f"{ALIAS}:promote", json={}), 404, "model-not-found")
    assert_problem(
        pets.post(f"{ALIAS}:promote", json={"version": 2, "require": {"min_accuracy": 2}}), 422, "out-of-range"
    )
    assert_problem(pets.post(f"{ALIAS}:promote", json={"version": 2, "require": {"speed": 2}}), 422, "unknown-field")
