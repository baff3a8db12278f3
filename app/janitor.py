"""The thread that every API process and worker host runs: resend hints, take back lost jobs, tidy up.

Every statement may run in many processes at once, so nobody has to be elected.
"""

import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine

from app.db.janitor import mark_dispatched, purge_idempotency, reap, undispatched
from app.db.session import Sessions, make_sessions
from app.db.sqlite import checkpoint_wal
from app.domain.errors import DatabaseUnavailableError
from app.domain.jobs import Timing
from app.logging import get_logger
from app.queue import Hinter

log = get_logger(__name__)
_TIDY_SECONDS = 10.0


class Janitor:
    """Do the rounds in a thread of its own until it is stopped.

    `report` is what a worker host says of itself, as often as a job's heartbeat.
    """

    def __init__(
        self,
        engine: Engine,
        hinter: Hinter,
        timing: Timing,
        *,
        scaled: bool,
        report: Callable[[Sessions], None] | None = None,
    ) -> None:
        self._engine = engine
        self._sessions: Sessions = make_sessions(engine)
        self._hinter = hinter
        self._timing = timing
        self._scaled = scaled
        self._report = report
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        # Workers may have been as blind as this process was, so nothing is reaped for one lease after a blackout.
        self._reap_from = time.monotonic()

    def start(self) -> None:
        """Begin the rounds."""
        self._thread.start()

    def stop(self) -> None:
        """End the rounds, after the statement at hand."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        rounds = [
            _Round(self._dispatch, self._timing.dispatch_seconds),
            _Round(self._reap, self._timing.reap_seconds),
            _Round(self._tidy, _TIDY_SECONDS),
        ]
        if self._report is not None:
            report = self._report
            rounds.append(_Round(lambda: report(self._sessions), self._timing.heartbeat_seconds))
        while not self._stopped.wait(max(0.0, min(item.due_at for item in rounds) - time.monotonic())):
            for item in rounds:
                self._go(item)

    def _go(self, item: "_Round") -> None:
        if time.monotonic() < item.due_at:
            return
        try:
            item.work()
        except DatabaseUnavailableError as error:
            self._reap_from = time.monotonic() + self._timing.lease_seconds
            log.warning("janitor_waits", detail=error.detail)
        except Exception:  # the other rounds must go on
            log.exception("janitor_failed")
        item.due_at = time.monotonic() + item.seconds

    def _dispatch(self) -> None:
        """Publish first and mark second: a crash between the two costs a second hint, never a job."""
        if not self._scaled:
            return
        with self._sessions.begin() as session:
            due = undispatched(session, timing=self._timing)
        sent = [job_id for job_id in due if self._hinter.hint(job_id)]
        if sent:
            with self._sessions.begin() as session:
                mark_dispatched(session, sent)

    def _reap(self) -> None:
        if time.monotonic() < self._reap_from:
            return
        with self._sessions.begin() as session:
            reaped = reap(session, timing=self._timing)
        for job in reaped:
            log.warning("job_lost", job_id=job.job_id, worker_id=job.worker_id, state=job.state)

    def _tidy(self) -> None:
        if self._engine.dialect.name == "sqlite":
            checkpoint_wal(self._engine)
        with self._sessions.begin() as session:
            purge_idempotency(session)


class _Round:
    """Hold a piece of work and when it is due."""

    def __init__(self, work: Callable[[], None], seconds: float) -> None:
        self.work = work
        self.seconds = seconds
        self.due_at = time.monotonic()
