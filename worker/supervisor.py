"""Claim a job, let a trainer do it, register what it made. One supervisor per slot; it never imports Keras."""

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from app.db.attempts import ClaimedJob, Heartbeat, claim
from app.db.session import Sessions
from app.domain.errors import LeanfuseError, UnavailableError
from app.domain.jobs import Outcome
from app.domain.predict_specs import PREDICT
from app.domain.store_errors import StoreUnavailableError
from app.logging import get_logger
from app.settings import Settings
from app.store.base import Store
from worker.attempt import Attempt, Surroundings
from worker.batch.staging import find_batch, lay_out_batch
from worker.lease import DatabaseThread, LeaseKeeper
from worker.memory import count_memory_kills
from worker.process import PREDICTOR_COMMAND, TRAINER_COMMAND, TrainerProcess, trainer_environment
from worker.staging import find_sources, lay_out

log = get_logger(__name__)
# The name of content that nobody has: to ask for it is to ask whether the store is there.
_NOTHING = "0" * 64


class Supervisor:
    """See jobs through, one at a time, always from the same thread: trainers die with the thread that started them.

    `directory` is this host's own, for the files of running attempts.
    """

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        store: Store,
        *,
        worker_id: str,
        directory: Path,
        slot: int = 0,
        memory_kills: Callable[[], int] = count_memory_kills,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._store = store
        self._worker_id = worker_id
        self._slot = slot
        self._directory = directory
        self._database = DatabaseThread()
        self._around = Surroundings(sessions, store, settings.timing, self._database, memory_kills)
        self._warm: TrainerProcess | None = None
        self._attempt: Attempt | None = None
        self._started = 0
        self._store_away = False
        self._draining = threading.Event()

    @property
    def draining(self) -> bool:
        """Tell whether the supervisor takes no more jobs."""
        return self._draining.is_set()

    @property
    def warm_pid(self) -> int | None:
        """Return the process id of the trainer that waits, if one does."""
        return self._warm.pid if self._warm is not None and self._warm.alive else None

    def run_one(self) -> Outcome | None:
        """Claim the next job that is due and see it through; None when there is none, or when draining."""
        if self.draining or not self._store_answers():
            return None
        job = self._database.call(lambda: claim(self._sessions, self._worker_id, timing=self._settings.timing))
        if job is None:
            return None
        with structlog.contextvars.bound_contextvars(job_id=job.lease.job_id, token=job.lease.token):
            log.info("job_claimed", kind=job.kind, attempt=job.attempts)
            outcome = self._see_through(job)
            log.info("job_attempt_ended", outcome=outcome)
        return outcome

    def warm_up(self) -> None:
        """Start the next trainer ahead, so that it has imported Keras when a job comes."""
        if self._settings.worker.warm and not self.draining and not (self._warm and self._warm.alive):
            self._discard(self._warm)
            self._warm = self._start_trainer()

    def nudge(self) -> None:
        """Look into the database now: a cancel may have come. Call it from any thread."""
        self._database.nudge()

    def drain(self) -> None:
        """Take no more jobs and give the present one back, with a checkpoint. Call it from any thread."""
        self._draining.set()
        attempt = self._attempt
        if attempt is not None:
            attempt.trainer.heard.put(Heartbeat(drain=True))

    def close(self) -> None:
        """End the waiting trainer and the database thread."""
        self._discard(self._warm)
        self._warm = None
        self._database.close()

    def _store_answers(self) -> bool:
        """Ask a store that was away, before another job tries in vain what this one could not."""
        if self._store_away:
            try:
                self._store.contains(_NOTHING)
            except UnavailableError as error:
                log.warning("store_awaited", detail=error.detail)
                return False
            self._store_away = False
        return True

    def _see_through(self, job: ClaimedJob) -> Outcome:
        directory = self._directory / job.lease.job_id / str(job.lease.token)
        trainer = self._start(PREDICTOR_COMMAND) if job.kind == PREDICT else self._take_trainer()
        keeper = LeaseKeeper(
            self._sessions,
            job.lease,
            timing=self._settings.timing,
            step=job.step,
            tell=self._listener(trainer),
            wake=self._database.wake,
        )
        self._database.keep(keeper)
        self._attempt = attempt = Attempt(job, trainer, keeper, self._around, directory=directory)
        if self.draining:
            self.drain()  # it was asked for before there was an attempt to tell
        try:
            return self._run(job, attempt, directory)
        finally:
            self._attempt = None
            self._database.keep(None)
            self._discard(trainer)
            shutil.rmtree(directory, ignore_errors=True)

    def _run(self, job: ClaimedJob, attempt: Attempt, directory: Path) -> Outcome:
        try:
            assignment = self._lay_out(job, directory)
        except (LeanfuseError, OSError, ValueError) as error:
            self._store_away = isinstance(error, StoreUnavailableError)
            return attempt.give_up(error)
        attempt.trainer.assign(assignment)
        self.warm_up()
        return attempt.follow()

    def _lay_out(self, job: ClaimedJob, directory: Path) -> Path:
        if job.kind == PREDICT:
            batch = self._database.call(lambda: find_batch(self._sessions, job))
            return lay_out_batch(batch, directory=directory, store=self._store, settings=self._settings)
        sources = self._database.call(lambda: find_sources(self._sessions, job))
        return lay_out(job, sources, directory=directory, store=self._store, settings=self._settings)

    def _listener(self, trainer: TrainerProcess) -> Callable[[Heartbeat], None]:
        def tell(answer: Heartbeat) -> None:
            if answer.drain:
                self._draining.set()
            trainer.heard.put(answer)

        return tell

    def _take_trainer(self) -> TrainerProcess:
        warm, self._warm = self._warm, None
        if warm is not None and warm.alive:
            return warm
        self._discard(warm)
        return self._start_trainer()

    def _start_trainer(self) -> TrainerProcess:
        return self._start(self._settings.worker.trainer_command or TRAINER_COMMAND)

    def _start(self, command: Sequence[str]) -> TrainerProcess:
        self._started += 1
        return TrainerProcess(
            command,
            environment=trainer_environment(self._settings, slot=self._slot),
            directory=self._directory / "trainers" / f"{self._slot}-{self._started}",
        )

    def _discard(self, trainer: TrainerProcess | None) -> None:
        if trainer is not None:
            trainer.kill()
            trainer.wait()
            shutil.rmtree(trainer.directory, ignore_errors=True)
