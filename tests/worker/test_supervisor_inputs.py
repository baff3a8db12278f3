"""A trainer is given the versions that its spec names and those that the jobs before it made, in the spec's order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.db.base import new_id
from app.db.jobs import Child, NewJob, submit
from app.db.session import Sessions
from app.domain.jobs import Timing
from app.domain.specs import job_spec_adapter
from app.store.local import LocalStore
from tests.workers import add_blobs_dataset, read_events, read_job, script, submit_job, until, worker_settings
from worker.supervisor import Supervisor

MLP = {"type": "mlp"}


@pytest.fixture
def supervisor(
    tmp_path: Path, sqlite_sessions: Sessions, sqlite_url: str, store: LocalStore, timing: Timing
) -> Iterator[Supervisor]:
    settings = worker_settings(tmp_path / "home", sqlite_url, timing)
    made = Supervisor(settings, sqlite_sessions, store, worker_id=new_id(), directory=tmp_path / "work")
    yield made
    made.close()


@pytest.fixture
def dataset_id(sqlite_sessions: Sessions, store: LocalStore, tmp_path: Path) -> str:
    return add_blobs_dataset(sqlite_sessions, store, tmp_path)


def new_job(spec: dict[str, Any], dataset_id: str, *children: Child) -> NewJob:
    body = {"dataset": "blobs", "reuse": False, "tags": script(steps=2)} | spec
    dumped = job_spec_adapter.validate_python(body).model_dump(mode="json")
    recipe = new_id().replace("-", "") * 2
    return NewJob(dumped["kind"], dumped["name"], dumped, recipe, dataset_id, reuse=False, children=children)


def test_members_come_in_the_order_of_the_spec(
    supervisor: Supervisor, sqlite_sessions: Sessions, dataset_id: str
) -> None:
    submit_job(sqlite_sessions, dataset_id, "old", seed=7, tags=script(steps=2))
    assert supervisor.run_one() == "succeeded"
    members = [
        {"architecture": MLP, "seed": 1},
        {"model": "old/1"},
        {"architecture": MLP, "seed": 2},
    ]
    children = [
        Child(new_job({"kind": "train", "name": "team", "architecture": MLP, "seed": seed}, dataset_id), position)
        for position, seed in ((2, 2), (0, 1))
    ]
    spec = {"kind": "ensemble", "name": "team", "method": {"method": "parallel", "members": members}}
    with sqlite_sessions.begin() as session:
        job_id = submit(session, new_job(spec, dataset_id, *children)).id
    assert [until(supervisor.run_one) for _ in range(3)] == ["succeeded"] * 3
    assert read_job(sqlite_sessions, job_id).state == "succeeded"
    lines = [line["text"] for line in read_events(sqlite_sessions, job_id, "log")]
    (told,) = (line for line in lines if line.startswith("members: "))
    assert [part.rpartition(" ")[2] for part in told.split(", ")] == ["1", "7", "2"]


@pytest.mark.parametrize(
    ("method", "role"),
    [
        ({"method": "distill", "teacher": "old/1", "student": MLP}, "teacher"),
        ({"method": "share_weights", "parent": "old/1"}, "parent"),
        ({"method": "convolve", "parent": "old/1"}, "parent"),
    ],
    ids=["distill", "share_weights", "convolve"],
)
def test_a_named_version_comes_under_its_role(
    supervisor: Supervisor, sqlite_sessions: Sessions, dataset_id: str, method: dict[str, Any], role: str
) -> None:
    submit_job(sqlite_sessions, dataset_id, "old", seed=7, tags=script(steps=2))
    with sqlite_sessions.begin() as session:
        spec = {"kind": "optimize", "name": "new", "method": method}
        job_id = submit(session, new_job(spec, dataset_id)).id
    assert [until(supervisor.run_one) for _ in range(2)] == ["succeeded"] * 2
    assert {"text": f"{role}: old/1 seed 7"} in read_events(sqlite_sessions, job_id, "log")
