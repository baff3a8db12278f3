"""Small rows and values, each valid as it stands; name only what matters to the test."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event, update

from app.db.attempts import ClaimedJob, claim
from app.db.base import later, new_id
from app.db.datasets import add_dataset
from app.db.endings import AttemptEnd, Lease
from app.db.finish import Finished, NewVersion, finish
from app.db.jobs import Child, NewJob, submit
from app.db.session import Sessions, reading
from app.db.tables import Job
from app.domain.datasets import DatasetManifest, DatasetSchema, FileRef, Statistics
from app.domain.jobs import Timing
from app.domain.models import InputSignature, Link, Metrics, VersionManifest

TIMING = Timing()
END = AttemptEnd(exit_code=0)
FAILED = AttemptEnd(exit_code=1, error={"type": "training-diverged", "title": "", "detail": "", "hint": ""})


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def file_ref(text: str) -> FileRef:
    return FileRef(sha256=sha256(text), size_bytes=len(text))


def dataset_manifest(seed: int = 0) -> DatasetManifest:
    schema = DatasetSchema(
        features="table",
        shape=(4,),
        dtype="float32",
        classes=("a", "b"),
        rows={"train": 4, "selection": 2, "report": 2},
    )
    files = {f"{rows}_{part}": file_ref(f"{rows}_{part}_{seed}") for rows in schema.rows for part in ("x", "y", "hash")}
    statistics = Statistics(mean=(0.0,) * 4, deviation=(1.0,) * 4)
    return DatasetManifest(dataset_schema=schema, files=files, statistics=statistics)


def make_dataset(sessions: Sessions, name: str = "digits") -> str:
    with sessions.begin() as session:
        return add_dataset(session, name, dataset_manifest())[0].id


def version_manifest(
    recipe: str = "recipe", *, seed: int = 0, links: Sequence[Link] = (), **given: Any
) -> VersionManifest:
    values: dict[str, Any] = {
        "kind": "single",
        "method": "train",
        "task": "classification",
        "classes": ("a", "b"),
        "input": InputSignature(shape=(4,), dtype="float32"),
        "files": {"model.onnx": file_ref(f"{recipe}-{seed}")},
        "dataset": "digits",
        "dataset_digest": dataset_manifest().digest,
        "recipe_digest": sha256(recipe),
        "seed": seed,
        "protocol": 1,
        "links": tuple(links),
        "metrics": Metrics(
            accuracy=0.9,
            parameters=10,
            macs=10,
            served_bytes=100,
            weights_bytes=40,
            latency_ms_batch_1=0.1,
            latency_ms_batch_32=0.2,
        ),
    }
    return VersionManifest(**values | given)


def new_job(dataset_id: str, name: str = "digits-cnn", *, recipe: str | None = None, **given: Any) -> NewJob:
    """Describe a job; its recipe is its own unless named, `spec` holds what finishing reads (alias, tags)."""
    values: dict[str, Any] = {"kind": "train", "spec": {"kind": "train", "name": name}, "dataset_id": dataset_id}
    return NewJob(name=name, recipe_digest=sha256(recipe or new_id()), **values | given)


def ensemble_job(dataset_id: str, members: int = 2, **given: Any) -> NewJob:
    children = [Child(new_job(dataset_id, f"trio.member-{place}"), positions=(place,)) for place in range(members)]
    return new_job(dataset_id, "trio", kind="ensemble", children=children, **given)


def submit_job(sessions: Sessions, dataset_id: str, **given: Any) -> str:
    with sessions.begin() as session:
        return submit(session, new_job(dataset_id, **given)).id


def claim_job(sessions: Sessions, worker_id: str = "worker-1", *, timing: Timing = TIMING) -> ClaimedJob:
    claimed = claim(sessions, worker_id, timing=timing)
    assert claimed is not None, "no job was ready"
    return claimed


def finish_job(sessions: Sessions, lease: Lease, *versions: NewVersion) -> Finished:
    made = versions or (NewVersion(get_row(sessions, lease.job_id).name, version_manifest(lease.job_id)),)
    return finish(sessions, lease, made, end=END)


def train(sessions: Sessions, dataset_id: str, **given: Any) -> tuple[str, str]:
    """Submit, claim and finish a job; return its id and the version's."""
    job_id = submit_job(sessions, dataset_id, **given)
    claimed = claim_job(sessions)
    assert claimed.lease.job_id == job_id
    return job_id, finish_job(sessions, claimed.lease).version_ids[0]


def get_row(sessions: Sessions, job_id: str) -> Job:
    with reading(sessions) as session:
        return session.get_one(Job, job_id)


def let_lease_run_out(sessions: Sessions, job_id: str) -> None:
    """Do what time would do to the lease of a worker that fell silent."""
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=later(-60)))


def make_due(sessions: Sessions, job_id: str) -> None:
    """Do what time would do to a job that waits for its next attempt."""
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=later(-1)))


@contextmanager
def counted_queries(engine: Engine) -> Iterator[list[str]]:
    """Gather the statements that are sent to the database."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)
