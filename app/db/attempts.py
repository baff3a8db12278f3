"""What workers write. Every statement carries the token, so a worker that lost its job changes nothing.

A worker that is fenced must kill its trainer, remove its staging files and leave the job alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from app.db.events import NewEvent
from app.db.session import Sessions
from app.domain.jobs import PROTOCOL, Outcome, Phase, State, Timing


class Lease(NamedTuple):
    """The right to work on a job: as long as the row still carries this token."""

    job_id: str
    token: int
    worker_id: str


class Dependency(NamedTuple):
    """The result of a job that had to succeed first."""

    role: str
    position: int
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
    checkpoints: tuple[SavedState, ...]


@dataclass(frozen=True)
class Heartbeat:
    """What the database answers to a sign of life. `late`: the deadline has passed."""

    fenced: bool = False
    cancel: bool = False
    late: bool = False
    drain: bool = False


@dataclass(frozen=True)
class AttemptEnd:
    """What is known of how a trainer process ended."""

    exit_code: int | None = None
    signal: int | None = None
    max_rss_mb: int | None = None
    error: dict[str, Any] | None = field(default=None)


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
    raise NotImplementedError


def heartbeat(
    session: Session,
    lease: Lease,
    *,
    timing: Timing,
    step: int = 0,
    total_steps: int | None = None,
    phase: Phase | None = None,
    events: Sequence[NewEvent] = (),
) -> Heartbeat:
    """Renew the lease, note the progress, write the events that gathered since, and learn what is wanted."""
    raise NotImplementedError


def record_checkpoint(session: Session, lease: Lease, *, step: int, manifest: dict[str, Any], sha256: str) -> bool:
    """Make a verified checkpoint the one to resume from; losses count anew. False: fenced."""
    raise NotImplementedError


def drain(session: Session, lease: Lease, *, end: AttemptEnd) -> State | None:
    """Give the job back because its worker leaves; nothing is charged but an interruption. None: fenced."""
    raise NotImplementedError


def retry(session: Session, lease: Lease, outcome: Outcome, *, end: AttemptEnd, timing: Timing) -> State | None:
    """Give the job back, or fail it, as the retry policy says (`decide_retry`). None: fenced."""
    raise NotImplementedError


def fail(session: Session, lease: Lease, *, end: AttemptEnd, outcome: Outcome = "failed") -> State | None:
    """Fail the job for good with `end.error` {"type": slug, "title", "detail", "hint"}. None: fenced."""
    raise NotImplementedError


def cancelled(session: Session, lease: Lease, *, end: AttemptEnd) -> State | None:
    """Confirm that the trainer has stopped as the user asked. None: fenced."""
    raise NotImplementedError
