"""The end of a job that succeeded: its state, its versions and everything about them in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db import endings, registering, registry
from app.db.base import now
from app.db.dependencies import still_waits
from app.db.endings import AttemptEnd, Lease
from app.db.events import NewEvent, write_events
from app.db.registering import NewVersion
from app.db.session import Sessions
from app.db.tables import Job, ModelVersion


@dataclass(frozen=True)
class Finished:
    """Say how finishing went. `cancelled`: a cancel came first, so nothing was registered; call `cancelled` next."""

    outcome: Literal["succeeded", "cancelled", "fenced"]
    version_ids: tuple[str, ...] = ()


def finish(sessions: Sessions, lease: Lease, versions: Sequence[NewVersion], *, end: AttemptEnd) -> Finished:
    """Register the versions, in order, and end the job; the last one is the job's result.

    Calling it again after a lost connection answers what the first call did. Queued jobs with the same recipe
    succeed with it.
    """
    with sessions.begin() as session:
        job = win(session, lease)
        if job is None:
            return why_not(session, lease)
        version_ids = registering.register(session, job, versions)
        result = update(Job).where(Job.id == job.id).values(result_version_id=version_ids[-1])
        session.execute(result.execution_options(synchronize_session=False))
        endings.end_attempt(session, job, "succeeded", end)
        told = {"state": "succeeded", "version_id": version_ids[-1]}
        write_events(session, job.id, [NewEvent("state", told), NewEvent("done", told)], token=lease.token)
        _serve_twins(session, job)
        return Finished("succeeded", version_ids)


def win(session: Session, lease: Lease) -> Job | None:
    """End the job, unless another took it or a cancel came first: one row, one winner."""
    values = {"state": "succeeded", "phase": None, "worker_id": None, "lease_expires_at": None, "finished_at": now()}
    won = endings.held(lease).where(Job.cancel_requested_at.is_(None)).values(values).returning(Job)
    return session.scalars(won.execution_options(populate_existing=True)).one_or_none()


def why_not(session: Session, lease: Lease) -> Finished:
    """Say why a lease did not win: what it finished before, a cancel, or another worker."""
    job = session.get(Job, lease.job_id)
    if job is None or job.token != lease.token or job.state not in ("running", "succeeded"):
        return Finished("fenced")
    if job.state == "running":
        return Finished("cancelled")
    made = select(ModelVersion.id).where(ModelVersion.job_id == job.id).order_by(ModelVersion.ordinal)
    return Finished("succeeded", tuple(session.scalars(made)))


def _serve_twins(session: Session, job: Job) -> None:
    """Let queued jobs with the same recipe take the result now, rather than when a worker looks at them."""
    twins = select(Job).where(
        Job.recipe_digest == job.recipe_digest,
        Job.state == "queued",
        Job.reuse,
        Job.cancel_requested_at.is_(None),
        ~still_waits(),
    )
    waiting = session.scalars(twins.order_by(Job.id).with_for_update(skip_locked=True, of=Job)).all()
    made = registry.find_by_recipe(session, job.recipe_digest) if waiting else None
    if made is not None:
        for twin in waiting:
            registering.take_over(session, twin, made)
