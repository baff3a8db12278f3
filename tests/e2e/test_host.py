"""The embedded worker host, as the process that `leanfuse up` starts."""

import os
import signal
import sys
import time
from collections.abc import Callable

from app.db.session import reading
from app.db.tables import Worker
from app.db.workers import list_workers
from app.domain.jobs import Timing
from app.queue import PipeHinter
from tests.e2e.conftest import Service
from tests.workers import (
    alive,
    children_of,
    finished,
    host_process,
    reached,
    read_attempts,
    read_events,
    read_job,
    running,
    until,
    versions_of,
    weights_of,
)


def workers_of(service: Service) -> list[Worker]:
    with reading(service.sessions) as session:
        return list_workers(session)


def test_a_committed_job_runs_even_when_no_hint_was_ever_sent(service: Service) -> None:
    job_id = service.submit(steps=5)
    with host_process(service.settings):
        assert finished(service.sessions, job_id).state == "succeeded"


def test_a_hint_wakes_the_host_long_before_its_next_poll(
    make_service: Callable[..., Service], sqlite_url: str, timing: Timing
) -> None:
    service = make_service(
        sqlite_url, timing=timing.model_copy(update={"poll_seconds": 600.0, "heartbeat_seconds": 60.0})
    )
    hinter = PipeHinter(service.settings.wake_path)
    with host_process(service.settings):
        until(service.settings.wake_path.exists)
        until(lambda: workers_of(service))
        time.sleep(0.5)  # until the slot has looked once and sleeps
        job_id = service.submit(steps=5)
        assert hinter.hint(job_id)
        assert finished(service.sessions, job_id).state == "succeeded"


def test_a_hint_without_a_host_is_no_error(service: Service) -> None:
    assert PipeHinter(service.settings.wake_path).hint("any") is False


def test_sigterm_gives_the_job_back_and_the_next_host_goes_on_where_it_was(service: Service) -> None:
    reference = service.submit(steps=150, step_seconds=0)
    job_id = service.submit(steps=150, step_seconds=0.02)
    with host_process(service.settings) as host:
        reached(service.sessions, job_id, 20)
        host.send_signal(signal.SIGTERM)
        assert host.wait(timeout=20) == 0
    job = read_job(service.sessions, job_id)
    assert (job.state, job.interruptions, job.failures, job.losses_without_progress) == ("queued", 1, 0, 0)
    with host_process(service.settings):
        assert finished(service.sessions, job_id).state == "succeeded"
    drained, resumed = read_attempts(service.sessions, job_id)
    assert (drained.outcome, resumed.step_from) == ("drained", drained.step_to)
    assert weights_of(service.sessions, job_id) == weights_of(service.sessions, reference)


def test_an_idle_host_leaves_at_once_and_takes_its_row_and_files_along(service: Service) -> None:
    with host_process(service.settings) as host:
        until(lambda: workers_of(service))
        host.send_signal(signal.SIGINT)
        assert host.wait(timeout=10) == 0
    assert workers_of(service) == []
    assert list((service.settings.home / "work").iterdir()) == []


def test_a_host_leaves_when_its_parent_is_gone(service: Service) -> None:
    parent_code = (
        "import os, subprocess, sys;"
        "subprocess.Popen([sys.executable, '-m', 'worker.host', '--parent', str(os.getpid())]); input()"
    )
    with running([sys.executable, "-c", parent_code], service.settings, name="parent") as parent:
        (worker,) = until(lambda: workers_of(service))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    until(lambda: not alive(worker.pid))


def test_when_a_host_is_killed_its_trainer_dies_with_it(service: Service) -> None:
    job_id = service.submit(steps=5000, step_seconds=0.02)
    with host_process(service.settings) as host:
        reached(service.sessions, job_id, 2)
        (trainer,) = children_of(host.pid)
        os.kill(host.pid, signal.SIGKILL)
        host.wait()
        until(lambda: not alive(trainer), seconds=5)


def test_the_files_of_a_killed_host_are_removed_by_the_next(service: Service) -> None:
    job_id = service.submit(steps=5000, step_seconds=0.02)
    with host_process(service.settings) as host:
        reached(service.sessions, job_id, 2)
        os.kill(host.pid, signal.SIGKILL)
    (left,) = (path for path in (service.settings.home / "work").iterdir() if path.is_dir())
    with host_process(service.settings):
        until(lambda: not left.exists())


def test_two_hosts_share_the_jobs_and_register_each_once(service: Service) -> None:
    jobs = [service.submit(name=f"job-{number}", steps=3, step_seconds=0) for number in range(8)]
    with host_process(service.settings), host_process(service.settings):
        for job_id in jobs:
            assert finished(service.sessions, job_id).state == "succeeded"
    for job_id in jobs:
        assert len(versions_of(service.sessions, job_id)) == 1
        assert len(read_attempts(service.sessions, job_id)) == 1


def test_progress_is_told_soon_after_the_start(service: Service) -> None:
    job_id = service.submit(steps=5000, step_seconds=0.02)
    with host_process(service.settings) as host:
        reached(service.sessions, job_id, 1)
        assert read_events(service.sessions, job_id, "progress")[0]["total_steps"] == 5000
        host.kill()
