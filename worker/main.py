"""The Celery worker host: `celery -A worker.main worker -P prefork -c SLOTS --without-gossip --without-mingle`.

Celery only wakes: a message says "look", the job and everything about it is in SQL. So messages are acknowledged
early, nothing is retried by Celery, and whatever the broker loses or repeats changes nothing.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery, signals
from sqlalchemy.orm import Session

from app.db.base import new_id
from app.db.session import Sessions, create_engine_for, make_sessions
from app.db.workers import NewWorker, register_worker, remove_worker, request_drain, worker_alive
from app.domain.errors import DatabaseUnavailableError
from app.domain.jobs import PROTOCOL
from app.janitor import Janitor
from app.logging import configure_logging, get_logger
from app.queue import KEY_PREFIX, QUEUE_NAME, TASK_NAME, make_hinter
from app.settings import Settings
from app.store import store_from
from worker.supervisor import Supervisor
from worker.workdir import WorkDirectory

log = get_logger(__name__)


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return Celery's whole configuration; each line guards against a way of losing or repeating work."""
    return {
        "broker_url": settings.broker_url,
        # The row, not the message, is the truth: acknowledge early, never redeliver.
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        # Pickle would let anyone who reaches the broker run code here.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE_NAME,
        "task_create_missing_queues": False,
        "task_queues": {QUEUE_NAME: {}},
        "worker_pool": "prefork",
        "worker_concurrency": settings.worker.slots,
        "worker_max_tasks_per_child": 50,
        "worker_proc_alive_timeout": 30,
        # The deadline is in SQL; a hard limit of Celery would kill in the middle of a commit.
        "task_time_limit": None,
        "task_soft_time_limit": None,
        "worker_soft_shutdown_timeout": 75,
        "worker_enable_soft_shutdown_on_idle": False,
        # A broker that blinks must not kill a training.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_retry": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": KEY_PREFIX,
        },
        "task_publish_retry": False,
        # Whoever reaches the broker could shut workers down; cancel and drain travel through SQL.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


class Child:
    """What one pool process holds: made after the fork, so that no connection or thread is shared with the parent."""

    def __init__(self, settings: Settings, worker_id: str) -> None:
        self._worker_id = worker_id
        self._engine = create_engine_for(settings.database_url)
        self._hinter = make_hinter(settings)
        self._janitor = Janitor(self._engine, self._hinter, settings.timing, scaled=True, report=self._report)
        self._files = contextlib.ExitStack()
        directory = self._files.enter_context(WorkDirectory(settings.home / "work" / f"{worker_id}-{os.getpid()}"))
        self.supervisor = Supervisor(
            settings,
            make_sessions(self._engine),
            store_from(settings),
            worker_id=worker_id,
            directory=directory,
            slot=_slot_of_this_process(),
        )
        self._janitor.start()
        self.supervisor.warm_up()

    def _report(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            if worker_alive(session, self._worker_id):
                self.supervisor.drain()

    def close(self) -> None:
        """End everything that this process started."""
        self._janitor.stop()
        self.supervisor.close()
        self._hinter.close()
        self._engine.dispose()
        self._files.close()


class CeleryHost:
    """Connect Celery's life cycle to a supervisor per pool process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._worker_id = new_id()
        self._child: Child | None = None

    def make_app(self) -> Celery:
        """Return the Celery application with its one task."""
        celery = Celery("leanfuse", set_as_current=True)
        celery.conf.update(celery_settings(self._settings))
        celery.task(self.look, name=TASK_NAME)
        signals.setup_logging.connect(self._on_setup_logging, weak=False)
        signals.worker_init.connect(self._on_start, weak=False)
        signals.worker_process_init.connect(self._on_child_start, weak=False)
        signals.worker_process_shutdown.connect(self._on_child_end, weak=False)
        signals.worker_shutting_down.connect(self._on_shutting_down, weak=False)
        signals.worker_shutdown.connect(self._on_shutdown, weak=False)
        return celery

    def look(self, job_id: str) -> None:
        """Work on whatever is due until nothing is; the hint's job may be done already, by whoever was faster."""
        if self._child is None:
            raise RuntimeError("Leanfuse's worker needs Celery's prefork pool: start it with `-P prefork`.")
        log.debug("hint_received", job_id=job_id)
        with contextlib.suppress(DatabaseUnavailableError):
            while self._child.supervisor.run_one() is not None:
                pass

    def _on_setup_logging(self, **_: object) -> None:
        configure_logging(self._settings.log_format, level=self._settings.log_level)

    def _on_start(self, **_: object) -> None:
        # Before the pool forks, with an engine that is gone by then.
        new = NewWorker(self._worker_id, socket.gethostname(), os.getpid(), self._settings.worker.slots, PROTOCOL)
        self._tell_database(lambda session: register_worker(session, new))

    def _on_child_start(self, **_: object) -> None:
        self._child = Child(self._settings, self._worker_id)

    def _on_child_end(self, **_: object) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _on_shutting_down(self, **_: object) -> None:
        # Celery calls this inside its signal handler, where a statement could meet a lock that the main thread holds.
        threading.Thread(target=self._request_drain, name="drain").start()

    def _request_drain(self) -> None:
        self._tell_database(lambda session: request_drain(session, self._worker_id))

    def _on_shutdown(self, **_: object) -> None:
        self._tell_database(lambda session: remove_worker(session, self._worker_id))

    def _tell_database(self, statement: Callable[[Session], None]) -> None:
        engine = create_engine_for(self._settings.database_url)
        try:
            with make_sessions(engine).begin() as session:
                statement(session)
        except DatabaseUnavailableError as error:
            log.warning("worker_row_not_written", detail=error.detail)
        finally:
            engine.dispose()


def _slot_of_this_process() -> int:
    """Return the index that the pool gave this process; a replacement takes the index of the one it replaces."""
    from billiard import current_process

    return int(getattr(current_process(), "index", 0))


app = CeleryHost(Settings()).make_app()
