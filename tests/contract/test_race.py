"""Many workers at once on both databases: every job ends once, no token is given twice."""

import multiprocessing
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue

from sqlalchemy import func, select

from app.db import jobs, registry
from app.db.attempts import claim
from app.db.jobs import submit
from app.db.session import Sessions, create_engine_for, make_sessions, reading
from app.db.tables import Job, ModelVersion
from app.domain.errors import JobAlreadyFinishedError
from tests.factories import TIMING, claim_job, ensemble_job, finish_job, get_row, new_job, submit_job

# One process imports everything once; the others are forked from it, never from a process that has threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.factories"])


def work(url: str, worker_id: str, done: "Queue[list[tuple[str, int, str]]]") -> None:
    """Claim and finish until nothing is left; tell which jobs with which tokens."""
    engine = create_engine_for(url)
    sessions = make_sessions(engine)
    claims = []
    while (claimed := claim(sessions, worker_id, timing=TIMING)) is not None:
        claims.append((claimed.lease.job_id, claimed.lease.token, finish_job(sessions, claimed.lease).outcome))
    engine.dispose()
    done.put(claims)


def test_processes_that_race_for_jobs_share_them(sessions: Sessions, dataset_id: str, database_url: str) -> None:
    with sessions.begin() as session:
        expected = {submit(session, new_job(dataset_id)).id for _ in range(40)}
    done: Queue[list[tuple[str, int, str]]] = PROCESSES.Queue()
    racers = [PROCESSES.Process(target=work, args=(database_url, f"worker-{n}", done)) for n in range(4)]
    for racer in racers:
        racer.start()
    claims = [claim for _ in racers for claim in done.get(timeout=120)]
    for racer in racers:
        racer.join()

    assert Counter(claims) == Counter((job_id, 1, "succeeded") for job_id in expected)
    with reading(sessions) as session:
        assert session.execute(select(func.count()).select_from(ModelVersion)).scalar_one() == 40
        numbers = session.scalars(select(ModelVersion.version).order_by(ModelVersion.version)).all()
    assert numbers == list(range(1, 41))


def test_of_twins_claimed_at_the_same_moment_one_runs(sessions: Sessions, dataset_id: str) -> None:
    for number in range(5):
        for _ in range(2):
            submit_job(sessions, dataset_id, recipe=f"same-{number}")
        with ThreadPoolExecutor(4) as pool:
            claims = list(pool.map(lambda worker: claim(sessions, f"{worker}", timing=TIMING), range(4)))

        running = [claimed.lease for claimed in claims if claimed is not None]
        assert len(running) == 1
        finish_job(sessions, running[0])
    with reading(sessions) as session:
        assert jobs.count_jobs(session) == {("succeeded", "train"): 10}


def test_a_cancel_and_a_finish_have_one_winner(sessions: Sessions, dataset_id: str) -> None:
    for _ in range(15):
        job_id = submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        start = threading.Barrier(2)

        def cancel(job_id: str = job_id, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                with sessions.begin() as session:
                    jobs.cancel(session, job_id)
            except JobAlreadyFinishedError:
                return False
            return True

        with ThreadPoolExecutor(1) as pool:
            cancelling = pool.submit(cancel)
            start.wait()
            outcome = finish_job(sessions, lease).outcome
        assert (outcome, cancelling.result()) in {("succeeded", False), ("cancelled", True)}
        registered = get_row(sessions, job_id).result_version_id is not None
        assert registered is (outcome == "succeeded")


def test_cancelling_families_while_they_are_worked_on_locks_nobody_out(sessions: Sessions, dataset_id: str) -> None:
    with sessions.begin() as session:
        parents = [submit(session, ensemble_job(dataset_id, members=3)).id for _ in range(6)]

    def finish_everything() -> None:
        while (claimed := claim(sessions, "worker", timing=TIMING)) is not None:
            finish_job(sessions, claimed.lease)

    def cancel_everything() -> None:
        for parent_id in parents:
            with sessions.begin() as session:
                if session.get_one(Job, parent_id).state != "succeeded":
                    jobs.cancel(session, parent_id)

    with ThreadPoolExecutor(3) as pool:
        for ending in [pool.submit(finish_everything), pool.submit(finish_everything), pool.submit(cancel_everything)]:
            ending.result()

    with reading(sessions) as session:
        succeeded = set(session.scalars(select(Job.id).where(Job.state == "succeeded")))
        assert set(session.scalars(select(ModelVersion.job_id))) == succeeded
        assert registry.revision(session) == len(succeeded)
