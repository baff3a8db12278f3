"""What happened to a job, in order. Ids of one job's events rise in the order in which they become visible."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.db.base import now
from app.db.tables import JobEvent

# state: {"state", "reason"?, "error"?, ...}; done: the same, and the last event of a job
EventType = Literal["state", "progress", "metric", "log", "checkpoint", "done"]


class NewEvent(NamedTuple):
    """An event to write."""

    type: EventType
    data: dict[str, Any]


def write_events(session: Session, job_id: str, events: Sequence[NewEvent], *, token: int = 0) -> None:
    """Append events of a job whose row this transaction has inserted or updated.

    That lock is what keeps ids in order: a reader who has seen an event never misses an earlier one.
    """
    if events:
        rows = [{"job_id": job_id, "token": token, "type": kind, "data": data, "at": now()} for kind, data in events]
        session.execute(insert(JobEvent).values(rows))


def list_events(session: Session, job_id: str, *, after: int = 0, limit: int = 500) -> list[JobEvent]:
    """Return the events with a greater id, the first first."""
    chosen = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after)
    return list(session.scalars(chosen.order_by(JobEvent.id).limit(limit)))
