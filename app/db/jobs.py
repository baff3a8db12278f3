"""Jobs as their users see them: submit, look, cancel. What workers write is in `attempts` and `finish`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, func, select, update
from sqlalchemy.orm import Session, aliased

from app.db import registering, registry, results
from app.db.base import now
from app.db.cascade import settle
from app.db.dependencies import select_with_version
from app.db.events import NewEvent, write_events
from app.db.pages import Page, PageRequest, cut_page
from app.db.registry import VersionRow
from app.db.tables import Dataset, Job, JobAttempt, JobDependency, JobEvent, Model, ModelVersion
from app.domain.errors import JobAlreadyFinishedError, JobNotFoundError
from app.domain.jobs import PROTOCOL, TERMINAL_STATES, State


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
    min_dependencies: int | None = None
    children: Sequence["Child"] = ()


@dataclass(frozen=True)
class Child:
    """A job that must succeed first; its versions take `positions`, in order, among the members of its parent."""

    job: NewJob
    positions: tuple[int, ...]
    role: str = "member"


@dataclass(frozen=True)
class JobRow:
    """A job with the names that its ids stand for, and while it runs the last `progress` of this attempt."""

    job: Job
    dataset: str
    result_name: str | None
    result_version: int | None
    result_state: str | None
    reused_name: str | None = None
    reused_version: int | None = None
    reused_state: str | None = None
    reused_job_id: str | None = None
    last_progress: JobEvent | None = None


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

    waiting_id: str
    job_id: str
    name: str
    role: str
    position: int
    state: State
    result_version_id: str | None


ALL_JOBS = JobFilter()


def submit(session: Session, new: NewJob) -> Job:
    """Insert a job, its children and their dependencies.

    A job with `reuse` whose recipe is registered already succeeds at once: a child takes that version, a named job
    registers it under its own name (unless the newest version there is the same).
    """
    job = _insert(session, new, parent_id=None)
    if new.reuse and results.take_over_file(session, job):
        return job
    twins = registry.find_by_recipes(session, [one.recipe_digest for one in _with_children(new) if one.reuse])
    if new.reuse and new.recipe_digest in twins:
        registering.take_over(session, job, twins[new.recipe_digest])
        return job
    for child in new.children:
        _insert_child(session, child, job, twins)
    session.flush()
    return job


def get_job(session: Session, job_id: str) -> JobRow:
    """Return a job; raise JobNotFoundError."""
    found = session.execute(_rows().where(Job.id == job_id)).one_or_none()
    if found is None:
        raise JobNotFoundError(f"There is no job {job_id[:80]!r}.", hint="`leanfuse jobs ls` lists the jobs.")
    return JobRow(*found)


def list_jobs(session: Session, page: PageRequest, chosen: JobFilter = ALL_JOBS) -> Page[JobRow]:
    """Return jobs, the newest first, in one query."""
    rows = _rows().order_by(Job.id.desc()).limit(page.size + 1)
    for column, value in (
        (Job.state, chosen.state),
        (Job.kind, chosen.kind),
        (Job.name, chosen.name),
        (Job.parent_id, chosen.parent_id),
    ):
        if value is not None:
            rows = rows.where(column == value)
    if chosen.parent_id is None and not chosen.children:
        rows = rows.where(Job.parent_id.is_(None))
    if page.after is not None:
        rows = rows.where(Job.id < page.after)
    return cut_page([JobRow(*row) for row in session.execute(rows)], page, lambda row: row.job.id)


def dependencies(session: Session, job_id: str) -> list[DependencyRow]:
    """Return what a job waits for, by role and position."""
    return dependencies_of(session, [job_id]).get(job_id, [])


def dependencies_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[DependencyRow]]:
    """Return what each of several jobs waits for, in one query."""
    columns = (JobDependency.job_id, Job.id, Job.name, JobDependency.role, JobDependency.position, Job.state)
    chosen = select_with_version(*columns)
    chosen = chosen.where(JobDependency.job_id.in_(job_ids))
    found: dict[str, list[DependencyRow]] = {}
    for row in session.execute(chosen.order_by(JobDependency.role, JobDependency.position)):
        found.setdefault(row[0], []).append(DependencyRow(*row))
    return found


def attempts(session: Session, job_id: str) -> list[JobAttempt]:
    """Return a job's attempts, the first first."""
    return list(session.scalars(select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.token)))


def cancel(session: Session, job_id: str) -> Job:
    """Cancel a queued job, ask a running one to stop; the same for its children, and whoever waits for it fails.

    Raise JobNotFoundError or JobAlreadyFinishedError. Asking twice is no error.
    """
    job = _lock_family(session, job_id)
    if job.state in TERMINAL_STATES:
        raise JobAlreadyFinishedError(f"The job {job_id} is {job.state} already.", hint="Nothing is left to cancel.")
    family = (Job.id == job_id) | (Job.parent_id == job_id)
    stopping = update(Job).where(family, Job.state == "running", Job.cancel_requested_at.is_(None))
    asked = _told(session, stopping.values(cancel_requested_at=now(), phase="cancelling"))
    ending = update(Job).where(family, Job.state == "queued")
    ended = _told(session, ending.values(state="cancelled", phase=None, cancel_requested_at=now(), finished_at=now()))
    for asked_id in asked:
        write_events(session, asked_id, [NewEvent("state", {"state": "running", "phase": "cancelling"})])
    for ended_id in ended:
        told = {"state": "cancelled", "reason": "requested"}
        write_events(session, ended_id, [NewEvent("state", told), NewEvent("done", told)])
    settle(session, ended)
    session.refresh(job)
    return job


def count_jobs(session: Session) -> dict[tuple[State, str], int]:
    """Count the jobs by state and kind."""
    counted = select(Job.state, Job.kind, func.count()).group_by(Job.state, Job.kind)
    return {(state, kind): count for state, kind, count in session.execute(counted)}


def _with_children(new: NewJob) -> list[NewJob]:
    return [new, *(child.job for child in new.children)]


def _insert(session: Session, new: NewJob, *, parent_id: str | None) -> Job:
    job = Job(
        kind=new.kind,
        name=new.name,
        spec=new.spec,
        recipe_digest=new.recipe_digest,
        reuse=new.reuse,
        dataset_id=new.dataset_id,
        parent_id=parent_id,
        queue=new.queue,
        priority=new.priority,
        max_runtime_seconds=new.max_runtime_seconds,
        min_protocol=new.min_protocol,
        total_steps=new.total_steps,
        min_dependencies=new.min_dependencies,
    )
    session.add(job)
    session.flush()
    write_events(session, job.id, [NewEvent("state", {"state": "queued"})])
    return job


def _insert_child(session: Session, child: Child, parent: Job, twins: dict[str, VersionRow]) -> None:
    job = _insert(session, child.job, parent_id=parent.id)
    several = len(child.positions) > 1
    for ordinal, position in enumerate(child.positions):
        link = JobDependency(job_id=parent.id, depends_on_id=job.id, role=child.role, position=position)
        link.ordinal = ordinal if several else None
        session.add(link)
    if child.job.reuse and child.job.recipe_digest in twins:
        registering.take_over(session, job, twins[child.job.recipe_digest])


def _rows() -> Select[*tuple[Any, ...]]:
    taken, source = aliased(ModelVersion), aliased(Model)
    rows = select(
        Job,
        Dataset.name,
        Model.name,
        ModelVersion.version,
        ModelVersion.state,
        source.name,
        taken.version,
        taken.state,
        taken.job_id,
        JobEvent,
    )
    rows = rows.join(Dataset, Dataset.id == Job.dataset_id)
    rows = rows.outerjoin(ModelVersion, ModelVersion.id == Job.result_version_id)
    rows = rows.outerjoin(Model, Model.id == ModelVersion.model_id)
    rows = rows.outerjoin(taken, taken.id == Job.reused_version_id)
    rows = rows.outerjoin(source, source.id == taken.model_id)
    told = select(JobEvent.id).where(JobEvent.job_id == Job.id, JobEvent.type == "progress")
    last = told.where(JobEvent.token == Job.token).order_by(JobEvent.id.desc()).limit(1).correlate(Job)
    return rows.outerjoin(JobEvent, and_(Job.state == "running", JobEvent.id == last.scalar_subquery()))


def _lock_family(session: Session, job_id: str) -> Job:
    # Children before their parent, as everywhere, so that no two transactions can wait for each other.
    session.execute(select(Job.id).where(Job.parent_id == job_id).order_by(Job.id).with_for_update()).all()
    job = session.scalars(
        select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    ).one_or_none()
    if job is None:
        raise JobNotFoundError(f"There is no job {job_id[:80]!r}.", hint="`leanfuse jobs ls` lists the jobs.")
    return job


def _told(session: Session, change: Any) -> list[str]:  # noqa: ANN401 - an UPDATE of jobs
    return list(session.scalars(change.returning(Job.id).execution_options(synchronize_session=False)))
