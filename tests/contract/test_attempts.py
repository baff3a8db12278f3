"""What workers write: accepted while they hold the job, without effect afterwards; on both databases."""

from collections.abc import Callable

import pytest

from app.db import attempts, events, janitor, jobs, workers
from app.db.attempts import Heartbeat, claim
from app.db.endings import AttemptEnd, Lease
from app.db.events import NewEvent
from app.db.session import Sessions, reading
from app.db.tables import Job, JobAttempt, JobEvent
from app.domain.jobs import PROTOCOL, Timing
from tests.factories import (
    END,
    FAILED,
    TIMING,
    claim_job,
    finish_job,
    get_row,
    let_lease_run_out,
    make_due,
    submit_job,
)

NO_BACKOFF = Timing(backoff_seconds=0)
WRITES: dict[str, Callable[[Sessions, Lease], object]] = {
    "heartbeat": lambda sessions, lease: in_session(
        sessions,
        lambda session: attempts.heartbeat(session, lease, timing=TIMING, step=7, events=[NewEvent("log", {})]),
    ),
    "checkpoint": lambda sessions, lease: in_session(
        sessions, lambda session: attempts.record_checkpoint(session, lease, step=7, manifest={}, sha256="0" * 64)
    ),
    "drain": lambda sessions, lease: in_session(
        sessions, lambda session: attempts.drain(session, lease, end=END, timing=TIMING)
    ),
    "retry": lambda sessions, lease: in_session(
        sessions, lambda session: attempts.retry(session, lease, "oom", end=END, timing=TIMING)
    ),
    "fail": lambda sessions, lease: in_session(sessions, lambda session: attempts.fail(session, lease, end=FAILED)),
    "cancelled": lambda sessions, lease: in_session(
        sessions, lambda session: attempts.cancelled(session, lease, end=END)
    ),
    "finish": lambda sessions, lease: finish_job(sessions, lease).outcome,
}
REFUSALS = (None, False, "fenced", Heartbeat(fenced=True))


def in_session(sessions: Sessions, action: Callable[..., object]) -> object:
    with sessions.begin() as session:
        return action(session)


def everything(sessions: Sessions) -> list[dict[str, object]]:
    with reading(sessions) as session:
        rows = [row for table in (Job, JobAttempt, JobEvent) for row in session.query(table)]
        return [{key: value for key, value in vars(row).items() if key != "_sa_instance_state"} for row in rows]


def reap(sessions: Sessions, timing: Timing = NO_BACKOFF) -> list[janitor.Reaped]:
    with sessions.begin() as session:
        return janitor.reap(session, timing=timing)


def attempt_outcomes(sessions: Sessions, job_id: str) -> list[str | None]:
    with reading(sessions) as session:
        return [attempt.outcome for attempt in jobs.attempts(session, job_id)]


class TestClaim:
    def test_it_gives_everything_a_supervisor_needs(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id, spec={"kind": "train", "seed": 7})
        claimed = claim_job(sessions, "worker-7")

        assert claimed.lease == Lease(job_id, 1, "worker-7")
        assert (claimed.spec["seed"], claimed.attempts, claimed.step, claimed.checkpoints) == (7, 1, 0, ())
        row = get_row(sessions, job_id)
        assert (row.state, row.phase, row.attempts, row.worker_id) == ("running", "preparing", 1, "worker-7")
        assert (claimed.deadline_at - row.created_at).days in (6, 7)

    def test_priority_comes_first_then_age(self, sessions: Sessions, dataset_id: str) -> None:
        old, urgent, new = (submit_job(sessions, dataset_id, priority=priority) for priority in (0, 5, 0))

        assert [claim_job(sessions).lease.job_id for _ in range(3)] == [urgent, old, new]

    def test_only_own_queues_and_known_protocols_are_served(self, sessions: Sessions, dataset_id: str) -> None:
        submit_job(sessions, dataset_id, queue="other")
        submit_job(sessions, dataset_id, min_protocol=PROTOCOL + 1)

        assert claim(sessions, "worker-1", timing=TIMING) is None
        assert claim(sessions, "worker-1", timing=TIMING, queues=["other"]) is not None
        assert claim(sessions, "worker-1", timing=TIMING, protocol=PROTOCOL + 1) is not None

    def test_a_job_in_backoff_waits(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        WRITES["retry"](sessions, claim_job(sessions).lease)
        assert claim(sessions, "worker-1", timing=TIMING) is None

        make_due(sessions, job_id)

        assert claim_job(sessions).lease.token == 3


class TestFence:
    @pytest.mark.parametrize("name", WRITES)
    def test_a_worker_that_lost_its_job_changes_nothing(self, sessions: Sessions, dataset_id: str, name: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        stale = claim_job(sessions, "worker-1").lease
        let_lease_run_out(sessions, job_id)
        reap(sessions)
        claim_job(sessions, "worker-2")
        before = everything(sessions)

        assert WRITES[name](sessions, stale) in REFUSALS
        assert everything(sessions) == before

    @pytest.mark.parametrize("name", WRITES)
    def test_a_final_state_never_changes(self, sessions: Sessions, dataset_id: str, name: str) -> None:
        submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        WRITES["fail"](sessions, lease)
        before = everything(sessions)

        assert WRITES[name](sessions, lease) in REFUSALS
        assert everything(sessions) == before

    @pytest.mark.parametrize("name", WRITES)
    def test_the_holder_is_not_refused(self, sessions: Sessions, dataset_id: str, name: str) -> None:
        submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        before = everything(sessions)

        assert WRITES[name](sessions, lease) not in REFUSALS
        assert everything(sessions) != before


class TestHeartbeat:
    def test_it_renews_the_lease_and_writes_what_happened(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        let_lease_run_out(sessions, job_id)
        with sessions.begin() as session:
            news = [NewEvent("progress", {"step": 3}), NewEvent("metric", {"loss": 0.5})]
            answer = attempts.heartbeat(
                session, lease, timing=TIMING, step=3, total_steps=9, phase="training", events=news
            )

        assert answer == Heartbeat()
        assert reap(sessions) == []
        row = get_row(sessions, job_id)
        assert (row.step, row.total_steps, row.phase, row.progress_at is not None) == (3, 9, "training", True)
        with reading(sessions) as session:
            written = events.list_events(session, job_id)
            assert [event.type for event in written] == ["state", "state", "progress", "metric"]
            assert [event.data for event in events.list_events(session, job_id, after=written[2].id)] == [{"loss": 0.5}]

    def test_it_brings_the_wish_to_cancel(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        with sessions.begin() as session:
            jobs.cancel(session, job_id)
            assert attempts.heartbeat(session, lease, timing=TIMING, phase="training") == Heartbeat(cancel=True)
        assert get_row(sessions, job_id).phase == "cancelling"

    def test_it_brings_the_wish_to_drain(self, sessions: Sessions, dataset_id: str) -> None:
        with sessions.begin() as session:
            workers.register_worker(session, workers.NewWorker("worker-1", "host", 1, 1, 1))
            workers.request_drain(session, "worker-1")
        submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease

        with sessions.begin() as session:
            assert attempts.heartbeat(session, lease, timing=TIMING) == Heartbeat(drain=True)

    def test_it_tells_that_the_deadline_has_passed(self, sessions: Sessions, dataset_id: str) -> None:
        submit_job(sessions, dataset_id, max_runtime_seconds=-1)
        lease = claim_job(sessions).lease

        with sessions.begin() as session:
            assert attempts.heartbeat(session, lease, timing=TIMING) == Heartbeat(late=True)


class TestCheckpoint:
    def test_the_next_attempt_resumes_from_the_newest(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        with sessions.begin() as session:
            for step in (10, 20, 30, 40, 40):
                manifest = {"path": f"{step}"}
                assert attempts.record_checkpoint(session, lease, step=step, manifest=manifest, sha256="0" * 64)
        let_lease_run_out(sessions, job_id)
        reap(sessions)

        resumed = claim_job(sessions)

        assert [(saved.step, saved.manifest) for saved in resumed.checkpoints] == [
            (step, {"path": f"{step}"}) for step in (40, 30, 20)
        ]
        assert (resumed.step, get_row(sessions, job_id).step) == (40, 40)


class TestEndings:
    def test_a_drain_costs_nothing(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        for _ in range(5):
            assert WRITES["drain"](sessions, claim_job(sessions).lease) == "queued"

        row = get_row(sessions, job_id)
        assert (row.interruptions, row.failures, row.losses_without_progress, row.token) == (5, 0, 0, 10)
        assert attempt_outcomes(sessions, job_id) == ["drained"] * 5

    def test_a_failure_keeps_its_error_and_what_is_known_of_the_process(
        self, sessions: Sessions, dataset_id: str
    ) -> None:
        job_id = submit_job(sessions, dataset_id)
        end = AttemptEnd(exit_code=-9, signal=9, max_rss_mb=512, error=FAILED.error)
        with sessions.begin() as session:
            assert attempts.fail(session, claim_job(sessions).lease, end=end) == "failed"

        with reading(sessions) as session:
            (attempt,) = jobs.attempts(session, job_id)
        assert (attempt.outcome, attempt.signal, attempt.max_rss_mb) == ("failed", 9, 512)
        assert get_row(sessions, job_id).error == FAILED.error

    def test_running_out_of_memory_twice_is_the_end(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        assert WRITES["retry"](sessions, claim_job(sessions).lease) == "queued"
        make_due(sessions, job_id)

        assert WRITES["retry"](sessions, claim_job(sessions).lease) == "failed"
        error = get_row(sessions, job_id).error
        assert error is not None
        assert error["type"] == "job-out-of-memory"

    def test_a_job_to_be_cancelled_is_not_tried_again(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        in_session(sessions, lambda session: jobs.cancel(session, job_id))

        assert WRITES["retry"](sessions, lease) == "cancelled"


class TestReap:
    def test_a_good_lease_is_left_alone(self, sessions: Sessions, dataset_id: str) -> None:
        submit_job(sessions, dataset_id)
        claim_job(sessions)

        assert reap(sessions) == []

    def test_a_silent_worker_loses_its_job_to_another(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        claim_job(sessions, "worker-1")
        let_lease_run_out(sessions, job_id)

        assert reap(sessions) == [janitor.Reaped(job_id, "worker-1", "queued")]
        assert claim_job(sessions, "worker-2").lease == Lease(job_id, 3, "worker-2")
        assert attempt_outcomes(sessions, job_id) == ["lost", None]

    def test_a_job_that_kills_every_worker_fails_at_the_third(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        for expected in ("queued", "queued", "failed"):
            claim_job(sessions)
            let_lease_run_out(sessions, job_id)
            assert [found.state for found in reap(sessions)] == [expected]

        error = get_row(sessions, job_id).error
        assert error is not None
        assert error["type"] == "poison-job"

    def test_progress_saves_a_job_that_is_often_lost(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        for step in range(1, 8):
            lease = claim_job(sessions).lease
            with sessions.begin() as session:
                attempts.record_checkpoint(session, lease, step=step, manifest={}, sha256="0" * 64)
            let_lease_run_out(sessions, job_id)
            reap(sessions)

        assert get_row(sessions, job_id).state == "queued"

    def test_a_lost_job_that_was_to_be_cancelled_is(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        claim_job(sessions)
        in_session(sessions, lambda session: jobs.cancel(session, job_id))
        let_lease_run_out(sessions, job_id)

        assert [found.state for found in reap(sessions)] == ["cancelled"]

    def test_the_next_try_waits_longer_each_time(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        delays = []
        for _ in range(2):
            claim_job(sessions)
            let_lease_run_out(sessions, job_id)
            reap(sessions, Timing(backoff_seconds=100))
            with reading(sessions) as session:
                delays.append(events.list_events(session, job_id)[-1].data["retry_in_seconds"])
            make_due(sessions, job_id)

        assert 50 <= delays[0] <= 100 <= delays[1] <= 200


class TestDispatch:
    def test_due_jobs_are_hinted_once_until_the_hint_is_old(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        with sessions.begin() as session:
            assert janitor.undispatched(session, timing=TIMING) == [job_id]
            janitor.mark_dispatched(session, [job_id])
            assert janitor.undispatched(session, timing=TIMING) == []
            assert janitor.undispatched(session, timing=Timing(redispatch_seconds=1e-9)) == [job_id]

    def test_neither_running_nor_waiting_jobs_are_hinted(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        WRITES["retry"](sessions, claim_job(sessions).lease)
        assert in_session(sessions, lambda session: janitor.undispatched(session, timing=TIMING)) == []
        make_due(sessions, job_id)
        claim_job(sessions)

        assert in_session(sessions, lambda session: janitor.undispatched(session, timing=TIMING)) == []
