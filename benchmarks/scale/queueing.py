"""A long queue: how long a worker waits for its next job, alone and beside others."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.db import migrate
from app.db.attempts import claim
from app.db.session import Sessions, create_engine_for, make_sessions
from app.domain.jobs import Timing
from benchmarks.scale.filling import add_jobs
from benchmarks.scale.timing import seconds_of, spread_ms

WORKERS = 8


def measure_queue(database_url: str, *, jobs: int, claims: int) -> dict[str, Any]:
    """Queue jobs and claim some: first one worker, then eight at once."""
    migrate.upgrade(database_url)
    engine = create_engine_for(database_url)
    sessions = make_sessions(engine)
    add_jobs(sessions, jobs)
    _claims(sessions, 3)  # opens the connection
    alone = _claims(sessions, claims)
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = [pool.submit(_claims, sessions, claims // WORKERS) for _ in range(WORKERS)]
        beside = [seconds for part in parts for seconds in part.result()]
    engine.dispose()
    return {"queued": jobs, "one worker": spread_ms(alone), f"{WORKERS} workers at once": spread_ms(beside)}


def _claims(sessions: Sessions, count: int) -> list[float]:
    def take(_: int) -> None:
        if claim(sessions, "benchmark", timing=Timing()) is None:
            raise RuntimeError("The queue is empty.")

    return seconds_of(take, range(count))
