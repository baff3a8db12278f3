"""A trainer process as its supervisor sees it: started warm, given one job, told to stop, killed, reaped."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from pydantic import BaseModel

import worker
from app.db.attempts import Heartbeat
from app.settings import Settings
from worker.context import StopReason
from worker.messages import MAXIMUM_LINE_BYTES, Log, Message, Start, Stop, read_message, write_line

TRAINER_COMMAND: tuple[str, ...] = (sys.executable, "-m", "worker.trainer")
# Predicting needs no Keras, so this one starts in a moment and the warm trainer stays for a job that needs it.
PREDICTOR_COMMAND: tuple[str, ...] = (sys.executable, "-m", "worker.batch.predictor")
_TAIL_BYTES = 4096
# Whatever else the host's environment holds, passwords and tokens above all, stays with the host.
_PASSED_ON = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV"}
)
_PASSED_ON_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "TF_", "JAX_PLATFORM", "XLA_", "OMP_", "MALLOC_")
# Within an operation and of operations side by side: more of either would take cores that belong to the other slots.
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# TensorFlow and JAX would each take nearly all memory of a GPU at once, and nothing would be left for the warm trainer
# beside the running one, nor for a second slot of the same device.
_SHARED_DEVICE = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@dataclass(frozen=True)
class Exit:
    """Say how a process ended: a code or a signal, and the most memory that it held, in MiB."""

    code: int | None
    signal: int | None
    max_rss_mb: int


Heard: TypeAlias = Message | Exit | Heartbeat


def trainer_environment(settings: Settings, *, slot: int = 0) -> dict[str, str]:
    """Return the allow-listed environment of a trainer: what loads libraries and chooses devices, no credential."""
    kept = {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    threads = str(settings.worker.threads_of_a_slot)
    defaults = dict.fromkeys(_THREADS, threads) | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    return defaults | _SHARED_DEVICE | kept | _fixed_environment(settings, slot)


def _fixed_environment(settings: Settings, slot: int) -> dict[str, str]:
    devices = settings.worker.devices
    chosen = {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if devices else {}
    return chosen | {
        "KERAS_BACKEND": settings.backend,
        "PYTHONPATH": str(Path(worker.__file__).parent.parent),
        "PYTHONHASHSEED": "0",
        "LEANFUSE_SUPERVISOR_PID": str(os.getpid()),
    }


class TrainerProcess:
    """Run one trainer. What it says and how it ends arrives, in order, in `heard`.

    On Linux the process dies with the *thread* that starts it, so start it from one that lives as long as the host.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.heard: queue.Queue[Heard] = queue.Queue()
        self._log = directory / "trainer.log"
        with self._log.open("wb") as log:
            # A session of its own keeps Ctrl-C in a terminal away from it, and lets its own children end with it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=directory,
                env={**environment, "HOME": str(directory), "KERAS_HOME": str(directory / "keras")},
                start_new_session=True,
            )
        self._ended = threading.Event()
        self._reaping = threading.Lock()
        threading.Thread(target=self._listen, name=f"trainer-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether the process has not been reaped."""
        return not self._ended.is_set()

    def assign(self, assignment: Path) -> None:
        """Hand over the one job."""
        self._tell(Start(assignment=assignment))

    def stop(self, reason: StopReason) -> None:
        """Ask for an end at the next batch."""
        self._tell(Stop(stop=reason))

    def kill(self) -> None:
        """End the process and everything it started, now."""
        with self._reaping:  # until it is reaped its number cannot be another's
            if self.alive:
                self._kill_group()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the end; return whether it came."""
        return self._ended.wait(timeout_seconds)

    def log_tail(self) -> str:
        """Return the end of what the process wrote to stderr."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _tell(self, message: BaseModel) -> None:
        stdin = self._process.stdin
        with contextlib.suppress(OSError, ValueError):  # it has ended; `heard` will say so
            if stdin is not None:
                stdin.write(write_line(message))
                stdin.flush()

    def _listen(self) -> None:
        stdout = self._process.stdout
        if stdout is not None:
            _read_messages(stdout, self.heard)
            stdout.close()
        self.heard.put(self._reap())

    def _reap(self) -> Exit:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:
            self._kill_group()  # whatever the trainer started must not outlive it
            _, state, usage = os.wait4(self.pid, 0)
            self._ended.set()
        code = os.waitstatus_to_exitcode(state)
        self._process.returncode = code  # so that Popen does not look for a child that is gone
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return Exit(code if code >= 0 else None, -code if code < 0 else None, usage.ru_maxrss // scale)


def _read_messages(stream: IO[bytes], heard: queue.Queue[Heard]) -> None:
    for line in iter(lambda: stream.readline(MAXIMUM_LINE_BYTES), b""):
        try:
            heard.put(read_message(line))
        except ValueError:
            heard.put(Log(text=f"unreadable line from the trainer: {line[:200]!r}"))
