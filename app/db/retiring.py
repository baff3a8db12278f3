"""What users change about models themselves: the description, and whether a version still serves."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db import registry
from app.db.base import now
from app.db.tables import AliasRollout, Job, JobDependency, Model, ModelVersion
from app.domain.errors import ModelDeletedError, StillReferencedError
from app.domain.jobs import TERMINAL_STATES
from app.domain.names import Reference
from app.domain.predict_specs import PREDICT


def describe_model(session: Session, name: str, description: str) -> None:
    """Replace a model's description; raise ModelNotFoundError."""
    registry.begin_write(session)
    model = registry.get_model(session, name)
    session.execute(update(Model).where(Model.id == model.id).values(description=description, updated_at=now()))


def delete_version(session: Session, name: str, version: int) -> None:
    """Take a version out of service; its number is never used again, its files stay for what was made from it.

    Raise ModelNotFoundError, or StillReferencedError while an alias, an ensemble or a job needs it.
    """
    registry.begin_write(session)
    row = registry.resolve(session, Reference(name, version))
    users = [f"alias {alias!r}" for alias in row.aliases]
    users += [
        f"ensemble {link.name}/{link.version}"
        for link in registry.lineage(session, row.id).used_by
        if link.role == "member"
    ]
    users += [f"the rollout of alias {alias!r}" for alias in _rollouts(session, row.id)]
    users += [f"job {job_id}" for job_id in _waiting_jobs(session, row.id)]
    users += [f"job {job_id}" for job_id in _predicting_jobs(session, f"{row.name}/{row.version}")]
    if users:
        raise StillReferencedError(
            f"{name}/{version} is still in use: {', '.join(users[:10])}.", hint="Remove what refers to it first."
        )
    session.execute(update(ModelVersion).where(ModelVersion.id == row.id).values(state="deleted"))


def check_deleted(session: Session, name: str, version: int) -> None:
    """Raise ModelDeletedError when there was such a version."""
    chosen = select(ModelVersion.state).join(Model, Model.id == ModelVersion.model_id)
    state = session.scalar(chosen.where(Model.name == name, ModelVersion.version == version))
    if state in ("deleting", "deleted"):
        raise ModelDeletedError(f"{name}/{version} was deleted.", hint=f"GET /v1/models/{name}/versions lists others.")


def _rollouts(session: Session, version_id: str) -> list[str]:
    """Return the aliases that this version is rolled out at."""
    chosen = select(AliasRollout.alias).where(AliasRollout.version_id == version_id, AliasRollout.ended_at.is_(None))
    return list(session.scalars(chosen))


def _waiting_jobs(session: Session, version_id: str) -> list[str]:
    """Return the jobs that are to use this version, as the result of a job that they waited for."""
    made = select(Job.id).where(Job.result_version_id == version_id)
    waiting = select(Job.id).join(JobDependency, JobDependency.job_id == Job.id)
    chosen = waiting.where(JobDependency.depends_on_id.in_(made), Job.state.not_in(TERMINAL_STATES))
    return list(session.scalars(chosen))


def _predicting_jobs(session: Session, pinned: str) -> list[str]:
    """Return the batch predictions that are to ask this version."""
    chosen = select(Job.id).where(Job.kind == PREDICT, Job.state.not_in(TERMINAL_STATES))
    return list(session.scalars(chosen.where(Job.spec["model"].as_string() == pinned)))
