"""A supervisor sees one job through, whatever its trainer does. Trainers are real processes with a scripted method."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.v1.schemas import job_problem
from app.db.base import new_id
from app.db.jobs import cancel
from app.db.session import Sessions
from app.db.tables import Job
from app.db.workers import NewWorker, register_worker, request_drain
from app.domain.jobs import Timing
from app.store.local import LocalStore
from tests.workers import (
    add_blobs_dataset,
    alive,
    finished,
    reached,
    read_attempts,
    read_events,
    read_job,
    script,
    submit_job,
    until,
    versions_of,
    weights_of,
    worker_settings,
)
from worker.supervisor import Supervisor


class Bench:
    """A supervisor on a fresh database, driven by hand."""

    def __init__(self, tmp_path: Path, sessions: Sessions, url: str, store: LocalStore, timing: Timing) -> None:
        self.sessions = sessions
        self.store = store
        self.timing = timing
        self.worker_id = new_id()
        self.home = tmp_path / "home"
        self.settings = worker_settings(self.home, url, timing)
        self.dataset_id = add_blobs_dataset(sessions, store, tmp_path)
        self.supervisor = self.make_supervisor()

    def make_supervisor(self, **changes: object) -> Supervisor:
        settings = self.settings.model_copy(update=changes)
        directory = self.home / "work" / self.worker_id
        return Supervisor(settings, self.sessions, self.store, worker_id=self.worker_id, directory=directory)

    def submit(self, *, spec: dict[str, Any] | None = None, **tags: object) -> str:
        return submit_job(self.sessions, self.dataset_id, tags=script(**tags), **(spec or {}))

    def run_until_done(self, job_id: str) -> list[str | None]:
        outcomes: list[str | None] = []
        while read_job(self.sessions, job_id).state == "queued":
            outcomes.append(until(self.supervisor.run_one))
        return outcomes

    def meanwhile(self) -> threading.Thread:
        """Run one job in a thread."""
        thread = threading.Thread(target=lambda: until(self.supervisor.run_one))
        thread.start()
        return thread


@pytest.fixture
def bench(
    tmp_path: Path, sqlite_sessions: Sessions, sqlite_url: str, store: LocalStore, timing: Timing
) -> Iterator[Bench]:
    made = Bench(tmp_path, sqlite_sessions, sqlite_url, store, timing)
    yield made
    made.supervisor.close()


def test_a_job_is_trained_and_registered_once(bench: Bench) -> None:
    job_id = bench.submit(steps=10)
    assert bench.supervisor.run_one() == "succeeded"
    job = read_job(bench.sessions, job_id)
    (version,) = versions_of(bench.sessions, job_id)
    assert (job.state, job.result_version_id, job.step, job.total_steps) == ("succeeded", version.id, 10, 10)
    assert bench.store.contains(weights_of(bench.sessions, job_id))
    assert bench.store.contains(version.digest)
    (attempt,) = read_attempts(bench.sessions, job_id)
    assert (attempt.outcome, attempt.exit_code, attempt.signal, attempt.step_to) == ("succeeded", 0, None, 10)
    assert attempt.max_rss_mb is not None
    assert attempt.max_rss_mb > 10


def test_what_the_trainer_says_becomes_events(bench: Bench) -> None:
    job_id = bench.submit(steps=10)
    bench.supervisor.run_one()
    assert {"text": "starting at step 0"} in read_events(bench.sessions, job_id, "log")
    (metric,) = read_events(bench.sessions, job_id, "metric")
    assert set(metric) == {"epoch", "loss"}
    assert read_events(bench.sessions, job_id, "progress")[-1] == {
        "step": 10,
        "total_steps": 10,
        "remaining_seconds": 0.0,
    }


def test_the_time_left_is_told_while_a_job_runs(bench: Bench) -> None:
    job_id = bench.submit(steps=20, step_seconds=0.1)
    bench.supervisor.run_one()
    *told, last = [event["remaining_seconds"] for event in read_events(bench.sessions, job_id, "progress")]
    known = [left for left in told if left is not None]
    assert last == 0.0
    assert known, "not told before the end"
    assert all(left > 0 for left in known)


def test_nothing_is_left_in_the_work_directory(bench: Bench) -> None:
    bench.submit(steps=3)
    bench.supervisor.run_one()
    assert [path for path in (bench.home / "work").rglob("*") if path.is_file()] == []


def test_without_a_job_there_is_nothing_to_do(bench: Bench) -> None:
    assert bench.supervisor.run_one() is None


def test_a_killed_trainer_is_replaced_at_once_and_goes_on(bench: Bench) -> None:
    job_id = bench.submit(steps=60, step_seconds=0.02, crash_at=40, until_token=1)
    reference = bench.submit(steps=60, step_seconds=0)
    assert bench.supervisor.run_one() == "lost"
    bench_job = read_job(bench.sessions, job_id)
    assert (bench_job.state, bench_job.losses_without_progress) == ("queued", 1)
    (attempt,) = read_attempts(bench.sessions, job_id)
    assert (attempt.outcome, attempt.signal, attempt.exit_code) == ("lost", signal.SIGKILL, None)
    assert "the last words" in read_events(bench.sessions, job_id, "log")[-1]["text"]
    bench.run_until_done(job_id)
    bench.run_until_done(reference)
    resumed = read_attempts(bench.sessions, job_id)[-1]
    assert resumed.step_from > 0
    assert weights_of(bench.sessions, job_id) == weights_of(bench.sessions, reference)


def test_a_job_that_kills_every_trainer_fails_after_three(bench: Bench) -> None:
    job_id = bench.submit(steps=60, crash_at=3)
    assert bench.run_until_done(job_id) == ["lost", "lost", "lost"]
    job = read_job(bench.sessions, job_id)
    assert (job.state, job.attempts) == ("failed", 3)
    assert job.error is not None
    assert job.error["type"] == "poison-job"
    assert versions_of(bench.sessions, job_id) == []


def test_an_error_of_the_job_fails_it_at_once(bench: Bench) -> None:
    job_id = bench.submit(steps=9, fail_at=2, fail="permanent")
    assert bench.run_until_done(job_id) == ["failed"]
    error = read_job(bench.sessions, job_id).error
    assert error is not None
    assert (error["type"], error["detail"]) == ("training-diverged", "the loss is nan")
    assert error["errors"] == [{"pointer": "/training", "detail": "too fast", "type": "training-diverged"}]
    assert job_problem(error, job_id).errors[0].pointer == "/training"


def test_passing_trouble_is_tried_three_times(bench: Bench) -> None:
    job_id = bench.submit(steps=9, fail_at=2, fail="retryable")
    assert bench.run_until_done(job_id) == ["retried", "retried", "retried"]
    error = read_job(bench.sessions, job_id).error
    assert error is not None
    assert error["type"] == "passing-trouble"


def test_a_trainer_that_hangs_is_killed_and_charged(bench: Bench, timing: Timing) -> None:
    bench.supervisor.close()
    bench.supervisor = bench.make_supervisor(timing=timing.model_copy(update={"stall_seconds": 2.0}))
    job_id = bench.submit(steps=9, hang_at=3, step_seconds=0)
    assert bench.supervisor.run_one() == "stalled"
    job = read_job(bench.sessions, job_id)
    assert (job.state, job.failures, job.losses_without_progress) == ("queued", 1, 0)


def test_a_product_that_is_not_what_its_manifest_says_is_never_registered(bench: Bench) -> None:
    job_id = bench.submit(steps=2, lie=1)
    assert bench.run_until_done(job_id) == ["retried", "retried", "retried"]
    error = read_job(bench.sessions, job_id).error
    assert error is not None
    assert error["type"] == "broken-product"
    assert versions_of(bench.sessions, job_id) == []


def test_a_cancel_stops_the_trainer_and_registers_nothing(bench: Bench) -> None:
    job_id = bench.submit(steps=5000, step_seconds=0.02)
    thread = bench.meanwhile()
    reached(bench.sessions, job_id, 3)
    with bench.sessions.begin() as session:
        cancel(session, job_id)
    bench.supervisor.nudge()
    thread.join()
    assert finished(bench.sessions, job_id).state == "cancelled"
    assert versions_of(bench.sessions, job_id) == []
    assert read_attempts(bench.sessions, job_id)[0].outcome == "cancelled"


def test_a_trainer_that_does_not_listen_is_killed_after_its_grace(bench: Bench) -> None:
    job_id = bench.submit(steps=50, hang_at=5)
    thread = bench.meanwhile()
    reached(bench.sessions, job_id, 1)
    with bench.sessions.begin() as session:
        cancel(session, job_id)
    thread.join()
    (attempt,) = read_attempts(bench.sessions, job_id)
    assert (attempt.outcome, attempt.signal) == ("cancelled", signal.SIGKILL)


def test_a_drain_gives_the_job_back_with_everything_done_so_far(bench: Bench) -> None:
    job_id = bench.submit(steps=5000, step_seconds=0.02)
    thread = bench.meanwhile()
    reached(bench.sessions, job_id, 5)
    bench.supervisor.drain()
    thread.join()
    job = read_job(bench.sessions, job_id)
    (attempt,) = read_attempts(bench.sessions, job_id)
    assert (job.state, job.interruptions, job.failures, job.losses_without_progress) == ("queued", 1, 0, 0)
    assert attempt.outcome == "drained"
    assert attempt.step_to is not None
    assert read_events(bench.sessions, job_id, "checkpoint")[-1]["step"] == attempt.step_to
    assert bench.supervisor.run_one() is None


def test_a_drain_that_was_asked_for_in_the_database_arrives_with_the_heartbeat(bench: Bench) -> None:
    with bench.sessions.begin() as session:
        register_worker(session, NewWorker(bench.worker_id, "here", os.getpid(), 1, 1))
    job_id = bench.submit(steps=5000, step_seconds=0.02)
    thread = bench.meanwhile()
    reached(bench.sessions, job_id, 2)
    with bench.sessions.begin() as session:
        request_drain(session, bench.worker_id)
    thread.join()
    assert read_job(bench.sessions, job_id).interruptions == 1
    assert bench.supervisor.draining


def test_the_deadline_ends_a_job_but_keeps_its_checkpoint(bench: Bench) -> None:
    job_id = bench.submit(spec={"max_runtime_seconds": 1}, steps=5000, step_seconds=0.02)
    assert bench.supervisor.run_one() == "failed"
    error = read_job(bench.sessions, job_id).error
    assert error is not None
    assert error["type"] == "deadline-exceeded"
    assert read_events(bench.sessions, job_id, "checkpoint") != []


def test_a_fenced_supervisor_kills_its_trainer_and_writes_nothing(bench: Bench) -> None:
    job_id = bench.submit(steps=5000, step_seconds=0.02)
    thread = bench.meanwhile()
    job = reached(bench.sessions, job_id, 2)
    with bench.sessions.begin() as session:  # as the reaper and another worker would
        session.get_one(Job, job_id).token += 1
    thread.join()
    after = read_job(bench.sessions, job_id)
    assert (after.state, after.token) == ("running", job.token + 1)
    assert read_attempts(bench.sessions, job_id)[0].outcome is None
    assert list((bench.home / "work").rglob("assignment.json")) == []


def test_a_missing_input_is_tried_again_and_then_reported(bench: Bench, tmp_path: Path) -> None:
    for blob in (tmp_path / "store").glob("blobs/sha256/*/*"):
        blob.unlink()
    job_id = bench.submit(steps=2)
    assert bench.run_until_done(job_id) == ["retried", "retried", "retried"]
    error = read_job(bench.sessions, job_id).error
    assert error is not None
    assert error["type"] == "artifact-corrupted"


def test_the_next_trainer_waits_warm(bench: Bench) -> None:
    bench.supervisor.close()
    warm = bench.settings.worker.model_copy(update={"warm": True})
    bench.supervisor = bench.make_supervisor(worker=warm)
    bench.supervisor.warm_up()
    first = bench.submit(steps=2)
    assert bench.supervisor.run_one() == "succeeded"
    waiting = bench.supervisor.warm_pid
    assert waiting is not None
    assert alive(waiting)
    bench.supervisor.close()
    assert not alive(waiting)
    assert finished(bench.sessions, first).state == "succeeded"
    bench.supervisor = bench.make_supervisor()
