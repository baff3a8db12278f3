"""Worker hosts: who lives, who is to drain."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db.tables import Worker


@dataclass(frozen=True)
class NewWorker:
    """A worker host that reports for duty."""

    id: str
    host: str
    pid: int
    slots: int
    protocol: int


def register_worker(session: Session, new: NewWorker) -> None:
    """Insert a worker, or revive the row with that id."""
    raise NotImplementedError


def worker_alive(session: Session, worker_id: str) -> bool:
    """Note that a worker lives; return whether it is asked to drain."""
    raise NotImplementedError


def request_drain(session: Session, worker_id: str) -> None:
    """Ask a worker to checkpoint its jobs and give them back; heartbeats carry it."""
    raise NotImplementedError


def remove_worker(session: Session, worker_id: str) -> None:
    """Forget a worker that has left."""
    raise NotImplementedError


def list_workers(session: Session, *, seen_within_seconds: float = 60.0) -> list[Worker]:
    """Return the workers that were seen lately."""
    raise NotImplementedError
