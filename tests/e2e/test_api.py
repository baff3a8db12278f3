"""How the API process ends: by SIGKILL between a commit and its hint, or by SIGTERM while clients wait."""

import signal
import sys
from pathlib import Path

import httpx
import pytest

from app.cli.stack import free_port
from app.db.jobs import JobFilter, list_jobs
from app.db.pages import PageRequest
from app.db.session import reading
from tests.e2e.conftest import Service
from tests.workers import finished, host_process, is_ready, running, until, versions_of

DEADLY_API = [sys.executable, str(Path(__file__).with_name("api_that_dies.py"))]
HEALTHY_API = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--log-level", "warning", "--port"]
SPEC = {
    "kind": "train",
    "name": "survivor",
    "dataset": "blobs",
    "architecture": {"type": "mlp"},
    "tags": {"steps": "3"},
}
KEY = {"Idempotency-Key": "once"}


def all_jobs(service: Service) -> list[str]:
    with reading(service.sessions) as session:
        return [row.job.id for row in list_jobs(session, PageRequest(), JobFilter()).items]


def test_a_job_whose_api_was_killed_before_the_hint_still_ends_once(service: Service) -> None:
    port = str(free_port())
    base_url = f"http://127.0.0.1:{port}"
    with running([*DEADLY_API, port], service.settings, name="api") as api:
        until(lambda: is_ready(base_url))
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{base_url}/v1/jobs", json=SPEC, headers=KEY)
        assert api.wait(timeout=10) == -signal.SIGKILL
    (job_id,) = all_jobs(service)

    with running([*HEALTHY_API, port], service.settings, name="api"):
        until(lambda: is_ready(base_url))
        retried = httpx.post(f"{base_url}/v1/jobs", json=SPEC, headers=KEY)
        assert retried.status_code == httpx.codes.ACCEPTED
        assert retried.json()["id"] == job_id
        assert retried.headers["Idempotency-Replayed"] == "true"

    with host_process(service.settings):
        assert finished(service.sessions, job_id).state == "succeeded"
    assert all_jobs(service) == [job_id]
    assert len(versions_of(service.sessions, job_id)) == 1


def test_an_api_that_is_told_to_end_sends_home_whoever_follows_a_job(service: Service) -> None:
    port = str(free_port())
    job = f"http://127.0.0.1:{port}/v1/jobs/{service.submit(steps=3)}"
    # uvicorn has no deadline of its own here: it waits for the stream for ever.
    with running([*HEALTHY_API, port], service.settings, name="api") as api, httpx.Client(timeout=30) as client:
        until(lambda: is_ready(f"http://127.0.0.1:{port}"))
        with client.stream("GET", f"{job}/events") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event:")) == "event: state"
            api.send_signal(signal.SIGTERM)
            assert "event: done" not in list(lines)
        assert api.wait(timeout=20) in {0, -signal.SIGTERM}
