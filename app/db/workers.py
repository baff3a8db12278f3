"""Worker hosts: who lives, who is to drain."""

from dataclasses import asdict, dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.db.base import later, now
from app.db.tables import Worker


@dataclass(frozen=True)
class NewWorker:
    """A worker host that reports for duty; `id` is a UUID that it made, new for every start."""

    id: str
    host: str
    pid: int
    slots: int
    protocol: int


def register_worker(session: Session, new: NewWorker) -> None:
    """Insert a worker; one with that id begins anew."""
    session.execute(delete(Worker).where(Worker.id == new.id))
    session.add(Worker(**asdict(new)))
    session.flush()


def worker_alive(session: Session, worker_id: str) -> bool:
    """Note that a worker lives; return whether it is asked to drain."""
    seen = update(Worker).where(Worker.id == worker_id).values(last_seen_at=now())
    seen = seen.execution_options(synchronize_session=False)
    # The column itself: `IS NOT NULL` in a RETURNING is always true in SQLite 3.40.
    return session.scalars(seen.returning(Worker.drain_requested_at)).one_or_none() is not None


def request_drain(session: Session, worker_id: str) -> None:
    """Ask a worker to checkpoint its jobs and give them back; heartbeats carry it."""
    asked = update(Worker).where(Worker.id == worker_id)
    asked = asked.values(drain_requested_at=func.coalesce(Worker.drain_requested_at, now()))
    session.execute(asked.execution_options(synchronize_session=False))


def remove_worker(session: Session, worker_id: str) -> None:
    """Forget a worker that has left."""
    session.execute(delete(Worker).where(Worker.id == worker_id))


def list_workers(session: Session, *, seen_within_seconds: float = 60.0) -> list[Worker]:
    """Return the workers that were seen lately."""
    chosen = select(Worker).where(Worker.last_seen_at > later(-seen_within_seconds))
    return list(session.scalars(chosen.order_by(Worker.started_at, Worker.id)))
