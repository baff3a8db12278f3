"""What some process must do now and then. Every function may run in many processes at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.orm import Session

from app.db import endings
from app.db.base import later, now
from app.db.dependencies import still_waits
from app.db.tables import IdempotencyRecord, Job
from app.domain.jobs import State, Timing


@dataclass(frozen=True)
class Reaped:
    """A job whose worker fell silent, and what became of it."""

    job_id: str
    worker_id: str
    state: State


def reap(session: Session, *, timing: Timing, limit: int = 50) -> list[Reaped]:
    """Take jobs back whose lease ran out: to the queue, to `cancelled`, or to `failed` when they kill every worker.

    Skip it for one lease length after this process lost the database: workers could not renew either.
    """
    silent = select(Job).where(Job.state == "running", Job.lease_expires_at < later(-timing.reap_slack_seconds))
    silent = silent.order_by(Job.id).limit(limit).with_for_update(skip_locked=True)
    reaped = []
    for job in session.scalars(silent).all():
        worker_id = job.worker_id or ""
        state = endings.give_back(session, job, "lost", end=endings.UNKNOWN_END, timing=timing)
        reaped.append(Reaped(job.id, worker_id, state))
    return reaped


def undispatched(session: Session, *, timing: Timing, limit: int = 100) -> list[str]:
    """Return due jobs that no hint was sent for lately. Publish the hints first, then call `mark_dispatched`.

    A crash in between sends a hint twice, which costs a worker one query; the other order could lose it.
    """
    due = select(Job.id).where(
        Job.state == "queued",
        Job.not_before <= now(),
        or_(Job.dispatched_at.is_(None), Job.dispatched_at < later(-timing.redispatch_seconds)),
        ~still_waits(),
    )
    return list(session.scalars(due.order_by(Job.priority.desc(), Job.not_before, Job.id).limit(limit)))


def mark_dispatched(session: Session, job_ids: Sequence[str]) -> None:
    """Note that hints were sent."""
    marked = update(Job).where(Job.id.in_(job_ids), Job.state == "queued").values(dispatched_at=now())
    session.execute(marked.execution_options(synchronize_session=False))


def purge_idempotency(session: Session) -> int:
    """Remove expired answers; return how many."""
    expired = delete(IdempotencyRecord).where(IdempotencyRecord.expires_at < now())
    return cast("CursorResult[Any]", session.execute(expired)).rowcount
