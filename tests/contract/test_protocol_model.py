"""Hypothesis drives the real SQL functions through what workers, users and time may do, in any order.

The invariants of the job protocol: I1 tokens only rise; I2 a job succeeds at most once; I3 success means exactly one
model version, with the token of the success; I4 a final state is final; I5 a cancelled job has no version; I6 every
acknowledged job is there.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Update, func, select, update

from app.db import attempts, endings, janitor, jobs
from app.db.endings import Lease
from app.db.session import create_engine_for, make_sessions
from app.db.tables import Job, JobAttempt, JobEvent, ModelVersion
from app.domain.errors import JobAlreadyFinishedError
from app.domain.jobs import TERMINAL_STATES, Timing
from tests.factories import END, FAILED, ensemble_job, finish_job, let_lease_run_out, make_dataset, new_job

NO_BACKOFF = Timing(backoff_seconds=0)
STALE = "a worker that had lost its job was heard"
WORKERS = st.sampled_from(["worker-1", "worker-2", "worker-3"])


class Protocol(RuleBasedStateMachine):
    """Hold what was acknowledged; everything else is in the database. A paused worker just does nothing for a while."""

    template: Path
    leases = Bundle("leases")
    job_ids = Bundle("job_ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="leanfuse-protocol-"))
        shutil.copyfile(self.template, self.folder / "leanfuse.db")
        self.engine = create_engine_for(f"sqlite:///{self.folder / 'leanfuse.db'}")
        self.sessions = make_sessions(self.engine)
        self.dataset_id = make_dataset(self.sessions)
        self.acknowledged: set[str] = set()
        self.tokens: dict[str, int] = {}
        self.final: dict[str, str] = {}
        self.successes: list[str] = []

    def teardown(self) -> None:
        self.engine.dispose()
        shutil.rmtree(self.folder)

    @rule(target=job_ids, recipe=st.sampled_from([None, "shared"]))
    def submit(self, recipe: str | None) -> str:
        with self.sessions.begin() as session:
            job_id = jobs.submit(session, new_job(self.dataset_id, recipe=recipe)).id
        self.acknowledged.add(job_id)
        return job_id

    @rule(target=job_ids)
    def submit_ensemble(self) -> str:
        with self.sessions.begin() as session:
            job_id = jobs.submit(session, ensemble_job(self.dataset_id)).id
        self.acknowledged.add(job_id)
        return job_id

    @rule(target=leases, worker=WORKERS)
    def claim_next(self, worker: str) -> Lease | MultipleResults[Lease]:
        return self.claim(worker)

    def claim(self, worker: str) -> Lease | MultipleResults[Lease]:
        claimed = attempts.claim(self.sessions, worker, timing=NO_BACKOFF)
        return claimed.lease if claimed else multiple()

    @rule(lease=leases, step=st.integers(0, 9))
    def heartbeat(self, lease: Lease, step: int) -> None:
        with self.sessions.begin() as session:
            answer = attempts.heartbeat(session, lease, timing=NO_BACKOFF, step=step)
        assert answer.fenced or self.tokens[lease.job_id] == lease.token, STALE

    @rule(lease=leases, step=st.integers(0, 9))
    def checkpoint(self, lease: Lease, step: int) -> None:
        with self.sessions.begin() as session:
            attempts.record_checkpoint(session, lease, step=step, manifest={}, sha256="0" * 64)

    @rule(lease=leases)
    def finish(self, lease: Lease) -> None:
        if finish_job(self.sessions, lease).outcome != "succeeded":
            return
        assert self.tokens[lease.job_id] == lease.token, STALE
        if lease.job_id not in self.final:
            self.successes.append(lease.job_id)

    @rule(lease=consumes(leases), ending=st.sampled_from(["drain", "retry", "fail", "cancelled"]))
    def end(self, lease: Lease, ending: str) -> None:
        with self.sessions.begin() as session:
            if ending == "drain":
                attempts.drain(session, lease, end=END, timing=NO_BACKOFF)
            elif ending == "retry":
                attempts.retry(session, lease, "stalled", end=END, timing=NO_BACKOFF)
            elif ending == "fail":
                attempts.fail(session, lease, end=FAILED)
            else:
                attempts.cancelled(session, lease, end=END)

    @rule(lease=leases)
    def pause(self, lease: Lease) -> None:
        let_lease_run_out(self.sessions, lease.job_id)

    @rule(target=leases, lease=leases, worker=WORKERS)
    def pause_until_another_has_the_job(self, lease: Lease, worker: str) -> Lease | MultipleResults[Lease]:
        self.pause(lease)
        self.reap()
        claimed = self.claim(worker)
        self.hold()
        self.heartbeat(lease, 1)
        self.finish(lease)
        return claimed

    @rule()
    def reap(self) -> None:
        with self.sessions.begin() as session:
            janitor.reap(session, timing=NO_BACKOFF)

    @rule(job_id=job_ids)
    def cancel(self, job_id: str) -> None:
        with contextlib.suppress(JobAlreadyFinishedError), self.sessions.begin() as session:
            jobs.cancel(session, job_id)

    @invariant()
    def hold(self) -> None:
        with self.sessions() as session:
            rows = {job.id: job for job in session.scalars(select(Job))}
            versions = session.execute(select(ModelVersion.job_id, ModelVersion.token)).all()
            claims = session.scalars(select(JobAttempt)).all()
            done = session.execute(
                select(JobEvent.job_id, func.count()).where(JobEvent.type == "done").group_by(JobEvent.job_id)
            ).all()
        assert self.acknowledged <= set(rows), "I6"
        assert len(self.successes) == len(set(self.successes)), "I2"
        registered = {job_id: token for job_id, token in versions}  # noqa: C416 - rows are no pairs to mypy
        assert len(registered) == len(versions), "I3: one version"
        for job in rows.values():
            assert job.token >= self.tokens.get(job.id, 0), "I1"
            assert self.final.get(job.id) in (None, job.state), "I4"
            if job.state != "succeeded":
                assert job.id not in registered, "I3 and I5: no version without success"
            elif job.result_version_id is not None and job.attempts and job.id in self.successes:
                assert registered[job.id] == job.token, "I3: the token of the success"
            self.tokens[job.id] = job.token
            if job.state in TERMINAL_STATES:
                self.final[job.id] = job.state
        assert all(rows[job.id].result_version_id for job in rows.values() if job.state == "succeeded"), "I3"
        assert len({(attempt.job_id, attempt.token) for attempt in claims}) == len(claims), "I1"
        assert {job_id: count for job_id, count in done} == dict.fromkeys(self.final, 1), "the last event"  # noqa: C416


def check(template: Path, examples: int) -> None:
    Protocol.template = template
    configured = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Protocol, settings=configured)


def without_token(lease: Lease) -> Update:
    unfenced = update(Job).where(Job.id == lease.job_id, Job.state == "running")
    return unfenced.execution_options(synchronize_session=False)


def test_the_protocol_keeps_its_promises(sqlite_template: Path) -> None:
    check(sqlite_template, examples=10)


def test_the_check_would_notice_a_missing_fence(sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "held", without_token)

    with pytest.raises(AssertionError, match=STALE):
        check(sqlite_template, examples=50)
