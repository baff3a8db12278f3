"""Help for tests that run workers: a tiny data set, scripted jobs, hosts as real processes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from sqlalchemy import select

from app.db.attempts import claim
from app.db.base import new_id
from app.db.datasets import add_dataset
from app.db.jobs import NewJob, submit
from app.db.session import Sessions, reading
from app.db.tables import Job, JobAttempt, JobEvent, ModelVersion
from app.domain.datasets import DatasetManifest, DatasetSchema, Statistics
from app.domain.jobs import TERMINAL_STATES, Timing
from app.domain.specs import job_spec_adapter
from app.settings import Settings, WorkerSettings
from app.store.base import Store

T = TypeVar("T")
SCRIPTED_TRAINER = (sys.executable, str(Path(__file__).with_name("scripted_trainer.py")))
PATIENCE_SECONDS = 60.0


def worker_settings(home: Path, database_url: str, timing: Timing, **overrides: Any) -> Settings:
    """Return settings of a host with one slot whose trainers are scripted."""
    worker = {"slots": 1, "trainer_command": SCRIPTED_TRAINER, "warm": False, "threads": 1} | overrides.pop(
        "worker", {}
    )
    return Settings(
        home=home,
        database_url=database_url,
        store_url=overrides.pop("store_url", (home / "store").as_uri()),
        timing=timing,
        worker=WorkerSettings(**worker),
        log_format="json",
        **overrides,
    )


def add_blobs_dataset(sessions: Sessions, store: Store, directory: Path, *, rows: int = 120) -> str:
    """Register two well separated clouds of points as the table data set "blobs"; return its id."""
    rng = np.random.default_rng(0)
    files = {}
    for count, name in ((rows, "train"), (rows // 2, "selection"), (rows // 2, "report")):
        labels = rng.integers(0, 2, count)
        features = (rng.normal(size=(count, 4)) + 4 * labels[:, None]).astype(np.float32)
        hashes = [np.frombuffer(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), np.uint8) for row in features]
        for part, array in (("x", features), ("y", labels.astype(np.int64)), ("hash", np.stack(hashes))):
            path = directory / f"{name}_{part}.npy"
            np.save(path, array, allow_pickle=False)
            files[f"{name}_{part}"] = store.put(path)
    schema = DatasetSchema(
        features="table",
        shape=(4,),
        dtype="float32",
        classes=("low", "high"),
        rows={"train": rows, "selection": rows // 2, "report": rows // 2},
    )
    statistics = Statistics(mean=(2.0,) * 4, deviation=(2.0,) * 4)
    manifest = DatasetManifest(dataset_schema=schema, files=files, statistics=statistics)
    with sessions.begin() as session:
        return add_dataset(session, "blobs", manifest)[0].id


def submit_job(sessions: Sessions, dataset_id: str, name: str = "scripted", **spec: Any) -> str:
    """Insert a train job; return its id. Every job has a recipe of its own unless `recipe_digest` says otherwise."""
    recipe = spec.pop("recipe_digest", hashlib.sha256(new_id().encode()).hexdigest())
    body = {"kind": "train", "name": name, "dataset": "blobs", "architecture": {"type": "mlp"}, "reuse": False} | spec
    checked = job_spec_adapter.validate_json(json.dumps(body))
    new = NewJob(
        kind=checked.kind,
        name=checked.name,
        spec=checked.model_dump(mode="json"),
        recipe_digest=recipe,
        dataset_id=dataset_id,
        reuse=checked.reuse,
        max_runtime_seconds=checked.max_runtime_seconds,
    )
    with sessions.begin() as session:
        return submit(session, new).id


def script(**tags: object) -> dict[str, str]:
    """Write a scripted trainer's orders as tags."""
    return {key: str(value) for key, value in tags.items()}


def read_job(sessions: Sessions, job_id: str) -> Job:
    with reading(sessions) as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def read_attempts(sessions: Sessions, job_id: str) -> list[JobAttempt]:
    with reading(sessions) as session:
        return list(session.scalars(select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.token)))


def read_events(sessions: Sessions, job_id: str, kind: str) -> list[dict[str, Any]]:
    with reading(sessions) as session:
        chosen = select(JobEvent.data).where(JobEvent.job_id == job_id, JobEvent.type == kind).order_by(JobEvent.id)
        return list(session.scalars(chosen))


def versions_of(sessions: Sessions, job_id: str) -> list[ModelVersion]:
    with reading(sessions) as session:
        return list(session.scalars(select(ModelVersion).where(ModelVersion.job_id == job_id)))


def weights_of(sessions: Sessions, job_id: str, file: str = "weights.npy") -> str:
    """Return the digest of the weights that a job registered, after checking that it registered once."""
    (version,) = versions_of(sessions, job_id)
    digest: str = version.manifest["files"][file]["sha256"]
    return digest


def until(true: Callable[[], T | None], *, seconds: float = PATIENCE_SECONDS) -> T:
    """Wait until something holds; return what it returned."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{true} did not come true")


def finished(sessions: Sessions, job_id: str, *, seconds: float = PATIENCE_SECONDS) -> Job:
    """Wait for a job's end."""
    return until(lambda: job if (job := read_job(sessions, job_id)).state in TERMINAL_STATES else None, seconds=seconds)


def reached(sessions: Sessions, job_id: str, step: int) -> Job:
    """Wait until a job has told that it is at a step."""
    return until(lambda: job if (job := read_job(sessions, job_id)).step >= step else None)


def environment(settings: Settings) -> dict[str, str]:
    """Write settings as environment variables."""
    values: Mapping[str, Any] = settings.model_dump(
        mode="json", exclude={"worker", "timing", "limits", "serving", "store"}, exclude_none=True
    )
    flat = {f"LEANFUSE_{name.upper()}": str(value) for name, value in values.items()}
    for group in ("worker", "timing", "serving", "store"):
        for name, value in getattr(settings, group).model_dump(mode="json", exclude_none=True).items():
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"LEANFUSE_{group.upper()}__{name.upper()}"] = text
    root = Path(__file__).parent.parent
    return {**os.environ, **flat, "PYTHONPATH": str(root)}


@contextmanager
def host_process(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m worker.host` in a session of its own; kill what is left of it at the end."""
    with running([sys.executable, "-m", "worker.host", *arguments], settings, name="host") as process:
        yield process


@contextmanager
def celery_process(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the Celery worker of worker.main."""
    command = [sys.executable, "-m", "celery", "-A", "worker.main", "worker", "-P", "prefork"]
    command += ["--without-gossip", "--without-mingle", *arguments]
    with running(command, settings, name="celery") as process:
        yield process


@contextmanager
def running(command: list[str], settings: Settings, *, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process with these settings, its output in a file below the home that shows when the test fails."""
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / f"{name}-{new_id()}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment(settings),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        print(f"--- {name} {process.pid}, exit {process.returncode}\n{path.read_text(errors='replace')}")


def claim_as_other(sessions: Sessions, timing: Timing) -> str | None:
    """Claim a job as a worker of another host would; return its id."""
    job = claim(sessions, new_id(), timing=timing)
    return job.lease.job_id if job else None


def alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children, of all its threads."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def is_ready(base_url: str) -> bool:
    """Tell whether a service answers, and says that it can serve."""
    try:
        return httpx.get(f"{base_url}/readyz").is_success
    except httpx.TransportError:
        return False
