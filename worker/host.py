"""The embedded worker host: `python -m worker.host`. No broker; it polls SQL and is woken through a named pipe."""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from app.db.base import new_id
from app.db.migrate import upgrade
from app.db.session import Sessions, create_engine_for, make_sessions
from app.db.workers import NewWorker, register_worker, remove_worker, worker_alive
from app.domain.errors import DatabaseUnavailableError, LeanfuseError
from app.domain.jobs import PROTOCOL
from app.janitor import Janitor
from app.logging import configure_logging, get_logger
from app.queue import make_hinter
from app.settings import Settings
from app.store import store_from
from worker.supervisor import Supervisor
from worker.workdir import WorkDirectory

log = get_logger(__name__)


class Host:
    """Run one supervisor per slot, each in a thread that lives as long as the host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._worker_id = new_id()
        self._directory = settings.home / "work" / self._worker_id
        self._engine = create_engine_for(settings.database_url)
        self._sessions = make_sessions(self._engine)
        self._hinter = make_hinter(settings)
        self._janitor = Janitor(
            self._engine, self._hinter, settings.timing, scaled=settings.scaled, report=self._report
        )
        store = store_from(settings)
        self._supervisors = [
            Supervisor(settings, self._sessions, store, worker_id=self._worker_id, directory=self._directory, slot=slot)
            for slot in range(settings.worker.slots)
        ]
        self._looks = [threading.Event() for _ in self._supervisors]
        self._draining = threading.Event()

    def run(self, *, parent: int | None = None) -> None:
        """Work until SIGTERM or SIGINT, or until the parent process is gone; then give the jobs back and return."""
        work = WorkDirectory(self._directory)
        with work, open_wake_pipe(self._settings.wake_path) as pipe, _signals(self._on_signal, pipe):
            self._register()
            self._janitor.start()
            threads = [
                threading.Thread(target=self._serve_slot, args=(slot,), name=f"slot-{slot}")
                for slot in range(len(self._supervisors))
            ]
            for thread in threads:
                thread.start()
            log.info("host_started", worker_id=self._worker_id, slots=len(threads), pid=os.getpid())
            while any(thread.is_alive() for thread in threads):
                self._wait_for_news(pipe, parent)
            self._leave()

    def drain(self) -> None:
        """Take no more jobs, and give the present ones back with a checkpoint."""
        if not self._draining.is_set():
            log.info("host_draining", worker_id=self._worker_id)
        self._draining.set()
        for supervisor in self._supervisors:
            supervisor.drain()
        self._wake_slots()

    def _serve_slot(self, slot: int) -> None:
        supervisor, look = self._supervisors[slot], self._looks[slot]
        supervisor.warm_up()
        while not supervisor.draining:
            look.clear()
            try:
                found = supervisor.run_one() is not None
            except DatabaseUnavailableError as error:
                log.warning("database_awaited", detail=error.detail)
                found = False
            except Exception:  # a fault of ours must not cost the slot; the lease returns the job to the queue
                log.exception("attempt_broken")
                found = False
            if not found:
                look.wait(self._settings.timing.poll_seconds)
        supervisor.close()

    def _wait_for_news(self, pipe: int, parent: int | None) -> None:
        ready, _, _ = select.select([pipe], [], [], self._settings.timing.poll_seconds)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(pipe, 4096)
            self._wake_slots()
        if parent is not None and os.getppid() != parent:
            self._draining.set()
        if self._draining.is_set():
            self.drain()

    def _wake_slots(self) -> None:
        for supervisor, look in zip(self._supervisors, self._looks, strict=True):
            look.set()
            supervisor.nudge()

    def _report(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            if worker_alive(session, self._worker_id):
                self._draining.set()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._draining.set()  # the wake-up descriptor lets the main loop see it at once

    def _register(self) -> None:
        new = NewWorker(self._worker_id, socket.gethostname(), os.getpid(), len(self._supervisors), PROTOCOL)
        with self._sessions.begin() as session:
            register_worker(session, new)

    def _leave(self) -> None:
        self._janitor.stop()
        self._hinter.close()
        with contextlib.suppress(DatabaseUnavailableError), self._sessions.begin() as session:
            remove_worker(session, self._worker_id)
        self._engine.dispose()
        log.info("host_stopped", worker_id=self._worker_id)


@contextlib.contextmanager
def open_wake_pipe(path: Path) -> Iterator[int]:
    """Open the named pipe on which hints arrive; made if it is not there, for its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    # Open for writing too, so that the pipe never reports the end of its last writer.
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield pipe
    finally:
        os.close(pipe)


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], None], wake_pipe: int) -> Iterator[None]:
    """Let SIGTERM and SIGINT call the handler and wake the main loop."""
    before = [signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)]
    descriptor = signal.set_wakeup_fd(wake_pipe, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, previous in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, previous)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the host of this machine."""
    parser = ArgumentParser(prog="worker.host", description="Run the embedded worker host.")
    parser.add_argument("--parent", type=int, help="process id of the parent; leave when it is gone")
    options = parser.parse_args(arguments)
    settings = Settings()
    configure_logging(settings.log_format, level=settings.log_level)
    try:
        if settings.database_url.startswith("sqlite"):
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            upgrade(settings.database_url)
        Host(settings).run(parent=options.parent)
    except LeanfuseError as error:
        log.error("host_failed", detail=error.detail, hint=error.hint)  # noqa: TRY400 - the reason is all there is
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
