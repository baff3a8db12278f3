"""The tables. Rules that must hold whatever the code does are constraints; there are no relationships to load."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Instant, Json, new_id, now
from app.domain.jobs import Outcome, Phase, State
from app.domain.models import LinkRole
from app.domain.rollouts import Mode

Id = String(36)
Sha256 = String(64)
# SQLite numbers rows by itself only when the key is exactly INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")


class Dataset(Base):
    """A registered data set: a name for a manifest of stored files."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    digest: Mapped[str] = mapped_column(Sha256, index=True)
    manifest: Mapped[dict[str, Any]] = mapped_column(Json)
    source: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(Instant(), default=now())


class Job(Base):
    """One job; the row is the truth, and `token` fences whoever works on it."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('queued','running','succeeded','failed','cancelled')", name="state"),
        CheckConstraint("(state = 'running') = (worker_id IS NOT NULL)", name="running_has_worker"),
        CheckConstraint("priority BETWEEN -10 AND 10", name="priority"),
        Index(
            "ix_jobs_leased",
            "lease_expires_at",
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
        # Rows change with every heartbeat: room to do it in place, and frequent cleaning.
        {"postgresql_with": {"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.02}},
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(63))
    spec: Mapped[dict[str, Any]] = mapped_column(Json)
    recipe_digest: Mapped[str] = mapped_column(Sha256, index=True)
    reuse: Mapped[bool] = mapped_column(default=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)

    state: Mapped[State] = mapped_column(String(20), default="queued")
    phase: Mapped[Phase | None] = mapped_column(String(20))
    queue: Mapped[str] = mapped_column(String(63), default="default")
    priority: Mapped[int] = mapped_column(Integer, default=0)
    min_protocol: Mapped[int] = mapped_column(Integer, default=1)

    token: Mapped[int] = mapped_column(BigInteger, default=0)
    worker_id: Mapped[str | None] = mapped_column(Id)
    lease_expires_at: Mapped[datetime | None] = mapped_column(Instant())
    not_before: Mapped[datetime] = mapped_column(Instant(), default=now())
    max_runtime_seconds: Mapped[int] = mapped_column(Integer, default=7 * 86_400)
    deadline_at: Mapped[datetime | None] = mapped_column(Instant())
    dispatched_at: Mapped[datetime | None] = mapped_column(Instant())
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Instant())

    attempts: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    interruptions: Mapped[int] = mapped_column(Integer, default=0)
    losses_without_progress: Mapped[int] = mapped_column(Integer, default=0)

    step: Mapped[int] = mapped_column(BigInteger, default=0)
    total_steps: Mapped[int | None] = mapped_column(BigInteger)
    progress_at: Mapped[datetime | None] = mapped_column(Instant())
    # No foreign keys: checkpoints and versions refer to their job already.
    checkpoint_id: Mapped[str | None] = mapped_column(Id)
    result_version_id: Mapped[str | None] = mapped_column(Id)
    # So many of the jobs that this one needs must succeed; None: all of them.
    min_dependencies: Mapped[int | None] = mapped_column(Integer)
    # The version that an earlier job made by the same recipe, where it was taken instead of made again.
    reused_version_id: Mapped[str | None] = mapped_column(Id)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    # The file that a batch prediction came to (`PredictionFile`).
    result_file: Mapped[dict[str, Any] | None] = mapped_column(Json)

    created_at: Mapped[datetime] = mapped_column(Instant(), default=now())
    started_at: Mapped[datetime | None] = mapped_column(Instant())
    finished_at: Mapped[datetime | None] = mapped_column(Instant())


_QUEUED = text("state = 'queued'")
# In the order in which jobs are claimed.
Index(
    "ix_jobs_ready",
    Job.queue,
    Job.priority.desc(),
    Job.not_before,
    Job.id,
    sqlite_where=_QUEUED,
    postgresql_where=_QUEUED,
)


class JobDependency(Base):
    """A job that must succeed before another may start; its result takes `role` and `position` in that other.

    Of a job that trains several members it is the version `ordinal`; each of them has a row of its own.
    """

    __tablename__ = "job_dependencies"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    depends_on_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(20), primary_key=True, default="member")
    position: Mapped[int] = mapped_column(Integer, primary_key=True, default=0)
    ordinal: Mapped[int | None] = mapped_column(Integer)


class JobAttempt(Base):
    """One claim of a job, and how it ended. No token is ever used twice."""

    __tablename__ = "job_attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    worker_id: Mapped[str] = mapped_column(Id)
    started_at: Mapped[datetime] = mapped_column(Instant(), default=now())
    ended_at: Mapped[datetime | None] = mapped_column(Instant())
    outcome: Mapped[Outcome | None] = mapped_column(String(20))
    exit_code: Mapped[int | None] = mapped_column(Integer)
    signal: Mapped[int | None] = mapped_column(Integer)
    max_rss_mb: Mapped[int | None] = mapped_column(Integer)
    step_from: Mapped[int] = mapped_column(BigInteger, default=0)
    step_to: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)


class JobEvent(Base):
    """Something that happened to a job, in order; the stream that clients follow."""

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job_id_id", "job_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    type: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime] = mapped_column(Instant(), default=now())
    data: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)


class Checkpoint(Base):
    """A state to resume from, written by one attempt."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "token", "step"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    token: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger)
    manifest: Mapped[dict[str, Any]] = mapped_column(Json)
    sha256: Mapped[str] = mapped_column(Sha256)
    created_at: Mapped[datetime] = mapped_column(Instant(), default=now())


class Blob(Base):
    """A stored file that some row refers to."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(Sha256, primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Instant(), default=now())
    quarantined_at: Mapped[datetime | None] = mapped_column(Instant())


class Model(Base):
    """A name under which versions are registered."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    description: Mapped[str] = mapped_column(Text, default="")
    next_version: Mapped[int] = mapped_column(Integer, default=1)
    created_at: Mapped[datetime] = mapped_column(Instant(), default=now())
    updated_at: Mapped[datetime] = mapped_column(Instant(), default=now())
    # The row stays, so that no number of a version is ever used twice. Asked about, never read.
    deleted_at: Mapped[datetime | None] = mapped_column(Instant(), deferred=True)


class ModelVersion(Base):
    """An immutable version; `ordinal` counts those of one job, so that registering twice is impossible."""

    __tablename__ = "model_versions"
    __table_args__ = (
        CheckConstraint("state IN ('ready','rejected','deprecated','deleting','deleted','corrupted')", name="state"),
        UniqueConstraint("model_id", "version"),
        UniqueConstraint("job_id", "ordinal"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int] = mapped_column(Integer)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    ordinal: Mapped[int] = mapped_column(Integer, default=0)
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    state: Mapped[str] = mapped_column(String(20), default="ready")
    kind: Mapped[str] = mapped_column(String(20))
    method: Mapped[str] = mapped_column(String(40))
    digest: Mapped[str] = mapped_column(Sha256, index=True)
    # Empty for a by-product whose own recipe is that of the whole job: it must not answer for the job's result.
    recipe_digest: Mapped[str | None] = mapped_column(Sha256, index=True)
    dataset_digest: Mapped[str] = mapped_column(Sha256, index=True)
    manifest: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(Instant(), default=now())


class VersionLink(Base):
    """What a version was made from: its parent, its teacher, or its members in order."""

    __tablename__ = "version_links"

    child_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    role: Mapped[LinkRole] = mapped_column(String(20), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, default=0)
    parent_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), index=True)
    weight: Mapped[float | None] = mapped_column()


class Alias(Base):
    """A movable name for one version of a model."""

    __tablename__ = "aliases"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(String(63), primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), index=True)
    updated_at: Mapped[datetime] = mapped_column(Instant(), default=now())


class AliasChange(Base):
    """Where an alias pointed before and after a change; no version means that it was deleted."""

    __tablename__ = "alias_history"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    alias: Mapped[str] = mapped_column(String(63))
    version_id: Mapped[str | None] = mapped_column(ForeignKey("model_versions.id"))
    previous_version_id: Mapped[str | None] = mapped_column(ForeignKey("model_versions.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    changed_at: Mapped[datetime] = mapped_column(Instant(), default=now())


class AliasRollout(Base):
    """A candidate that answers a part of an alias' requests, or runs beside them; at most one is open."""

    __tablename__ = "alias_rollouts"
    __table_args__ = (
        CheckConstraint("mode IN ('split','shadow')", name="mode"),
        CheckConstraint("percent BETWEEN 1 AND 100", name="percent"),
        CheckConstraint("outcome IN ('promoted','ended','replaced')", name="outcome"),
        CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended"),
        Index(
            "uq_alias_rollouts_open",
            "model_id",
            "alias",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    # It also salts the choice of requests, so that every rollout chooses anew.
    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    alias: Mapped[str] = mapped_column(String(63))
    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), index=True)
    mode: Mapped[Mode] = mapped_column(String(20))
    percent: Mapped[int] = mapped_column(Integer)
    # Every percentage that it had, with its time.
    steps: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    tally: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    tallied: Mapped[int] = mapped_column(BigInteger, default=0)
    started_at: Mapped[datetime] = mapped_column(Instant(), default=now())
    ended_at: Mapped[datetime | None] = mapped_column(Instant())
    outcome: Mapped[str | None] = mapped_column(String(20))


class VersionTag(Base):
    """A label that a user put on a version."""

    __tablename__ = "version_tags"

    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class ModelTag(Base):
    """A label that a user put on a model."""

    __tablename__ = "model_tags"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class VersionNote(Base):
    """What a user says about a version, which is immutable itself; `source` and the run are labels, never opened."""

    __tablename__ = "version_notes"

    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    description: Mapped[str] = mapped_column(Text, default="")
    source: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[str] = mapped_column(Text, default="")
    run_link: Mapped[str] = mapped_column(Text, default="")
    updated_at: Mapped[datetime] = mapped_column(Instant(), default=now())


class RegistryRevision(Base):
    """One row that counts the registry's writes, so that a view of it sees with one read whether to reload."""

    __tablename__ = "registry_revision"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)


class Worker(Base):
    """A worker host that lives, or lived until `last_seen_at`."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(Integer)
    slots: Mapped[int] = mapped_column(Integer)
    protocol: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(Instant(), default=now())
    last_seen_at: Mapped[datetime] = mapped_column(Instant(), default=now())
    drain_requested_at: Mapped[datetime | None] = mapped_column(Instant())
    quarantined_at: Mapped[datetime | None] = mapped_column(Instant())


class IdempotencyRecord(Base):
    """The answer to a request that may be sent again with the same key."""

    __tablename__ = "idempotency"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(Sha256)
    response_code: Mapped[int | None] = mapped_column(Integer)
    response_body: Mapped[dict[str, Any] | None] = mapped_column(Json)
    expires_at: Mapped[datetime] = mapped_column(Instant(), index=True)
