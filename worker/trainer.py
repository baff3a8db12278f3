"""The fresh process that does one attempt: `python -m worker.trainer`.

It imports Keras ahead of time, takes one assignment from stdin, reports on stdout in JSON lines and ends. It knows
no database, broker or credential. It never outlives its supervisor: it dies with it, or when stdin closes.
"""

import ctypes
import gc
import hashlib
import importlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TypeAlias

from pydantic import BaseModel

from app.domain.datasets import FileRef, canonical_json
from app.domain.errors import JobError, LeanfuseError
from app.domain.job_errors import OutOfMemoryError
from worker.assignment import Assignment
from worker.context import Context, Stopped, StopReason
from worker.memory import is_out_of_memory
from worker.messages import (
    MANIFEST_NAME,
    CheckpointWritten,
    Failure,
    Halted,
    Log,
    Message,
    Metric,
    ProductRef,
    Progress,
    Ready,
    Result,
    Start,
    Stop,
    WrongField,
    read_command,
    write_line,
)

if TYPE_CHECKING:
    from worker.package import Product

Run: TypeAlias = "Callable[[Assignment, Context], Sequence[Product]]"

_PROGRESS_SECONDS = 0.1
_CHECKPOINT_SHARE = 0.05
_PR_SET_PDEATHSIG = 1


class Outbox:
    """Write messages to the supervisor, whole lines from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: BaseModel) -> None:
        """Write one line at once."""
        with self._lock:
            self._stream.write(write_line(message))
            self._stream.flush()


class Inbox:
    """Read the supervisor's commands in a thread, so that a stop is seen at the next batch."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._assignments: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self.stop: StopReason | None = None

    def listen(self) -> None:
        """Start reading; when the supervisor is gone, end this process at once."""
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def assignment(self) -> Path:
        """Wait for the one assignment."""
        return self._assignments.get()

    def _read(self) -> None:
        for line in iter(self._stream.readline, b""):
            command = read_command(line)
            if isinstance(command, Start):
                self._assignments.put(command.assignment)
            elif isinstance(command, Stop):
                self.stop = command.stop
        os._exit(0)


class PipeReporter:
    """Pass on what a method reports, and keep its checkpoints as directories that are whole or not there."""

    def __init__(self, outbox: Outbox, inbox: Inbox, directory: Path, *, checkpoint_seconds: float) -> None:
        self._outbox = outbox
        self._inbox = inbox
        self._directory = directory
        self._checkpoint_seconds = checkpoint_seconds
        self._checkpoint_at = time.monotonic()
        self._checkpoint_cost = 0.0
        self._checkpoints = 0
        self._progress_at = float("-inf")

    def progress(self, step: int, total_steps: int) -> None:
        """Report the step, ten times a second at most and always the last."""
        now = time.monotonic()
        if now - self._progress_at >= _PROGRESS_SECONDS or step >= total_steps:
            self._progress_at = now
            self._outbox.send(Progress(step=step, total_steps=total_steps))

    def metric(self, epoch: int, values: Mapping[str, float]) -> None:
        """Report an epoch's figures."""
        self._outbox.send(Metric(epoch=epoch, values={name: float(value) for name, value in values.items()}))

    def log(self, text: str) -> None:
        """Report one line."""
        self._outbox.send(Log(text=text[:2000]))

    def stop_requested(self) -> StopReason | None:
        """Return what the supervisor asked for last."""
        return self._inbox.stop

    def checkpoint_due(self) -> bool:
        """Say yes after the agreed time, but never spend more than a twentieth of the time on checkpoints."""
        wait = max(self._checkpoint_seconds, self._checkpoint_cost / _CHECKPOINT_SHARE)
        return time.monotonic() - self._checkpoint_at >= wait

    def checkpoint(self, write: Callable[[Path], None], step: int) -> None:
        """Write into a directory of another name, make it durable, then rename it and tell the supervisor."""
        began = time.monotonic()
        # Not named by the step: short stages of a long method may end at the same one, with more to keep each time.
        final = self._directory / f"{self._checkpoints:06}"
        self._checkpoints += 1
        partial = final.with_suffix(".partial")
        partial.mkdir(parents=True)
        write(partial)
        seal(partial)
        partial.rename(final)
        _make_durable(self._directory)
        self._outbox.send(CheckpointWritten(step=step, path=final))
        self._checkpoint_at = time.monotonic()
        self._checkpoint_cost = self._checkpoint_at - began


def seal(directory: Path) -> None:
    """Make a directory's files durable and write the manifest that names them by content, last."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    manifest = {path.relative_to(directory).as_posix(): fingerprint(path).model_dump() for path in files}
    with (directory / MANIFEST_NAME).open("wb") as file:
        file.write(canonical_json({"files": manifest}))
        file.flush()
        os.fsync(file.fileno())
    for folder in {path.parent for path in files} | {directory}:
        _make_durable(folder)


# Takes the assignment's JSON, returns the last word.
Work: TypeAlias = Callable[[bytes, Outbox, Inbox], Message]


def die_with_parent() -> None:
    """Ask Linux to kill this process when the thread that started it ends; elsewhere the closing stdin does it."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get("LEANFUSE_SUPERVISOR_PID") not in (None, str(os.getppid())):
        os._exit(0)  # the supervisor died before the request to die with it was in place


def main(load: Callable[[], Run] | None = None) -> int:
    """Do one attempt; return 0 when the outcome, whatever it is, was told to the supervisor.

    `load` imports what is heavy and returns what does the job; by default Keras and the methods of worker.methods.
    """

    def prepare() -> Work:
        run = (load or load_methods)()
        return lambda given, outbox, inbox: _attempt(Assignment.model_validate_json(given), run, outbox, inbox)

    return lead(prepare)


def lead(prepare: Callable[[], Work]) -> int:
    """Live a trainer's life: prepare, wait for the one assignment, do its work, tell how it ended; return 0."""
    die_with_parent()
    # Ctrl-C in a terminal reaches the whole process group; only the supervisor decides about a trainer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outbox = Outbox(_claim_stdout())
    inbox = Inbox(sys.stdin.buffer)
    inbox.listen()
    work = prepare()
    # What is loaded stays for good: keep it out of every later garbage collection.
    gc.collect()
    gc.freeze()
    outbox.send(Ready())
    assignment = inbox.assignment().read_bytes()
    try:
        outbox.send(work(assignment, outbox, inbox))
    except Stopped as stopped:
        outbox.send(Halted(reason=stopped.reason, step=stopped.step))
    except Exception as error:  # noqa: BLE001 - the process's one edge: whatever happened is told, then it ends
        traceback.print_exc()
        outbox.send(describe(error))
    return 0


def describe(error: Exception) -> Failure:
    """Put an error into the words of the service; what the service does not know is its own fault."""
    if is_out_of_memory(error):
        return Failure(slug=OutOfMemoryError.slug, detail=_first_line(error), hint="Choose a smaller batch or model.")
    if isinstance(error, LeanfuseError):
        retryable = isinstance(error, JobError) and error.retryable
        fields = tuple(WrongField(**field._asdict()) for field in error.errors)
        return Failure(slug=error.slug, detail=error.detail, hint=error.hint, errors=fields, retryable=retryable)
    if isinstance(error, OSError):
        return Failure(slug="storage-failed", detail=_first_line(error), hint="See the worker's disk.", retryable=True)
    return Failure(slug=LeanfuseError.slug, detail=f"{type(error).__name__}: {_first_line(error)}")


def _attempt(assignment: Assignment, run: Run, outbox: Outbox, inbox: Inbox) -> Result:
    reporter = PipeReporter(
        outbox,
        inbox,
        assignment.scratch.parent / "checkpoints",
        checkpoint_seconds=assignment.limits.checkpoint_seconds,
    )
    context = Context(reporter, assignment.scratch, assignment.output, assignment.seed, assignment.checkpoint)
    products = run(assignment, context)
    for product in products:
        (product.directory / MANIFEST_NAME).write_bytes(canonical_json(product.manifest.model_dump(mode="json")))
    return Result(products=tuple(ProductRef(name=item.name_hint, path=item.directory) for item in products))


def load_methods() -> Run:
    """Import Keras, which takes seconds, and everything that uses it."""
    importlib.import_module("keras")
    run: Run = importlib.import_module("worker.methods").run
    return run


def _claim_stdout() -> BinaryIO:
    """Keep stdout for messages and send what libraries print, from C too, to stderr."""
    sys.stdout.flush()
    private = os.dup(1)
    os.set_inheritable(private, False)  # noqa: FBT003 - the standard library's signature
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


def fingerprint(path: Path) -> FileRef:
    """Make a file durable and name it by content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return FileRef(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=file.tell())


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]


def leave(code: int) -> NoReturn:
    """End without the interpreter's tidying up, which would wait for threads of the backend and of the inbox."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
