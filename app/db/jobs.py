"""Jobs as their users see them: submit, look, cancel. What workers write is in `attempts` and `finish`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.db.pages import Page, PageRequest
from app.db.tables import Job, JobAttempt
from app.domain.jobs import PROTOCOL, State


@dataclass(frozen=True)
class NewJob:
    """Describe a job to insert. References in `spec` are pinned (`name/3`), so that an alias may move meanwhile.

    `alias` and `tags` for the result are read from `spec`.
    """

    kind: str
    name: str
    spec: dict[str, Any]
    recipe_digest: str
    dataset_id: str
    reuse: bool = True
    queue: str = "default"
    priority: int = 0
    max_runtime_seconds: int = 7 * 86_400
    min_protocol: int = PROTOCOL
    total_steps: int | None = None
    children: Sequence["Child"] = field(default=())


@dataclass(frozen=True)
class Child:
    """A job that must succeed first; its result takes `position` among the members of its parent."""

    job: NewJob
    position: int
    role: str = "member"


@dataclass(frozen=True)
class JobRow:
    """A job with the names that its ids stand for."""

    job: Job
    dataset: str
    result_name: str | None
    result_version: int | None


@dataclass(frozen=True)
class JobFilter:
    """Choose jobs; None chooses all. Children are listed only when `parent_id` names theirs or `children` is set."""

    state: State | None = None
    kind: str | None = None
    name: str | None = None
    parent_id: str | None = None
    children: bool = False


@dataclass(frozen=True)
class DependencyRow:
    """A job that another waits for."""

    job_id: str
    name: str
    role: str
    position: int
    state: State
    result_version_id: str | None


def submit(session: Session, new: NewJob) -> Job:
    """Insert a job, its children and their dependencies.

    A job with `reuse` whose recipe is registered already succeeds at once: a child takes that version, a named job
    registers it under its own name (unless the newest version there is the same).
    """
    raise NotImplementedError


def get_job(session: Session, job_id: str) -> JobRow:
    """Return a job; raise JobNotFoundError."""
    raise NotImplementedError


def list_jobs(session: Session, page: PageRequest, chosen: JobFilter = JobFilter()) -> Page[JobRow]:
    """Return jobs, the newest first, in one query."""
    raise NotImplementedError


def dependencies(session: Session, job_id: str) -> list[DependencyRow]:
    """Return what a job waits for, by role and position."""
    raise NotImplementedError


def attempts(session: Session, job_id: str) -> list[JobAttempt]:
    """Return a job's attempts, the first first."""
    raise NotImplementedError


def cancel(session: Session, job_id: str) -> Job:
    """Cancel a queued job, ask a running one to stop; the same for its children, and whoever waits for it fails.

    Raise JobNotFoundError or JobAlreadyFinishedError. Asking twice is no error.
    """
    raise NotImplementedError


def count_jobs(session: Session) -> dict[tuple[State, str], int]:
    """Count the jobs by state and kind."""
    raise NotImplementedError
