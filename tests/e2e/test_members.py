"""Members of an ensemble as jobs: spread over hosts, done without, taken from earlier ones, trained together."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from app.api.v1 import submission
from app.db import jobs
from app.db.session import reading
from app.domain.jobs import Timing
from app.domain.validation import parse_job_spec
from app.store import open_store
from tests.e2e.conftest import Service
from tests.workers import finished, host_process, read_attempts, read_job, script, until, versions_of
from worker.process import TRAINER_COMMAND

MLP = {"type": "mlp", "hidden": [8], "dropout": 0.0}
TRAINING = {"epochs": 4, "batch_size": 20}


def post(service: Service, name: str, *, members: list[dict[str, Any]], **spec: Any) -> str:
    """Submit a parallel ensemble as the API does; return the id of its job."""
    method = {"method": "parallel", "weights": spec.pop("weights", "uniform"), "members": members}
    body = {"kind": "ensemble", "name": name, "dataset": "blobs", "training": TRAINING, "method": method, **spec}
    store, limits = open_store(service.settings.store_url), service.settings.limits
    with service.sessions.begin() as session:
        checked = submission.check(session, parse_job_spec(json.dumps(body)), store=store, limits=limits)
        return submission.submit(session, checked).job.id


def members_of(service: Service, job_id: str) -> list[jobs.DependencyRow]:
    with reading(service.sessions) as session:
        return jobs.dependencies(session, job_id)


@contextmanager
def hosts(service: Service, number: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(host_process(service.settings))
        yield


def training_seconds(service: Service, job_id: str) -> float:
    """Return the time from the first member's start to the last one's end; how fast hosts start is another matter."""
    attempts = [found for row in members_of(service, job_id) for found in read_attempts(service.sessions, row.job_id)]
    ends = [attempt.ended_at for attempt in attempts if attempt.ended_at is not None]
    return (max(ends) - min(attempt.started_at for attempt in attempts)).total_seconds()


def test_two_hosts_train_the_members_in_about_half_the_time(service: Service) -> None:
    slow = script(steps=20, step_seconds=0.1)
    taken = {}
    for number in (1, 2):
        job_id = post(service, f"spread-{number}", members=[{"architecture": MLP, "count": 6}], tags=slow, reuse=False)
        with hosts(service, number):
            assert finished(service.sessions, job_id).state == "succeeded"
        taken[number] = training_seconds(service, job_id)
        assert {member.state for member in members_of(service, job_id)} == {"succeeded"}
    assert taken[2] < 0.75 * taken[1]


def test_a_cancelled_ensemble_takes_its_members_along(service: Service) -> None:
    job_id = post(
        service, "unwanted", members=[{"architecture": MLP, "count": 3}], tags=script(steps=2000), reuse=False
    )
    first, *others = [member.job_id for member in members_of(service, job_id)]
    with hosts(service, 1):
        until(lambda: read_job(service.sessions, first).state == "running")
        with service.sessions.begin() as session:
            jobs.cancel(session, job_id)
        assert finished(service.sessions, first).state == "cancelled"
    assert {read_job(service.sessions, other).state for other in [job_id, *others]} == {"cancelled"}


@pytest.fixture
def real_service(make_service: Callable[..., Service], database_url: str, timing: Timing) -> Service:
    """Give a service whose trainers are real."""
    return make_service(
        database_url,
        timing=timing.model_copy(update={"stall_seconds": 120.0}),
        worker={"trainer_command": TRAINER_COMMAND, "warm": True},
    )


def test_an_ensemble_is_trained_fused_and_distilled(real_service: Service) -> None:
    service = real_service
    diverging = {"epochs": 30, "batch_size": 20, "optimizer": {"type": "sgd", "learning_rate": 10.0}}
    deep = {"type": "mlp", "hidden": [64] * 6, "dropout": 0.0}
    team = [{"architecture": MLP, "count": 4}, {"architecture": deep, "training": diverging}]
    student = {"method": "distill", "student": {"type": "mlp", "hidden": [4], "dropout": 0.0}}
    first = post(
        service,
        "team",
        members=team,
        weights=[1.0, 2.0, 3.0, 4.0, 5.0],
        min_members=3,
        members_at_once=2,
        then=student,
    )
    again = post(service, "again", members=team[:1], members_at_once=2)
    with hosts(service, 1):
        ensemble, other = (finished(service.sessions, job_id, seconds=180) for job_id in (first, again))
    assert (ensemble.state, other.state) == ("succeeded", "succeeded")
    members = members_of(service, first)
    assert [(member.position, member.state) for member in members] == [
        *((place, "succeeded") for place in range(4)),
        (4, "failed"),
    ]
    assert len({member.job_id for member in members}) == 2, "four members are trained by one job"
    assert len({member.result_version_id for member in members}) == 5
    taken = [member.result_version_id for member in members_of(service, again)]
    assert taken == [member.result_version_id for member in members[:4]], "the same members are not trained again"
    fused, learned = versions_of(service.sessions, first)
    assert (fused.method, learned.method) == ("parallel", "distill")
    assert ensemble.result_version_id == learned.id
