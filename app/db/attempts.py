"""What workers write. Every statement carries the token, so a worker that lost its job changes nothing.

A worker that is fenced must kill its trainer, remove its staging files and leave the job alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.db import endings, registering, registry, results
from app.db.base import exclude_others, later, new_id, now
from app.db.dependencies import select_with_version, still_waits
from app.db.endings import AttemptEnd, Lease
from app.db.events import NewEvent, write_events
from app.db.session import Sessions
from app.db.tables import Checkpoint, Job, JobAttempt, JobDependency, Worker
from app.domain.jobs import PROTOCOL, Outcome, Phase, State, Timing


class Dependency(NamedTuple):
    """A job that had to end first, and its result: no version where it failed and could be done without."""

    role: str
    position: int
    name: str
    state: State
    error: dict[str, Any] | None
    version_id: str


class SavedState(NamedTuple):
    """A checkpoint that may be resumed from."""

    id: str
    token: int
    step: int
    manifest: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class ClaimedJob:
    """Everything that a supervisor needs of the row. `checkpoints`: the newest first; try them in order."""

    lease: Lease
    kind: str
    name: str
    spec: dict[str, Any]
    recipe_digest: str
    dataset_id: str
    attempts: int
    failures: int
    losses_without_progress: int
    step: int
    deadline_at: datetime
    dependencies: tuple[Dependency, ...]
    min_dependencies: int | None
    checkpoints: tuple[SavedState, ...]


@dataclass(frozen=True)
class Heartbeat:
    """What the database answers to a sign of life. `late`: the deadline has passed."""

    fenced: bool = False
    cancel: bool = False
    late: bool = False
    drain: bool = False


_KEPT_CHECKPOINTS = 3
# By token, not by time: the clocks of two workers may differ.
_NEWEST = (Checkpoint.token.desc(), Checkpoint.step.desc())


def claim(
    sessions: Sessions,
    worker_id: str,
    *,
    timing: Timing,
    queues: Sequence[str] = ("default",),
    protocol: int = PROTOCOL,
) -> ClaimedJob | None:
    """Take the next job that is due and whose dependencies have all succeeded; None when there is none.

    A job that reuses an identical recipe waits while its twin runs, and succeeds here when the twin has.
    """
    while True:
        with sessions.begin() as session:
            job = _next_job(session, queues, protocol)
            if job is None:
                return None
            if not (job.reuse and _left_to_twin(session, job)):
                return _take(session, job, worker_id, timing)


def heartbeat(
    session: Session,
    lease: Lease,
    *,
    timing: Timing,
    step: int | None = None,
    total_steps: int | None = None,
    phase: Phase | None = None,
    events: Sequence[NewEvent] = (),
) -> Heartbeat:
    """Renew the lease, note the progress, write the events that gathered since, and learn what is wanted."""
    values: dict[str, Any] = {"lease_expires_at": later(timing.lease_seconds)}
    if step is not None:
        values |= {"step": step, "progress_at": case((Job.step < step, now()), else_=Job.progress_at)}
    if total_steps is not None:
        values["total_steps"] = total_steps
    if phase is not None:
        values["phase"] = case((Job.cancel_requested_at.is_not(None), "cancelling"), else_=phase)
    if session.scalars(endings.held(lease).values(values).returning(Job.id)).one_or_none() is None:
        return Heartbeat(fenced=True)
    write_events(session, lease.job_id, events, token=lease.token)
    drain = select(Worker.drain_requested_at.is_not(None)).where(Worker.id == lease.worker_id).scalar_subquery()
    # Not in RETURNING: SQLite 3.40 computes expressions there with another column's type and gets them wrong.
    wishes = select(Job.cancel_requested_at.is_not(None), Job.deadline_at < now(), func.coalesce(drain, False))
    cancel, late, leaves = session.execute(wishes.where(Job.id == lease.job_id)).one()
    return Heartbeat(cancel=cancel, late=bool(late), drain=leaves)


def record_checkpoint(session: Session, lease: Lease, *, step: int, manifest: dict[str, Any], sha256: str) -> bool:
    """Make a verified checkpoint the one to resume from; losses count anew. False: fenced. Repeating it is no error."""
    checkpoint_id = new_id()
    values = {"step": step, "checkpoint_id": checkpoint_id, "losses_without_progress": 0, "progress_at": now()}
    if session.scalars(endings.held(lease).values(values).returning(Job.id)).one_or_none() is None:
        return False
    same = (Checkpoint.job_id == lease.job_id, Checkpoint.token == lease.token, Checkpoint.step == step)
    session.execute(delete(Checkpoint).where(*same))
    row = {"id": checkpoint_id, "job_id": lease.job_id, "token": lease.token, "step": step}
    session.execute(insert(Checkpoint).values(**row, manifest=manifest, sha256=sha256))
    _forget_old_checkpoints(session, lease.job_id)
    write_events(session, lease.job_id, [NewEvent("checkpoint", {"step": step})], token=lease.token)
    return True


def drain(session: Session, lease: Lease, *, end: AttemptEnd, timing: Timing) -> State | None:
    """Give the job back because its worker leaves; nothing is charged but an interruption. None: fenced."""
    return retry(session, lease, "drained", end=end, timing=timing)


def retry(session: Session, lease: Lease, outcome: Outcome, *, end: AttemptEnd, timing: Timing) -> State | None:
    """Give the job back, or fail it, as the retry policy says (`decide_retry`). None: fenced.

    A job whose cancel was requested is cancelled instead.
    """
    job = endings.lock_held(session, lease)
    return None if job is None else endings.give_back(session, job, outcome, end=end, timing=timing)


def fail(session: Session, lease: Lease, *, end: AttemptEnd, outcome: Outcome = "failed") -> State | None:
    """Fail the job for good with `end.error` {"type": slug, "title", "detail", "hint"}. None: fenced."""
    job = endings.lock_held(session, lease)
    return None if job is None else endings.end_job(session, job, "failed", outcome, end=end)


def cancelled(session: Session, lease: Lease, *, end: AttemptEnd) -> State | None:
    """Confirm that the trainer has stopped as the user asked. None: fenced."""
    job = endings.lock_held(session, lease)
    return None if job is None else endings.end_job(session, job, "cancelled", "cancelled", end=end)


def _next_job(session: Session, queues: Sequence[str], protocol: int) -> Job | None:
    return session.scalars(_ready(tuple(queues), protocol)).one_or_none()


@cache  # building this statement takes longer than running it
def _ready(queues: tuple[str, ...], protocol: int) -> Select[Job]:
    twin = aliased(Job)
    ready = select(Job).where(
        Job.state == "queued",
        Job.queue.in_(queues),
        Job.not_before <= now(),
        Job.cancel_requested_at.is_(None),
        Job.min_protocol <= protocol,
        ~still_waits(),
        or_(~Job.reuse, ~exists().where(twin.recipe_digest == Job.recipe_digest, twin.state == "running")),
    )
    ready = ready.order_by(Job.priority.desc(), Job.not_before, Job.id).limit(1)
    return ready.with_for_update(skip_locked=True, of=Job)


def _left_to_twin(session: Session, job: Job) -> bool:
    """Tell whether another job does or did the work; in the latter case the job has succeeded with its result."""
    # Of two twins claimed at the same moment, the second must see what the first became.
    exclude_others(session, job.recipe_digest)
    if results.take_over_file(session, job):
        return True
    made = registry.find_by_recipe(session, job.recipe_digest)
    if made is not None:
        registering.take_over(session, job, made)
        return True
    running = select(Job.id).where(Job.recipe_digest == job.recipe_digest, Job.state == "running")
    return session.scalars(running.limit(1)).one_or_none() is not None


def _take(session: Session, job: Job, worker_id: str, timing: Timing) -> ClaimedJob:
    checkpoints = _saved_states(session, job.id)
    step = checkpoints[0].step if checkpoints else 0
    taken = session.scalars(_taking(job, worker_id, step, timing)).one()
    lease = Lease(taken.id, taken.token, worker_id)
    attempt = {"job_id": taken.id, "token": taken.token, "worker_id": worker_id, "step_from": step}
    session.execute(insert(JobAttempt).values(attempt))
    told = {"state": "running", "attempt": taken.attempts, "worker_id": worker_id, "step": step}
    write_events(session, taken.id, [NewEvent("state", told)], token=taken.token)
    return ClaimedJob(
        lease=lease,
        kind=taken.kind,
        name=taken.name,
        spec=taken.spec,
        recipe_digest=taken.recipe_digest,
        dataset_id=taken.dataset_id,
        attempts=taken.attempts,
        failures=taken.failures,
        losses_without_progress=taken.losses_without_progress,
        step=step,
        deadline_at=taken.deadline_at,
        dependencies=_results_needed(session, taken.id),
        min_dependencies=taken.min_dependencies,
        checkpoints=checkpoints,
    )


def _taking(job: Job, worker_id: str, step: int, timing: Timing) -> Any:  # noqa: ANN401 - an UPDATE that returns the job
    taking = update(Job).where(Job.id == job.id, Job.state == "queued", Job.token == job.token)
    return (
        taking.values(
            state="running",
            phase="preparing",
            token=Job.token + 1,
            attempts=Job.attempts + 1,
            worker_id=worker_id,
            step=step,
            lease_expires_at=later(timing.lease_seconds),
            deadline_at=func.coalesce(Job.deadline_at, later(Job.max_runtime_seconds)),
            started_at=func.coalesce(Job.started_at, now()),
            dispatched_at=None,
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )


def _results_needed(session: Session, job_id: str) -> tuple[Dependency, ...]:
    found = session.execute(_needed(), {"waiting_id": job_id})
    return tuple(
        Dependency(role, position, name, state, error, version_id or "")
        for role, position, name, state, error, version_id in found
    )


@cache
def _needed() -> Select[Any]:
    columns = (JobDependency.role, JobDependency.position, Job.name, Job.state, Job.error)
    chosen = select_with_version(*columns).where(JobDependency.job_id == bindparam("waiting_id"))
    return chosen.order_by(JobDependency.role, JobDependency.position)


def _saved_states(session: Session, job_id: str) -> tuple[SavedState, ...]:
    chosen = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(*_NEWEST)
    return tuple(
        SavedState(found.id, found.token, found.step, found.manifest, found.sha256)
        for found in session.scalars(chosen.limit(_KEPT_CHECKPOINTS))
    )


def _forget_old_checkpoints(session: Session, job_id: str) -> None:
    newest = select(Checkpoint.id).where(Checkpoint.job_id == job_id).order_by(*_NEWEST)
    kept = session.scalars(newest.limit(_KEPT_CHECKPOINTS)).all()
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.id.not_in(kept)))
