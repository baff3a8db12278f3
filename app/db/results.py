"""The end of a batch prediction: its file and its state in one transaction, once for every recipe."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db import endings, finish, registering
from app.db.base import now
from app.db.endings import AttemptEnd, Lease
from app.db.events import NewEvent, write_events
from app.db.finish import Finished
from app.db.session import Sessions
from app.db.tables import Job
from app.domain.predict_specs import PREDICT, PredictionFile


def finish_with_file(sessions: Sessions, lease: Lease, result: PredictionFile, *, end: AttemptEnd) -> Finished:
    """End a job with the file that it made, which is in the store.

    Calling it again after a lost connection answers what the first call did.
    """
    with sessions.begin() as session:
        job = finish.win(session, lease)
        if job is None:
            return finish.why_not(session, lease)
        _keep(session, job, result)
        endings.end_attempt(session, job, "succeeded", end)
        _tell(session, job, result, reason=None)
        return Finished("succeeded")


def take_over_file(session: Session, job: Job) -> bool:
    """End a queued job with the file that an equal one made before; False when there is none."""
    if job.kind != PREDICT:
        return False
    equal = (Job.kind == PREDICT, Job.recipe_digest == job.recipe_digest, Job.state == "succeeded")
    found = select(Job.result_file).where(*equal, Job.result_file.is_not(None)).order_by(Job.id.desc()).limit(1)
    made = session.scalars(found).one_or_none()
    if made is None:
        return False
    result = PredictionFile.model_validate(made)
    ended = update(Job).where(Job.id == job.id, Job.state == "queued", Job.token == job.token)
    ended = ended.values(state="succeeded", phase=None, finished_at=now())
    session.execute(ended.execution_options(synchronize_session=False))
    _keep(session, job, result)
    session.refresh(job)
    _tell(session, job, result, reason="reused")
    return True


def _keep(session: Session, job: Job, result: PredictionFile) -> None:
    registering.note_blobs(session, {"result": result.file})
    kept = update(Job).where(Job.id == job.id).values(result_file=result.model_dump(mode="json"))
    session.execute(kept.execution_options(synchronize_session=False))


def _tell(session: Session, job: Job, result: PredictionFile, *, reason: str | None) -> None:
    told = {"state": "succeeded", "sha256": result.file.sha256} | ({"reason": reason} if reason else {})
    write_events(session, job.id, [NewEvent("state", told), NewEvent("done", told)], token=job.token)
