"""How an attempt ends, whoever ends it: the worker that holds the job, or the reaper when the worker fell silent."""

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Update, select, update
from sqlalchemy.orm import Session

from app.db.base import later, now
from app.db.cascade import job_error, settle
from app.db.events import NewEvent, write_events
from app.db.tables import Job, JobAttempt
from app.domain import job_errors
from app.domain.errors import JobError
from app.domain.jobs import TERMINAL_STATES, Outcome, Retry, State, Timing, decide_retry


class Lease(NamedTuple):
    """The right to work on a job: as long as the row still carries this token."""

    job_id: str
    token: int
    worker_id: str


@dataclass(frozen=True)
class AttemptEnd:
    """What is known of how a trainer process ended."""

    exit_code: int | None = None
    signal: int | None = None
    max_rss_mb: int | None = None
    error: dict[str, Any] | None = None


UNKNOWN_END = AttemptEnd()


def held(lease: Lease) -> Update:
    """Begin an UPDATE that changes the job only while the lease is good: the fence of every write of a worker."""
    fence = (Job.id == lease.job_id, Job.token == lease.token, Job.state == "running")
    return update(Job).where(*fence).execution_options(synchronize_session=False)


def lock_held(session: Session, lease: Lease) -> Job | None:
    """Lock and return the job while the lease is good; None: fenced."""
    fence = (Job.id == lease.job_id, Job.token == lease.token, Job.state == "running")
    chosen = select(Job).where(*fence).with_for_update()
    return session.scalars(chosen.execution_options(populate_existing=True)).one_or_none()


def give_back(session: Session, job: Job, outcome: Outcome, *, end: AttemptEnd, timing: Timing) -> State:
    """End an attempt of a locked job as the retry policy says, and return the job's new state."""
    decision = decide_retry(
        outcome,
        losses_without_progress=job.losses_without_progress,
        failures=job.failures,
        attempts=job.attempts,
        base_seconds=timing.backoff_seconds,
    )
    charge: dict[str, Any] = {} if decision.charge == "none" else {decision.charge: getattr(job, decision.charge) + 1}
    if job.cancel_requested_at is not None:
        return end_job(session, job, "cancelled", outcome, end=end, values=charge)
    if decision.state in TERMINAL_STATES:
        failed = AttemptEnd(end.exit_code, end.signal, end.max_rss_mb, _error_of(decision, end))
        return end_job(session, job, "failed", outcome, end=failed, values=charge)
    _requeue(session, job, outcome, decision, charge)
    end_attempt(session, job, outcome, end)
    return "queued"


def end_job(
    session: Session,
    job: Job,
    state: State,
    outcome: Outcome,
    *,
    end: AttemptEnd,
    values: dict[str, Any] | None = None,
) -> State:
    """Put a locked, running job into a final state without a result, and tell whoever depends on it."""
    ended: dict[str, Any] = {
        "state": state,
        "phase": None,
        "worker_id": None,
        "lease_expires_at": None,
        "finished_at": now(),
    }
    if state == "failed":
        ended["error"] = end.error
    session.execute(held(lease_of(job)).values(ended | (values or {})))
    end_attempt(session, job, outcome, end)
    told = {"state": state, "outcome": outcome} | ({"error": end.error} if state == "failed" else {})
    write_events(session, job.id, [NewEvent("state", told), NewEvent("done", told)], token=job.token)
    settle(session, [job.id])
    return state


def end_attempt(session: Session, job: Job, outcome: Outcome, end: AttemptEnd) -> None:
    """Note how the attempt that carries the job's token ended."""
    attempt = update(JobAttempt).where(JobAttempt.job_id == job.id, JobAttempt.token == job.token)
    values = {"exit_code": end.exit_code, "signal": end.signal, "max_rss_mb": end.max_rss_mb, "error": end.error}
    attempt = attempt.values(ended_at=now(), outcome=outcome, step_to=job.step, **values)
    session.execute(attempt.execution_options(synchronize_session=False))


def lease_of(job: Job) -> Lease:
    """Return the lease that a running job carries."""
    return Lease(job.id, job.token, job.worker_id or "")


def _requeue(session: Session, job: Job, outcome: Outcome, decision: Retry, charge: dict[str, Any]) -> None:
    # Jitter, so that jobs that failed together are not tried together.
    delay = decision.backoff_seconds * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
    values: dict[str, Any] = {
        "state": "queued",
        "phase": "waiting_retry" if delay else None,
        "token": Job.token + 1,
        "worker_id": None,
        "lease_expires_at": None,
        "dispatched_at": None,
        "not_before": later(delay),
    }
    session.execute(held(lease_of(job)).values(values | charge))
    told = {"state": "queued", "reason": outcome, "retry_in_seconds": round(delay, 3)}
    write_events(session, job.id, [NewEvent("state", told)], token=job.token)


def _error_of(decision: Retry, end: AttemptEnd) -> dict[str, Any]:
    if decision.error_slug == "poison-job":
        return job_error(job_errors.PoisonJobError("The job's process died again and again without a new checkpoint."))
    if decision.error_slug == "job-out-of-memory":
        return job_error(job_errors.OutOfMemoryError("The job needed more memory than its worker has, twice."))
    return end.error or job_error(JobError("The job's process failed several times."))
