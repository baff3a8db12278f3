"""What a job waits for, and which version each of the jobs before it made for it."""

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select
from sqlalchemy.orm import aliased

from app.db.tables import Job, JobDependency, ModelVersion
from app.domain.jobs import TERMINAL_STATES


def still_waits() -> ColumnElement[bool]:
    """Tell of a Job row whether a job that it needs has not ended as it must.

    All must succeed, or just end where the job makes do with some of them: that enough succeeded is for `cascade`.
    """
    needed = aliased(Job)
    unfit = or_(needed.state.not_in(TERMINAL_STATES), and_(Job.min_dependencies.is_(None), needed.state != "succeeded"))
    return exists().where(JobDependency.job_id == Job.id, needed.id == JobDependency.depends_on_id, unfit)


def cannot_get_enough() -> ColumnElement[bool]:
    """Tell of a Job row, one of whose needed jobs failed, whether it has to fail too."""
    needed = aliased(Job)
    left = (
        select(func.count())
        .select_from(JobDependency)
        .join(needed, needed.id == JobDependency.depends_on_id)
        .where(JobDependency.job_id == Job.id, needed.state.not_in(("failed", "cancelled")))
        .scalar_subquery()
    )
    return or_(Job.min_dependencies.is_(None), left < Job.min_dependencies)


def select_with_version(*columns: Any) -> Select[Any]:  # noqa: ANN401 - columns of jobs and dependencies
    """Select columns of JobDependency and of the Job that is needed; last the id of the version that it made, or None.

    A job that trains several members makes a version for each, told apart by `ordinal`.
    """
    result, own = aliased(ModelVersion), aliased(ModelVersion)
    version_id = case((JobDependency.ordinal.is_(None), Job.result_version_id), else_=own.id)
    chosen = select(*columns, version_id).select_from(JobDependency).join(Job, Job.id == JobDependency.depends_on_id)
    chosen = chosen.outerjoin(result, result.id == Job.result_version_id)
    return chosen.outerjoin(own, and_(own.job_id == result.job_id, own.ordinal == JobDependency.ordinal))
