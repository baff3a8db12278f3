"""Processes are killed and put to sleep at random moments; no job is lost, no version comes twice."""

import contextlib
import os
import random
import signal
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from app.db.jobs import cancel
from app.domain.errors import JobAlreadyFinishedError
from tests.e2e.conftest import Service
from tests.workers import (
    children_of,
    finished,
    host_process,
    reached,
    read_attempts,
    read_job,
    until,
    versions_of,
    weights_of,
)

STEPS = 240


@pytest.fixture
def undisturbed(service: Service) -> str:
    """Submit the job that nobody disturbs; its weights are what the others' must be."""
    return service.submit(name="undisturbed", steps=STEPS, step_seconds=0)


@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_killed_trainer_the_resumed_weights_are_those_of_an_uninterrupted_run(
    service: Service, undisturbed: str, seed: int
) -> None:
    job_id = service.submit(steps=STEPS, step_seconds=0.02)
    with host_process(service.settings) as host:
        finished(service.sessions, undisturbed)
        reached(service.sessions, job_id, random.Random(seed).randrange(1, STEPS // 2))
        (trainer,) = children_of(host.pid)
        os.kill(trainer, signal.SIGKILL)
        assert finished(service.sessions, job_id).state == "succeeded"
        assert host.poll() is None
    killed, resumed = read_attempts(service.sessions, job_id)
    assert (killed.outcome, killed.signal, resumed.outcome) == ("lost", signal.SIGKILL, "succeeded")
    assert weights_of(service.sessions, job_id) == weights_of(service.sessions, undisturbed)


def test_after_killed_hosts_another_resumes_from_the_newest_checkpoint(service: Service, undisturbed: str) -> None:
    job_id = service.submit(steps=STEPS, step_seconds=0.02)
    with host_process(service.settings) as rescuer:
        finished(service.sessions, undisturbed)
        rescuer.kill()
    rng = random.Random(3)
    for after in (rng.randrange(5, 60), rng.randrange(70, 140)):
        with host_process(service.settings) as host:
            reached(service.sessions, job_id, after)
            host.kill()
    with host_process(service.settings):
        assert finished(service.sessions, job_id).state == "succeeded"
    attempts = read_attempts(service.sessions, job_id)
    assert [attempt.outcome for attempt in attempts[-3:]] == ["lost", "lost", "succeeded"]
    assert attempts[-1].step_from > 0
    assert weights_of(service.sessions, job_id) == weights_of(service.sessions, undisturbed)


def has_stopped(pid: int) -> bool:
    """Tell whether every thread of a process has stopped: a signal that was sent need not have arrived."""
    stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def put_to_sleep(service: Service, *pids: int) -> None:
    """Stop the processes at a moment when none of them holds the database's one write lock."""
    engine = create_engine(service.settings.database_url, connect_args={"timeout": 0.2})
    while True:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            until(lambda pid=pid: has_stopped(pid))
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.rollback()
        except OperationalError:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        else:
            engine.dispose()
            return


def test_a_host_that_slept_past_its_lease_wakes_up_fenced(service: Service) -> None:
    job_id = service.submit(steps=100, step_seconds=0.02)
    with host_process(service.settings) as sleeper:
        reached(service.sessions, job_id, 5)
        (trainer,) = children_of(sleeper.pid)
        put_to_sleep(service, sleeper.pid, trainer)
        with host_process(service.settings):
            job = finished(service.sessions, job_id)
            for pid in (trainer, sleeper.pid):
                os.kill(pid, signal.SIGCONT)
            until(lambda: trainer not in children_of(sleeper.pid))
    after = read_job(service.sessions, job_id)
    assert (after.state, after.token, after.result_version_id) == ("succeeded", job.token, job.result_version_id)
    assert len(versions_of(service.sessions, job_id)) == 1
    assert [attempt.outcome for attempt in read_attempts(service.sessions, job_id)] == ["lost", "succeeded"]


def test_a_cancel_at_any_moment_leaves_either_a_model_or_a_cancelled_job(service: Service) -> None:
    rng = random.Random(4)
    with host_process(service.settings):
        for _ in range(5):
            job_id = service.submit(steps=25, step_seconds=0.01)
            if at := rng.choice([0, 5, 15, 24]):
                reached(service.sessions, job_id, at)
            with contextlib.suppress(JobAlreadyFinishedError), service.sessions.begin() as session:
                cancel(session, job_id)
            state = finished(service.sessions, job_id).state
            assert (state, len(versions_of(service.sessions, job_id))) in {("succeeded", 1), ("cancelled", 0)}
