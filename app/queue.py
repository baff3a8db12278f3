"""How workers are woken. The row in SQL is the job; a hint only says "look", and a lost hint costs seconds."""

import contextlib
import errno
import os
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from app.logging import get_logger
from app.settings import Settings

log = get_logger(__name__)

TASK_NAME = "leanfuse.look"
QUEUE_NAME = "default"
KEY_PREFIX = "leanfuse:"
_PUBLISH_SECONDS = 0.25
_REST_SECONDS = 2.0


class Hinter(Protocol):
    """Wake workers. Call it after the commit; it never raises and takes a quarter of a second at most."""

    def hint(self, job_id: str) -> bool:
        """Say that a job is due, or is to stop; return whether the word was handed over."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class NullHinter:
    """Wake nobody: workers find the job when they next look."""

    def hint(self, job_id: str) -> bool:  # noqa: ARG002 - the port's signature
        """Do nothing."""
        return False

    def close(self) -> None:
        """Do nothing."""


class PipeHinter:
    """Wake the worker host of this machine through its named pipe; without a host nothing happens."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def hint(self, job_id: str) -> bool:  # noqa: ARG002 - the host looks for whatever is due
        """Write one byte."""
        try:
            pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False  # no host, or none that listens: the next poll finds the job
        try:
            os.write(pipe, b"!")
        except OSError as error:
            return error.errno == errno.EAGAIN  # full: the host has enough reasons to look
        finally:
            os.close(pipe)
        return True

    def close(self) -> None:
        """Do nothing: every hint opens the pipe anew, so that a restarted host is found."""


class CeleryHinter:
    """Publish a Celery message. After a failure it rests for two seconds, so that a dead broker delays nobody."""

    def __init__(self, broker_url: str) -> None:
        self._celery = _publisher(broker_url)
        self._lock = threading.Lock()
        self._rest_until = 0.0

    def hint(self, job_id: str) -> bool:
        """Publish `{"job_id"}` to the queue of all workers."""
        if time.monotonic() < self._rest_until:
            return False
        try:
            # One publisher at a time: they share one connection, and a queue of them must not outlast the budget.
            if not self._lock.acquire(timeout=_PUBLISH_SECONDS):
                return False
            try:
                self._celery.send_task(TASK_NAME, kwargs={"job_id": job_id}, retry=False, ignore_result=True)
            finally:
                self._lock.release()
        except (OSError, self._celery_errors()) as error:
            self._rest_until = time.monotonic() + _REST_SECONDS
            log.warning("hint_failed", job_id=job_id, detail=str(error))
            return False
        return True

    def rested(self) -> None:
        """End the rest after a failure, to try the broker at once."""
        self._rest_until = 0.0

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._celery.close()

    @staticmethod
    def _celery_errors() -> type[Exception]:
        from kombu.exceptions import OperationalError

        error: type[Exception] = OperationalError
        return error


def make_hinter(settings: Settings) -> Hinter:
    """Choose how to wake workers: Celery when there is a broker, else the pipe of this machine's host."""
    return CeleryHinter(settings.broker_url) if settings.broker_url else PipeHinter(settings.wake_path)


def _publisher(broker_url: str) -> Any:  # noqa: ANN401 - Celery has no types
    from celery import Celery

    publisher = Celery("leanfuse", broker=broker_url, set_as_current=False)
    publisher.conf.update(
        task_serializer="json",
        task_default_queue=QUEUE_NAME,
        task_ignore_result=True,
        broker_pool_limit=1,
        broker_connection_timeout=_PUBLISH_SECONDS,
        task_publish_retry=False,
        broker_transport_options={
            "socket_timeout": _PUBLISH_SECONDS,
            "socket_connect_timeout": _PUBLISH_SECONDS,
            "retry_on_timeout": False,
            "max_retries": 0,
            "global_keyprefix": KEY_PREFIX,
        },
    )
    return publisher
