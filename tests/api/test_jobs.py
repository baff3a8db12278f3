"""Jobs over HTTP: accept, repeat, follow, cancel."""

import json
import threading
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.db.attempts import drain, heartbeat
from app.db.endings import AttemptEnd
from app.db.events import NewEvent
from tests import factories
from tests.api.builders import Registry, assert_problem

TRAIN: dict[str, Any] = {
    "kind": "train",
    "name": "pets-mlp",
    "dataset": "pets",
    "architecture": {"type": "mlp", "hidden": [3]},
    "training": {"epochs": 2, "batch_size": 4},
}
MEMBERS = [{"architecture": {"type": "mlp", "hidden": [3]}, "seed": seed} for seed in (0, 1)]
TRIO: dict[str, Any] = {
    "kind": "ensemble",
    "name": "trio",
    "dataset": "pets",
    "method": {"method": "parallel", "members": [*MEMBERS, {"model": "pets-cnn"}]},
    "training": {"batch_size": 4},
}


@pytest.fixture(autouse=True)
def pets(registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn")


def test_a_job_is_accepted_with_its_place_and_when_to_look(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json=TRAIN)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert (job["state"], job["done"], job["kind"], job["name"]) == ("queued", False, "train", "pets-mlp")
    assert client.get(answer.headers["Location"]).json() == job


def test_validating_writes_nothing_and_counts_parameters(client: TestClient, registry: Registry) -> None:
    before = registry.counts()
    answer = client.post("/v1/jobs?validate_only=true", json=TRAIN)
    assert answer.status_code == 200
    assert answer.json()["parameters"] == 4 * 3 + 3 + 3 * 3 + 3
    assert answer.json()["estimate"]["optimizer_steps"] == 2 * 3
    assert answer.json()["spec"]["training"]["optimizer"]["type"] == "adam", "defaults are written out"
    assert registry.counts() == before


def test_references_are_pinned_to_the_version_of_the_moment(client: TestClient) -> None:
    job = client.post("/v1/jobs", json=TRIO).json()
    assert job["spec"]["method"]["members"][2] == {"model": "pets-cnn/1"}


def test_new_members_become_jobs_that_the_ensemble_waits_for(client: TestClient) -> None:
    job = client.get(f"/v1/jobs/{client.post('/v1/jobs', json=TRIO).json()['id']}").json()
    assert [(item["name"], item["position"], item["role"]) for item in job["waits_for"]] == [
        ("trio-m0", 0, "member"),
        ("trio-m1", 1, "member"),
    ]
    children = client.get(f"/v1/jobs?parent_id={job['id']}").json()["jobs"]
    assert {child["spec"]["seed"] for child in children} == {0, 1}
    assert [listed["id"] for listed in client.get("/v1/jobs?state=queued").json()["jobs"]] == [job["id"]]


def test_a_repeated_request_with_a_key_makes_one_job(client: TestClient, registry: Registry) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = client.post("/v1/jobs", json=TRAIN, headers=headers)
    before = registry.counts()
    again = client.post("/v1/jobs", json=TRAIN, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert registry.counts() == before
    other = client.post("/v1/jobs", json={**TRAIN, "seed": 5}, headers=headers)
    assert_problem(other, 422, "idempotency-key-reused")


def test_a_key_of_a_refused_request_may_be_used_again(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k2"}
    assert client.post("/v1/jobs", json={**TRAIN, "dataset": "nothing"}, headers=headers).status_code == 422
    assert client.post("/v1/jobs", json=TRAIN, headers=headers).status_code == 202


def test_the_same_key_sent_at_once_makes_one_job(client: TestClient, registry: Registry) -> None:
    codes: list[int] = []

    def send() -> None:
        codes.append(client.post("/v1/jobs", json=TRAIN, headers={"Idempotency-Key": "k3"}).status_code)

    before = registry.counts()["jobs"]
    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {202, 409}
    assert registry.counts()["jobs"] == before + 1


def test_a_queued_job_is_cancelled_at_once_and_only_once(client: TestClient) -> None:
    job_id = client.post("/v1/jobs", json=TRIO).json()["id"]
    cancelled = client.post(f"/v1/jobs/{job_id}:cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert {child["state"] for child in client.get(f"/v1/jobs?parent_id={job_id}").json()["jobs"]} == {"cancelled"}
    assert_problem(client.post(f"/v1/jobs/{job_id}:cancel"), 409, "job-already-finished")


def test_a_cancelled_job_is_retried_as_a_new_one(client: TestClient) -> None:
    job = client.post("/v1/jobs", json=TRAIN).json()
    assert_problem(client.post(f"/v1/jobs/{job['id']}:retry"), 409, "conflict")
    client.post(f"/v1/jobs/{job['id']}:cancel")
    retried = client.post(f"/v1/jobs/{job['id']}:retry")
    assert (retried.status_code, retried.json()["state"]) == (202, "queued")
    assert retried.json()["id"] != job["id"]
    assert retried.json()["spec"] == job["spec"]


def test_waiting_ends_when_the_job_is_done(client: TestClient, registry: Registry) -> None:
    job_id = client.post("/v1/jobs", json=TRAIN).json()["id"]
    timer = threading.Timer(0.3, finish, args=(registry, job_id))
    timer.start()
    answer = client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "respond-async, wait=30"})
    timer.join()
    assert answer.json()["state"] == "succeeded"
    assert answer.json()["result"] == {
        "name": "pets-mlp",
        "version": 1,
        "state": "ready",
        "url": "/v1/models/pets-mlp/versions/1",
    }
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_a_job_names_the_version_that_it_took_instead_of_training(client: TestClient, registry: Registry) -> None:
    first = client.post("/v1/jobs", json=TRAIN).json()
    assert first["reused"] is None
    finish(registry, first["id"])
    again = client.post("/v1/jobs", json={**TRAIN, "name": "other"}).json()
    assert (again["state"], again["result"]["name"]) == ("succeeded", "other")
    assert again["reused"] == {
        "name": "pets-mlp",
        "version": 1,
        "state": "ready",
        "url": "/v1/models/pets-mlp/versions/1",
        "job_id": first["id"],
    }
    assert client.get(f"/v1/jobs/{again['id']}").json()["reused"] == again["reused"]


def test_events_are_streamed_to_the_end_and_resumed(client: TestClient, registry: Registry) -> None:
    job_id = client.post("/v1/jobs", json=TRAIN).json()["id"]
    finish(registry, job_id, NewEvent("metric", {"epoch": 1, "loss": 0.5}), NewEvent("log", {"text": "half way"}))
    events = stream(client, job_id)
    assert events[0]["event"] == "state"
    assert events[-1]["event"] == "done"
    assert {"metric", "log"} <= {event["event"] for event in events}
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(set(ids))
    resumed = stream(client, job_id, after=events[1]["id"])
    assert resumed == events[2:]


def test_metrics_are_listed_by_epoch(client: TestClient, registry: Registry) -> None:
    job_id = client.post("/v1/jobs", json=TRAIN).json()["id"]
    finish(registry, job_id, *(NewEvent("metric", {"epoch": epoch, "loss": 1 / epoch}) for epoch in (1, 2)))
    assert [metric["epoch"] for metric in client.get(f"/v1/jobs/{job_id}/metrics").json()["metrics"]] == [1, 2]


def test_a_failed_job_carries_a_problem(client: TestClient, registry: Registry) -> None:
    from app.db.attempts import fail

    job_id = client.post("/v1/jobs", json=TRAIN).json()["id"]
    lease = factories.claim_job(registry.sessions).lease
    with registry.sessions.begin() as session:
        fail(session, lease, end=factories.FAILED)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["done"]) == ("failed", True)
    assert job["error"]["type"] == "/problems/training-diverged"
    assert client.get(job["error"]["type"]).json()["title"] == "The training diverged"


def test_lists_are_paged_without_gaps_while_jobs_are_added(client: TestClient) -> None:
    made = [client.post("/v1/jobs", json={**TRAIN, "seed": seed}).json()["id"] for seed in range(5)]
    first = client.get("/v1/jobs?page_size=2&state=queued").json()
    client.post("/v1/jobs", json={**TRAIN, "seed": 99})
    second = client.get(f"/v1/jobs?page_size=10&state=queued&page_token={first['next_page_token']}").json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == made[::-1]
    assert second["next_page_token"] == ""


def finish(registry: Registry, job_id: str, *events: NewEvent) -> None:
    """Do what a worker does: claim, report, finish."""
    lease = factories.claim_job(registry.sessions).lease
    assert lease.job_id == job_id
    with registry.sessions.begin() as session:
        heartbeat(session, lease, timing=factories.TIMING, step=3, total_steps=6, events=events)
    assert factories.finish_job(registry.sessions, lease).outcome == "succeeded"


def stream(client: TestClient, job_id: str, after: str = "") -> list[dict[str, Any]]:
    headers = {"Last-Event-ID": after} if after else {}
    answer = client.get(f"/v1/jobs/{job_id}/events", headers=headers)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in answer.text.strip().split("\n\n")]
    return [{**block, "data": json.loads(block["data"])} for block in blocks if "event" in block]


def test_a_job_that_runs_tells_the_time_left(client: TestClient, registry: Registry) -> None:
    job_id = client.post("/v1/jobs", json=TRAIN).json()["id"]
    lease = factories.claim_job(registry.sessions).lease
    told = NewEvent("progress", {"step": 3, "total_steps": 6, "remaining_seconds": 600.0})
    with registry.sessions.begin() as session:
        heartbeat(session, lease, timing=factories.TIMING, step=3, total_steps=6, events=[told])
    shown = client.get(f"/v1/jobs/{job_id}").json()["progress"]
    assert (shown["step"], shown["total_steps"], shown["fraction"]) == (3, 6, 0.5)
    assert 0 < shown["remaining_seconds"] <= 600
    assert client.get("/v1/jobs?state=running").json()["jobs"][0]["progress"]["remaining_seconds"] <= 600
    factories.finish_job(registry.sessions, lease)
    assert client.get(f"/v1/jobs/{job_id}").json()["progress"]["remaining_seconds"] is None


def test_the_time_left_of_an_attempt_that_was_lost_is_forgotten(client: TestClient, registry: Registry) -> None:
    job_id = client.post("/v1/jobs", json=TRAIN).json()["id"]
    lease = factories.claim_job(registry.sessions).lease
    told = NewEvent("progress", {"step": 3, "total_steps": 6, "remaining_seconds": 600.0})
    with registry.sessions.begin() as session:
        heartbeat(session, lease, timing=factories.TIMING, step=3, total_steps=6, events=[told])
        drain(session, lease, end=AttemptEnd(), timing=factories.TIMING)
    assert factories.claim_job(registry.sessions).lease.job_id == job_id
    assert client.get(f"/v1/jobs/{job_id}").json()["progress"]["remaining_seconds"] is None
