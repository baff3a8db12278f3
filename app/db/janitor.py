"""What some process must do now and then. Every function may run in many processes at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

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
    raise NotImplementedError


def undispatched(session: Session, *, timing: Timing, limit: int = 100) -> list[str]:
    """Return due jobs that no hint was sent for lately. Publish the hints first, then call `mark_dispatched`."""
    raise NotImplementedError


def mark_dispatched(session: Session, job_ids: Sequence[str]) -> None:
    """Note that hints were sent."""
    raise NotImplementedError


def purge_idempotency(session: Session) -> int:
    """Remove expired answers; return how many."""
    raise NotImplementedError
