"""What the end of one job means for others."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.base import now
from app.db.dependencies import cannot_get_enough
from app.db.events import NewEvent, write_events
from app.db.tables import Job, JobDependency
from app.domain.errors import LeanfuseError
from app.domain.job_errors import DependencyFailedError


def job_error(error: LeanfuseError) -> dict[str, Any]:
    """Return an error as a job carries it: the fields of a problem."""
    return {"type": error.slug, "title": error.title, "detail": error.detail, "hint": error.hint}


def settle(session: Session, ended_ids: Sequence[str]) -> None:
    """Pass on that jobs failed or were cancelled.

    Who waits for them and cannot do without them fails, who was made only for them is cancelled.

    Running children are left alone: what they make is registered and will be reused.
    """
    while ended_ids:
        dependants = _fail_dependants(session, ended_ids)
        children = _cancel_children(session, [*ended_ids, *dependants])
        ended_ids = [*dependants, *children]


def _fail_dependants(session: Session, ended_ids: Sequence[str]) -> list[str]:
    waiting = select(JobDependency.job_id).where(JobDependency.depends_on_id.in_(ended_ids))
    error = job_error(DependencyFailedError("A job that this one needs failed or was cancelled."))
    failed = update(Job).where(Job.id.in_(waiting), Job.state == "queued", cannot_get_enough())
    failed = failed.values(state="failed", phase=None, error=error, finished_at=now())
    return _end_all(session, failed.returning(Job.id), {"state": "failed", "error": error})


def _cancel_children(session: Session, ended_ids: Sequence[str]) -> list[str]:
    # A child that another transaction holds is being claimed or ended; waiting for it could wait in a circle.
    queued = select(Job.id).where(Job.parent_id.in_(ended_ids), Job.state == "queued")
    ids = session.scalars(queued.order_by(Job.id).with_for_update(skip_locked=True)).all()
    cancelled = update(Job).where(Job.id.in_(ids), Job.state == "queued")
    cancelled = cancelled.values(state="cancelled", phase=None, finished_at=now(), cancel_requested_at=now())
    return _end_all(session, cancelled.returning(Job.id), {"state": "cancelled", "reason": "parent-ended"})


def _end_all(session: Session, ending: Any, told: dict[str, Any]) -> list[str]:  # noqa: ANN401 - an UPDATE of ids
    ids = list(session.scalars(ending.execution_options(synchronize_session=False)))
    for job_id in ids:
        write_events(session, job_id, [NewEvent("state", told), NewEvent("done", told)])
    return ids
