"""What happened to a job, in order. Ids of one job's events rise in the order in which they become visible."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy.orm import Session

from app.db.tables import JobEvent

# state: {"state", "phase"?, "reason"?, ...}; done: the same, and the last event of a job
EventType = Literal["state", "progress", "metric", "log", "checkpoint", "done"]


class NewEvent(NamedTuple):
    """An event to write."""

    type: EventType
    data: dict[str, Any]


def write_events(session: Session, job_id: str, events: Sequence[NewEvent], *, token: int = 0) -> None:
    """Append events of a job whose row this transaction has locked (any update of the row does)."""
    raise NotImplementedError


def list_events(session: Session, job_id: str, *, after: int = 0, limit: int = 500) -> list[JobEvent]:
    """Return the events with a greater id, the first first."""
    raise NotImplementedError
