"""One attempt of one job, seen from its supervisor: relay what the trainer says, obey orders, end it well."""

import contextlib
import queue
import random
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

from sqlalchemy.orm import Session

from app.db import attempts
from app.db.attempts import ClaimedJob, Heartbeat
from app.db.endings import AttemptEnd
from app.db.events import NewEvent
from app.db.finish import Finished, finish
from app.db.results import finish_with_file
from app.db.session import Sessions
from app.domain.error_tree import all_errors
from app.domain.errors import DatabaseUnavailableError, LeanfuseError
from app.domain.job_errors import DeadlineExceededError, OutOfMemoryError
from app.domain.jobs import Outcome, State, Timing
from app.domain.predict_specs import PREDICT
from app.domain.store_errors import StoreUnavailableError
from app.logging import get_logger
from app.store.base import Store
from worker.lease import DatabaseThread, LeaseKeeper
from worker.messages import CheckpointWritten, Failure, Halted, Log, Message, Metric, Predicted, Progress, Ready, Result
from worker.process import Exit, Heard, TrainerProcess
from worker.staging import is_retryable, keep_checkpoint, keep_file, keep_product

log = get_logger(__name__)
T = TypeVar("T")

# Why a trainer was told to stop, in rising order of weight: a later order replaces one of less weight.
Order = Literal["drain", "stalled", "late", "cancel", "fenced"]
_WEIGHT: dict[Order, int] = {"drain": 0, "stalled": 1, "late": 2, "cancel": 3, "fenced": 4}
_EXIT_SECONDS = 5.0
_GLANCE_SECONDS = 60.0
_STORE_SECONDS = 600.0
_ACCELERATOR_SIGNS = ("CUDA_ERROR", "CUDNN_STATUS", "Xid", "uncorrectable ECC")


@dataclass(frozen=True)
class Surroundings:
    """Hold what every attempt of a supervisor uses."""

    sessions: Sessions
    store: Store
    timing: Timing
    database: DatabaseThread
    memory_kills: Callable[[], int]


class Attempt:
    """Follow one trainer from its assignment to its end."""

    def __init__(
        self, job: ClaimedJob, trainer: TrainerProcess, keeper: LeaseKeeper, around: Surroundings, *, directory: Path
    ) -> None:
        self.job = job
        self.trainer = trainer
        self.keeper = keeper
        self._around = around
        self._directory = directory
        self._order: Order | None = None
        self._kill_at: float | None = None
        self._last_word: Result | Predicted | Failure | Halted | None = None
        self._pulse = Pulse(around.timing.stall_seconds)
        self._memory_kills = around.memory_kills()

    def follow(self) -> Outcome:
        """Relay until the trainer has ended; then write down how, and return it."""
        while True:
            heard = self._next()
            if isinstance(heard, Exit):
                break
            if isinstance(heard, Heartbeat):
                self._obey(heard)
            elif heard is not None:
                self._pulse.felt(heard)
                self._relay(heard)
            self._look_at_the_clock()
        return self._conclude(heard)

    def give_up(self, error: Exception) -> Outcome:
        """End an attempt that failed outside of the trainer, before or after its run."""
        self.trainer.kill()
        described = _describe(error)
        log.warning("attempt_given_up", error=described)
        if isinstance(error, StoreUnavailableError):
            return self._retry("store_away", AttemptEnd(error=described))
        if is_retryable(error):
            return self._retry("retried", AttemptEnd(error=described))
        return self._fail(AttemptEnd(error=described))

    def _next(self) -> Heard | None:
        now = time.monotonic()
        deadline = min(self._pulse.stalled_at, self._kill_at or now + _GLANCE_SECONDS, now + _GLANCE_SECONDS)
        try:
            return self.trainer.heard.get(timeout=max(0.0, deadline - now))
        except queue.Empty:
            return None

    def _obey(self, answer: Heartbeat) -> None:
        timing = self._around.timing
        if answer.fenced:
            self._stop("fenced", grace_seconds=0.0)
        elif answer.cancel:
            self._stop("cancel", grace_seconds=timing.cancel_grace_seconds)
        elif answer.late:
            self._stop("late", grace_seconds=timing.cancel_grace_seconds)
        elif answer.drain:
            self._stop("drain", grace_seconds=timing.drain_cap_seconds)

    def _stop(self, order: Order, *, grace_seconds: float) -> None:
        if self._order is not None and _WEIGHT[order] <= _WEIGHT[self._order]:
            return
        log.info("trainer_stopping", reason=order, pid=self.trainer.pid)
        self._order = order
        self.keeper.phase("draining" if order == "drain" else "cancelling")
        self.trainer.stop("cancel" if order in ("cancel", "stalled", "fenced") else "drain")
        self._kill_at = time.monotonic() + grace_seconds

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self.trainer.kill()
            self._kill_at = None
        if now >= self._pulse.stalled_at:
            self._pulse.rest()
            self._stop("stalled", grace_seconds=0.0)

    def _relay(self, message: Message) -> None:
        match message:
            case Ready():
                self.keeper.phase("predicting" if self.job.kind == PREDICT else "training")
            case Progress():
                self.keeper.progress(message.step, message.total_steps)
            case Metric():
                self.keeper.event(NewEvent("metric", {"epoch": message.epoch, **message.values}))
            case Log():
                self.keeper.line(message.text)
            case CheckpointWritten():
                self._keep_checkpoint(message)
            case Result() | Predicted() | Failure() | Halted():
                # Whatever it was told before, a trainer that has spoken its last word has little time to go.
                self._last_word = message
                self._pulse.rest()
                self._kill_at = time.monotonic() + _EXIT_SECONDS

    def _keep_checkpoint(self, message: CheckpointWritten) -> None:
        try:
            content, sha256 = keep_checkpoint(message.path, directory=self._directory, store=self._around.store)
        except (LeanfuseError, OSError, ValueError) as error:
            # The job can do without this checkpoint: the one before stays.
            log.warning("checkpoint_lost", step=message.step, detail=str(error))
            self.keeper.line(f"The checkpoint of step {message.step} could not be kept: {error}")
            return
        with contextlib.suppress(OSError):
            shutil.rmtree(message.path)
        self.keeper.reached(message.step)
        if not self._record(message.step, content, sha256):
            self._stop("fenced", grace_seconds=0.0)

    def _conclude(self, ended: Exit) -> Outcome:
        end = AttemptEnd(exit_code=ended.code, signal=ended.signal, max_rss_mb=ended.max_rss_mb)
        word = self._last_word
        if self._order == "fenced":
            return "fenced"
        if self._order == "cancel":
            return self._cancelled(end)
        if isinstance(word, Result | Predicted):
            return self._publish(word, end)
        if isinstance(word, Failure):
            return self._failed(word, end)
        if self._order == "late":
            return self._fail(_with_error(end, DeadlineExceededError("The job ran longer than max_runtime_seconds.")))
        if self._order == "drain":
            return self._retry("drained", end)
        return self._died(ended, end)

    def _publish(self, result: Result | Predicted, end: AttemptEnd) -> Outcome:
        self.keeper.phase("registering")
        try:
            register = self._patiently(lambda: self._keep(result, end))
        except (LeanfuseError, OSError, ValueError) as error:
            return self.give_up(error)
        finished = self._patiently(lambda: self._around.database.end(self.keeper, register))
        return self._cancelled(end) if finished.outcome == "cancelled" else finished.outcome

    def _keep(self, result: Result | Predicted, end: AttemptEnd) -> Callable[[], Finished]:
        """Put what was made into the store; return the statement that registers it."""
        around, directory, lease = self._around, self._directory, self.job.lease
        if isinstance(result, Predicted):
            keep_file(result.path, result.result.file, directory=directory, store=around.store)
            return lambda: finish_with_file(around.sessions, lease, result.result, end=end)
        versions = [keep_product(product, directory=directory, store=around.store) for product in result.products]
        return lambda: finish(around.sessions, lease, versions, end=end)

    def _failed(self, failure: Failure, end: AttemptEnd) -> Outcome:
        told = failure.model_dump(mode="json", include={"detail", "hint", "errors"})
        error = {"type": failure.slug, "title": _title(failure.slug), **told}
        ended = AttemptEnd(end.exit_code, end.signal, end.max_rss_mb, error)
        self._tell_last_words()
        if failure.slug == OutOfMemoryError.slug:
            return self._retry("oom", ended)
        return self._retry("retried", ended) if failure.retryable else self._fail(ended)

    def _died(self, ended: Exit, end: AttemptEnd) -> Outcome:
        tail = self._tell_last_words()
        outcome = classify_death(
            ended,
            tail,
            stalled=self._order == "stalled",
            memory_killed=self._around.memory_kills() > self._memory_kills,
        )
        return self._retry(outcome, _with_error(end, LeanfuseError(_obituary(ended, outcome))))

    def _tell_last_words(self) -> str:
        tail = self.trainer.log_tail()
        if tail:
            self.keeper.event(NewEvent("log", {"text": tail, "source": "stderr"}))
        return tail

    def _cancelled(self, end: AttemptEnd) -> Outcome:
        return self._ending("cancelled", lambda session: attempts.cancelled(session, self.job.lease, end=end))

    def _fail(self, end: AttemptEnd) -> Outcome:
        return self._ending("failed", lambda session: attempts.fail(session, self.job.lease, end=end))

    def _retry(self, outcome: Outcome, end: AttemptEnd) -> Outcome:
        return self._ending(
            outcome,
            lambda session: attempts.retry(session, self.job.lease, outcome, end=end, timing=self._around.timing),
        )

    def _ending(self, outcome: Outcome, statement: Callable[[Session], State | None]) -> Outcome:
        def work() -> State | None:
            with self._around.sessions.begin() as session:
                return statement(session)

        state = self._patiently(lambda: self._around.database.end(self.keeper, work))
        return outcome if state is not None else "fenced"

    def _record(self, step: int, manifest: dict[str, Any], sha256: str) -> bool:
        def work() -> bool:
            with self._around.sessions.begin() as session:
                return attempts.record_checkpoint(session, self.job.lease, step=step, manifest=manifest, sha256=sha256)

        return self._patiently(lambda: self._around.database.call(work))

    def _patiently(self, statement: Callable[[], T]) -> T:
        """Repeat a statement while database or store do not answer: what the trainer made is worth the wait.

        A store is waited for so long that it can be started again, but not for ever: it may be there and refuse.
        """
        give_up_at = time.monotonic() + _STORE_SECONDS
        while True:
            try:
                return statement()
            except DatabaseUnavailableError as error:
                log.warning("database_awaited", detail=error.detail)
            except StoreUnavailableError as error:
                if time.monotonic() > give_up_at:
                    raise
                log.warning("store_awaited", detail=error.detail)
            time.sleep(random.uniform(0.5, 1.0) * min(2.0, self._around.timing.heartbeat_seconds))  # noqa: S311


class Pulse:
    """Know when a trainer has been silent for too long: the set time, or twenty of its usual intervals."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._intervals: deque[float] = deque(maxlen=50)
        self._felt_at = time.monotonic()
        self._resting = False

    @property
    def stalled_at(self) -> float:
        """Return the monotonic time at which silence becomes a stall."""
        if self._resting:
            return float("inf")
        usual = median(self._intervals) if self._intervals else 0.0
        return self._felt_at + max(self._stall_seconds, 20 * usual)

    def felt(self, message: Message) -> None:
        """Note a sign of life."""
        now = time.monotonic()
        if isinstance(message, Progress):
            self._intervals.append(now - self._felt_at)
        self._felt_at = now

    def rest(self) -> None:
        """Expect nothing more."""
        self._resting = True


def classify_death(ended: Exit, tail: str, *, stalled: bool, memory_killed: bool) -> Outcome:
    """Name the cause of an end without a word: from the exit, the last lines and the kernel's memory killer."""
    if stalled:
        return "stalled"
    if ended.signal == 9 and memory_killed:
        return "oom"
    if ended.signal == 6 and any(sign in tail for sign in _ACCELERATOR_SIGNS):
        return "accelerator_lost"
    return "lost"


def _obituary(ended: Exit, outcome: Outcome) -> str:
    how = f"with signal {ended.signal}" if ended.signal is not None else f"with exit code {ended.code}"
    return f"The trainer ended {how} and without a result ({outcome}); its last lines are in the job's events."


def _with_error(end: AttemptEnd, error: LeanfuseError) -> AttemptEnd:
    return AttemptEnd(end.exit_code, end.signal, end.max_rss_mb, _describe(error))


def _describe(error: Exception) -> dict[str, Any]:
    if isinstance(error, LeanfuseError):
        return {"type": error.slug, "title": error.title, "detail": error.detail, "hint": error.hint}
    slug = "storage-failed" if isinstance(error, OSError) else LeanfuseError.slug
    return {"type": slug, "title": _title(slug), "detail": f"{type(error).__name__}: {error}", "hint": ""}


def _title(slug: str) -> str:
    return next((error.title for error in all_errors() if error.slug == slug), LeanfuseError.title)
