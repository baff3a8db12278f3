"""The real trainer, with Keras, under a real host: killed in the middle, resumed to the same bits."""

import os
import signal
from collections.abc import Callable

import pytest

from app.domain.jobs import Timing
from tests.e2e.conftest import Service
from tests.workers import (
    children_of,
    finished,
    host_process,
    reached,
    read_attempts,
    read_events,
    until,
    versions_of,
    weights_of,
)
from worker.process import TRAINER_COMMAND, trainer_environment


def test_a_killed_keras_trainer_resumes_to_the_same_bits(
    make_service: Callable[..., Service], sqlite_url: str, timing: Timing
) -> None:
    service = make_service(
        sqlite_url,
        timing=timing.model_copy(update={"stall_seconds": 120.0}),
        worker={"trainer_command": TRAINER_COMMAND, "warm": False},
    )
    # A dropout layer and a schedule, whose states must be resumed as well.
    spec = {
        "architecture": {"type": "mlp", "hidden": [16], "dropout": 0.2},
        "training": {"epochs": 60, "batch_size": 8},
    }
    job_id = service.submit(name="disturbed", spec=spec)
    with host_process(service.settings) as host:
        reached(service.sessions, job_id, 100)
        until(lambda: read_events(service.sessions, job_id, "checkpoint"))
        (trainer,) = children_of(host.pid)
        os.kill(trainer, signal.SIGKILL)
        reference = service.submit(name="undisturbed", spec=spec)
        assert finished(service.sessions, job_id).state == "succeeded"
        assert finished(service.sessions, reference).state == "succeeded"
    killed, resumed = read_attempts(service.sessions, job_id)
    assert (killed.outcome, killed.signal) == ("lost", signal.SIGKILL)
    assert resumed.step_from > 0
    (version,) = versions_of(service.sessions, job_id)
    assert set(version.manifest["files"]) == {"network.json", "weights.safetensors", "model.onnx", "report.json"}
    file = "weights.safetensors"
    assert weights_of(service.sessions, job_id, file) == weights_of(service.sessions, reference, file)


def test_a_trainer_sees_no_credential(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANFUSE_DATABASE_URL", "postgresql://lean:secret@db/lean")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    seen = trainer_environment(service.settings)
    assert "secret" not in str(seen)
    assert [name for name in seen if name.startswith("LEANFUSE")] == ["LEANFUSE_SUPERVISOR_PID"]


def test_trainers_side_by_side_share_the_cores(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    worker = service.settings.worker.model_copy(update={"slots": os.cpu_count(), "threads": None})
    seen = trainer_environment(service.settings.model_copy(update={"worker": worker}))
    assert {value for name, value in seen.items() if name.endswith("_THREADS")} == {"1"}
    assert {"OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"} <= seen.keys()


def test_a_trainer_leaves_memory_of_its_gpu_to_others_unless_told(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    seen = trainer_environment(service.settings)
    assert seen["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert seen["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"
