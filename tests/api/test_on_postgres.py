"""The same application on PostgreSQL: one walk through all that differs between the databases."""

import threading

import pytest
from starlette.testclient import TestClient

from app.settings import Settings
from tests.api.builders import ROW, Registry, assert_problem
from tests.api.test_jobs import TRAIN, TRIO, finish, stream


@pytest.fixture
def settings(settings: Settings, postgres_url: str) -> Settings:
    return settings.model_copy(update={"database_url": postgres_url})


def test_a_job_is_accepted_repeated_followed_and_predicted_with(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn")
    answers = [client.post("/v1/jobs", json=TRAIN, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert_problem(client.post("/v1/jobs", json=TRIO, headers={"Idempotency-Key": "k"}), 422, "idempotency-key-reused")
    finish(registry, answers[0].json()["id"])
    assert stream(client, answers[0].json()["id"])[-1]["event"] == "done"
    trio = client.post("/v1/jobs", json=TRIO).json()
    assert client.post(f"/v1/jobs/{trio['id']}:cancel").json()["state"] == "cancelled"
    page = client.get("/v1/jobs?page_size=1").json()
    assert (
        client.get(f"/v1/jobs?page_size=1&page_token={page['next_page_token']}").json()["jobs"][0]["id"] != trio["id"]
    )
    assert client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1}).status_code == 200
    assert client.post("/v1/models/pets-cnn/labels/champion:predict", json={"instances": [ROW]}).status_code == 200
    assert client.get("/readyz").json()["ready"] is True


def test_one_key_sent_by_many_at_once_makes_one_job(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    codes: list[int] = []

    def send() -> None:
        codes.append(client.post("/v1/jobs", json=TRAIN, headers={"Idempotency-Key": "k"}).status_code)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {202, 409}
    assert registry.counts()["jobs"] == 1
