"""One thread that does all database work of a supervisor, and keeps the lease of its present job alive."""

import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from app.db.attempts import Heartbeat, heartbeat
from app.db.endings import Lease
from app.db.events import NewEvent
from app.db.session import Sessions
from app.domain.errors import DatabaseUnavailableError
from app.domain.jobs import Phase, Timing
from app.domain.pace import Mark, add_mark, is_long_ago, remaining_seconds
from app.logging import get_logger

log = get_logger(__name__)
T = TypeVar("T")

# News reaches the database within a second, however rare heartbeats are.
_NEWS_SECONDS = 1.0
_LINES_PER_SECOND = 20


class LeaseKeeper:
    """Hold what is to be told about one attempt, and tell it in heartbeats.

    `tell` receives every answer that asks for something; `wake` is called when the next heartbeat moved nearer.
    Only `beat` touches the database, in the DatabaseThread.
    """

    def __init__(
        self,
        sessions: Sessions,
        lease: Lease,
        *,
        timing: Timing,
        step: int,
        tell: Callable[[Heartbeat], None],
        wake: Callable[[], None],
    ) -> None:
        self.lease = lease
        self._sessions = sessions
        self._timing = timing
        self._tell = tell
        self._wake = wake
        self._lock = threading.Lock()
        self._events: list[NewEvent] = []
        self._step, self._total_steps = step, 0
        self._percent = -1
        self._marks: tuple[Mark, ...] = ()
        self._began_at = self._told_at = 0.0
        self._phase: Phase = "preparing"
        self._news = False
        self._lines = 0
        self._beaten_at = self._due_at = time.monotonic()
        self.fenced = False

    def progress(self, step: int, total_steps: int) -> None:
        """Note the step; the first is told at once, a whole percent more is an event, and so is a tenth more time."""
        with self._lock:
            first, now = self._percent < 0, time.monotonic()
            self._step, self._total_steps = step, total_steps
            self._marks = add_mark(self._marks, Mark(now, step))
            percent = 100 * step // max(1, total_steps)
            if first:
                self._began_at = now
            if percent != self._percent or is_long_ago(self._told_at, began_seconds=self._began_at, now_seconds=now):
                self._percent, self._told_at = percent, now
                self._events.append(self._progress_event())
            self._hurry(0.0 if first else _NEWS_SECONDS)

    def _progress_event(self) -> NewEvent:
        left = remaining_seconds(self._marks, self._total_steps)
        told = {"step": self._step, "total_steps": self._total_steps}
        return NewEvent("progress", {**told, "remaining_seconds": None if left is None else round(left, 1)})

    def reached(self, step: int) -> None:
        """Note a step that is certain, as a checkpoint's is, though no progress told it."""
        with self._lock:
            self._step = max(self._step, step)

    def phase(self, phase: Phase) -> None:
        """Note what the attempt does now."""
        with self._lock:
            self._phase = phase
            self._hurry(_NEWS_SECONDS)

    def event(self, event: NewEvent) -> None:
        """Note an event."""
        with self._lock:
            self._events.append(event)
            self._hurry(_NEWS_SECONDS)

    def line(self, text: str) -> None:
        """Note a log line; more than twenty a second are left out, and the reader is told."""
        with self._lock:
            self._lines += 1
            if self._lines > _LINES_PER_SECOND:
                return
            last = self._lines == _LINES_PER_SECOND
            self._events.append(NewEvent("log", {"text": text + (" [further lines left out]" if last else "")}))
            self._hurry(_NEWS_SECONDS)

    def nudge(self) -> None:
        """Ask for a heartbeat now: somebody says that there is news in the database."""
        with self._lock:
            self._hurry(0.0)

    def due_in(self) -> float:
        """Return the seconds until the next heartbeat."""
        return max(0.0, self._due_at - time.monotonic())

    def beat(self) -> None:
        """Send a heartbeat with all that was noted; a database that does not answer is asked again soon."""
        with self._lock:
            events, self._events, self._lines = self._events, [], 0
            step, total_steps, phase = self._step, self._total_steps, self._phase
            began = time.monotonic()
            self._beaten_at = began
            self._due_at = began + self._timing.heartbeat_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        try:
            with self._sessions.begin() as session:
                answer = heartbeat(
                    session,
                    self.lease,
                    timing=self._timing,
                    step=step,
                    total_steps=total_steps or None,
                    phase=phase,
                    events=events,
                )
        except DatabaseUnavailableError:
            with self._lock:
                self._events[:0] = events
                self._hurry(random.uniform(0.5, 1.0) * min(_NEWS_SECONDS, self._timing.heartbeat_seconds))  # noqa: S311
            raise
        self._answered(answer)

    def abandon(self) -> None:
        """Give the job up: what the database answers is not understood."""
        self._answered(Heartbeat(fenced=True))

    def _answered(self, answer: Heartbeat) -> None:
        self.fenced = answer.fenced
        if answer.fenced or answer.cancel or answer.late or answer.drain:
            self._tell(answer)

    def _hurry(self, seconds: float) -> None:
        due_at = max(time.monotonic(), self._beaten_at + seconds)
        if due_at < self._due_at:
            self._due_at = due_at
            self._wake()


class DatabaseThread:
    """Run every statement of one supervisor, so that no signal can land inside a transaction."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._keeper: LeaseKeeper | None = None
        self._thread = threading.Thread(target=self._run, name="database", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T]) -> T:
        """Run some work there; return what it returns, raise what it raises."""
        future: Future[T] = Future()
        self._work.put(lambda: _settle(future, work))
        return future.result()

    def keep(self, keeper: LeaseKeeper | None) -> None:
        """Send the heartbeats of this attempt from now on, or none."""
        self._work.put(lambda: self._replace(keeper))

    def end(self, keeper: LeaseKeeper, work: Callable[[], T]) -> T:
        """Tell what is left to tell, run the statement that ends the attempt, and send no heartbeat after it.

        The statement must be fenced itself. Raise DatabaseUnavailableError when it may be tried again.
        """

        def last() -> T:
            keeper.beat()
            result = work()
            self._keeper = None
            return result

        return self.call(last)

    def nudge(self) -> None:
        """Let the present attempt, if any, look into the database now."""
        keeper = self._keeper
        if keeper is not None:
            keeper.nudge()

    def wake(self) -> None:
        """Look again when the next heartbeat is due."""
        self._work.put(_nothing)

    def close(self) -> None:
        """Finish the work at hand and end the thread."""
        self._work.put(None)
        self._thread.join()

    def _replace(self, keeper: LeaseKeeper | None) -> None:
        self._keeper = keeper

    def _run(self) -> None:
        while True:
            keeper = self._keeper
            if keeper is not None and keeper.due_in() <= 0:
                self._beat(keeper)
                continue
            try:
                work = self._work.get(timeout=keeper.due_in() if keeper else None)
            except queue.Empty:
                continue
            if work is None:
                return
            work()

    def _beat(self, keeper: LeaseKeeper) -> None:
        try:
            keeper.beat()
        except DatabaseUnavailableError as error:
            log.warning("heartbeat_failed", detail=error.detail)
        except Exception:  # this thread must live, or every caller would wait for ever
            log.exception("heartbeat_broken")
            keeper.abandon()
        if keeper.fenced:
            self._keeper = None


def _settle(future: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that asked
        future.set_exception(error)


def _nothing() -> None:
    return
