"""The service on a bucket: trained, served, and through outages of the store, which are told and pass."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.stack import free_port
from app.domain.jobs import Timing
from tests.e2e.conftest import Service
from tests.object_store import BUCKET, ObjectStore
from tests.workers import finished, host_process, read_attempts, read_job, running, until
from worker.process import TRAINER_COMMAND

pytestmark = pytest.mark.usefixtures("credentials")
API = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--log-level", "warning", "--port"]
ROW = [4.0, 4.0, 4.0, 4.0]


def readiness(client: httpx.Client) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.get("/readyz").json()
    except httpx.TransportError:
        return {"ready": False, "checks": {}}
    return found


def test_a_job_and_its_model_outlive_outages_of_the_store(
    make_service: Callable[..., Service], sqlite_url: str, timing: Timing, own_object_store: ObjectStore
) -> None:
    service = make_service(
        sqlite_url,
        timing=timing.model_copy(update={"stall_seconds": 120.0}),
        store_url=f"s3://{BUCKET}/team",
        store=own_object_store.options.model_copy(update={"retry_seconds": 0.5}),
        worker={"trainer_command": TRAINER_COMMAND, "warm": False},
    )
    port = str(free_port())
    with (
        running([*API, port], service.settings, name="api"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        host_process(service.settings),
    ):
        until(lambda: readiness(client)["ready"])

        own_object_store.stop()
        assert readiness(client)["checks"]["store"]["ok"] is False
        spec = {"architecture": {"type": "mlp", "hidden": [8]}, "training": {"epochs": 2}}
        job_id = service.submit(name="blobs-mlp", spec=spec)
        missed = until(lambda: next((one for one in read_attempts(service.sessions, job_id) if one.outcome), None))
        assert (missed.outcome, missed.error["type"]) == ("store_away", "store-unavailable")
        assert "LEANFUSE_STORE__ENDPOINT" in missed.error["hint"]

        own_object_store.start()
        assert finished(service.sessions, job_id).state == "succeeded"
        charged = read_job(service.sessions, job_id)
        assert (charged.failures, charged.losses_without_progress) == (0, 0), "an outage wears no job out"
        until(lambda: readiness(client)["ready"])
        model = "/v1/models/blobs-mlp/versions/1"
        assert client.post(f"{model}:predict", json={"instances": [ROW]}).status_code == httpx.codes.OK

        own_object_store.stop()
        assert client.post(f"{model}:predict", json={"instances": [ROW]}).status_code == httpx.codes.OK, "it is loaded"
        refused = client.get(f"{model}/artifacts/weights.safetensors")
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store-unavailable")
        own_object_store.start()
        assert client.get(f"{model}/artifacts/weights.safetensors").status_code == httpx.codes.OK
    assert not list((service.settings.home / "work").glob("*/*/*/inputs")), "what was held for the job is let go"


def test_files_of_a_host_lie_in_its_cache(
    make_service: Callable[..., Service], sqlite_url: str, shared_object_store: ObjectStore, tmp_path: Path
) -> None:
    service = make_service(sqlite_url, store_url=f"s3://{BUCKET}/{tmp_path.name}", store=shared_object_store.options)
    job_id = service.submit(steps=3)
    with host_process(service.settings):
        assert finished(service.sessions, job_id).state == "succeeded"

    assert list(service.settings.cache_path.glob("blobs/sha256/*/*"))
    assert not (service.settings.home / "store").exists()
