"""A search over HTTP: one job, several versions of one model, all on the leaderboard, its trials in the events."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.cli.demo import running_service
from app.client import Client
from app.domain.errors import OutOfRangeError

SPEC = {
    "kind": "search",
    "name": "found",
    "dataset": "digits",
    "architecture": {"type": "mlp", "hidden": [16]},
    "training": {"epochs": 2, "batch_size": 64, "optimizer": {"type": "adam", "learning_rate": 0.003}},
    "space": {"/architecture/hidden": {"choices": [[2], [16], [64]]}},
    "objectives": ["accuracy", "bytes"],
    "trials": 4,
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("service") / "home"
    with running_service("embedded", home=home) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        client.datasets.add_builtin("digits")
        yield client


@pytest.fixture(scope="module")
def job(client: Client) -> dict[str, Any]:
    done = client.jobs.wait(client.jobs.submit(SPEC)["id"], timeout_seconds=250)
    assert done["state"] == "succeeded", done["error"]
    return done


def count_versions(url: str) -> int:
    return len(httpx.get(f"{url}/v1/models/found/versions").json()["versions"])


def test_a_space_that_cannot_work_is_refused_at_once(client: Client) -> None:
    space = {"/training/batch_size": {"low": 16, "high": 100_000}}
    with pytest.raises(OutOfRangeError) as caught:
        client.jobs.validate({**SPEC, "space": space})
    assert caught.value.errors[0].pointer == "/space/~1training~1batch_size/high"
    assert "at most" in caught.value.hint


def test_the_front_becomes_versions_of_one_model(url: str, client: Client, job: dict[str, Any]) -> None:
    newest = count_versions(url)
    last = client.models.report("found", newest)["method"]
    assert newest == last["front"]["points"] >= 2
    assert [row["trial"] for row in last["trials"]] == list(range(4))
    front = [row["trial"] for row in last["trials"] if row["front"]]
    assert sorted(last["front"]["trials"]) == front
    versions = range(1, newest + 1)
    assert [client.models.report("found", version)["method"]["trial"] for version in versions] == last["front"][
        "trials"
    ]


def test_the_leaderboard_shows_the_whole_front(url: str, client: Client, job: dict[str, Any]) -> None:
    query = {"dataset": "digits", "versions": "all", "x": "bytes"}
    entries = httpx.get(f"{url}/v1/compare", params=query).json()["models"]
    points = count_versions(url)
    assert sorted(entry["version"] for entry in entries if entry["name"] == "found") == list(range(1, points + 1))
    assert {entry["method"] for entry in entries} == {"search"}


def test_every_trial_is_told_in_the_events(client: Client, job: dict[str, Any]) -> None:
    lines = [event.data.get("text", "") for event in client.jobs.events(job["id"]) if event.name == "log"]
    for number in range(4):
        assert any(line.startswith(f"trial {number}, {number + 1}/4: ") for line in lines)


def test_a_train_job_of_a_point_takes_the_version_that_the_search_made(client: Client, job: dict[str, Any]) -> None:
    notes = client.models.report("found", 1)["method"]
    spec = {"kind": "train", "name": "again", "dataset": "digits"}
    spec |= {"architecture": notes["architecture"], "training": notes["training"]}
    done = client.jobs.wait(client.jobs.submit(spec)["id"], timeout_seconds=100)
    assert done["state"] == "succeeded"
    taken, made = (client.models.version(name, 1) for name in ("again", "found"))
    assert taken["digest"] == made["digest"]
