"""A trainer is given the versions that its spec names and those that the jobs before it made, in the spec's order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.db.base import new_id
from app.db.jobs import Child, NewJob, submit
from app.db.registering import NewVersion
from app.db.session import Sessions
from app.domain.jobs import Timing
from app.domain.models import Link
from app.domain.specs import job_spec_adapter
from app.store.local import LocalStore
from tests.factories import claim_job, file_ref, finish_job, train, version_manifest
from tests.factories import submit_job as submit_new_job
from tests.workers import add_blobs_dataset, read_events, read_job, script, submit_job, until, worker_settings
from worker.staging import find_sources
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
        Child(new_job({"kind": "train", "name": "team", "architecture": MLP, "seed": seed}, dataset_id), (position,))
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


def test_a_soup_is_given_its_ancestor_and_its_members_in_the_order_of_the_spec(
    sqlite_sessions: Sessions, dataset_id: str
) -> None:
    for name in ("old", "tuned"):
        train(sqlite_sessions, dataset_id, name=name)
    members = [{"seed": 1}, {"model": "tuned/1"}, {"seed": 2}]
    made = [fine_tuning(f"soup-m{place}", dataset_id) for place in (0, 2)]
    children = [Child(job, (place,)) for job, place in zip(made, (0, 2), strict=True)]
    method = {"method": "soup", "ancestor": "old/1", "members": members}
    with sqlite_sessions.begin() as session:
        submit(session, new_job({"kind": "ensemble", "name": "soup", "method": method}, dataset_id, *children))
    for _ in made:
        claimed = claim_job(sqlite_sessions)
        name = claimed.spec["name"]
        finish_job(sqlite_sessions, claimed.lease, NewVersion(name, version_manifest(name, method="fine_tune")))
    sources = find_sources(sqlite_sessions, claim_job(sqlite_sessions))
    found = {role: [source.row.name for source in given] for role, given in sources.references.items()}
    assert found == {"parent": ["old"], "members": ["soup-m0", "tuned", "soup-m2"]}


def fine_tuning(name: str, dataset_id: str) -> NewJob:
    method = {"method": "fine_tune", "parent": "old/1"}
    return new_job({"kind": "optimize", "name": name, "method": method}, dataset_id)


def distillation(unlabelled: str) -> dict[str, Any]:
    method = {"method": "distill", "teacher": "old/1", "student": MLP, "transfer": {"unlabelled": unlabelled}}
    return {"kind": "optimize", "name": "new", "method": method}


def test_the_unlabelled_data_set_is_laid_out_beside_the_jobs_own(
    supervisor: Supervisor, sqlite_sessions: Sessions, dataset_id: str
) -> None:
    submit_job(sqlite_sessions, dataset_id, "old", seed=7, tags=script(steps=2))
    with sqlite_sessions.begin() as session:
        job_id = submit(session, new_job(distillation("blobs"), dataset_id)).id
    assert [until(supervisor.run_one) for _ in range(2)] == ["succeeded"] * 2
    assert {"text": "unlabelled: blobs train_y"} in read_events(sqlite_sessions, job_id, "log")


def test_a_job_whose_unlabelled_data_set_is_gone_fails_and_says_so(
    supervisor: Supervisor, sqlite_sessions: Sessions, dataset_id: str
) -> None:
    submit_job(sqlite_sessions, dataset_id, "old", seed=7, tags=script(steps=2))
    with sqlite_sessions.begin() as session:
        job_id = submit(session, new_job(distillation("gone"), dataset_id)).id
    assert [until(supervisor.run_one) for _ in range(2)] == ["succeeded", "failed"]
    error = read_job(sqlite_sessions, job_id).error
    assert error is not None
    assert error["type"] == "dataset-not-found"


def test_members_of_an_ensemble_that_is_trained_again_are_handed_over_in_its_order(
    sqlite_sessions: Sessions, dataset_id: str
) -> None:
    made = [train(sqlite_sessions, dataset_id, name=name)[1] for name in ("one", "two")]
    links = [
        Link(role="member", version_id=version, position=1 - place, weight=0.5) for place, version in enumerate(made)
    ]
    submit_new_job(sqlite_sessions, dataset_id, name="duo")
    fused = version_manifest("duo", kind="ensemble", links=links, files={"model.onnx": file_ref("duo")})
    finish_job(sqlite_sessions, claim_job(sqlite_sessions).lease, NewVersion("duo", fused))
    for labels, members in (("out_of_fold", ["two", "one"]), ("teacher", [])):
        method = {"method": "distill", "teacher": "duo/1", "student": MLP, "transfer": {"labels": labels}}
        with sqlite_sessions.begin() as session:
            submit(session, new_job({"kind": "optimize", "name": "new", "method": method}, dataset_id))
        sources = find_sources(sqlite_sessions, claim_job(sqlite_sessions))
        assert [source.row.name for source in sources.references["teacher"]] == ["duo"]
        assert [source.row.name for source in sources.references.get("members", ())] == members
