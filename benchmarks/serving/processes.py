"""Children with all their descendants: what they use, and their end. They are known by a mark in their environment."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_MARK = "BENCHMARK_MARK"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class Usage(NamedTuple):
    """Hold what processes use: pages that several share count in each `resident`, but once in `proportional`."""

    processes: int
    resident_bytes: int
    proportional_bytes: int
    processor_seconds: float


@dataclass(frozen=True)
class Tree:
    """A child and everything that descends from it, however far it has moved away."""

    child: subprocess.Popen[bytes]
    mark: str

    def pids(self) -> list[int]:
        """List the living processes."""
        marked = f"{_MARK}={self.mark}".encode()
        return [pid for pid in _all_pids() if marked in _read(pid, "environ").split(b"\0") and not _is_zombie(pid)]

    def usage(self) -> Usage:
        """Measure all processes now."""
        pids = self.pids()
        memory = [_memory(pid) for pid in pids]
        seconds = sum(map(_processor_seconds, pids))
        return Usage(len(pids), sum(rss for rss, _ in memory), sum(pss for _, pss in memory), seconds)

    def stop(self, *, seconds: float = 10.0) -> None:
        """Ask the child to end, then end by its pid whatever is left."""
        self.child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(seconds)
        deadline = time.monotonic() + seconds
        for number in (signal.SIGTERM, signal.SIGKILL):
            while (left := self.pids()) and time.monotonic() < deadline:
                for pid in left:
                    _send(pid, number)
                time.sleep(0.2)
            deadline = time.monotonic() + seconds
        self.child.wait(seconds)


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], *, log: Path, cwd: Path) -> Iterator[Tree]:
    """Run a command and end it, with all its descendants, on the way out."""
    mark = uuid.uuid4().hex
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            env={**os.environ, **environment, _MARK: mark},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    tree = Tree(child, mark)
    try:
        yield tree
    finally:
        tree.stop()


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except _GONE:
        return b""


def _is_zombie(pid: int) -> bool:
    return _fields(pid)[:1] in ([b"Z"], [])


def _fields(pid: int) -> list[bytes]:
    """Return the fields of `stat` from the third on: the second, the name, may hold spaces."""
    return _read(pid, "stat").rpartition(b") ")[2].split()


def _processor_seconds(pid: int) -> float:
    fields = _fields(pid)
    # User and system time, own and of children that ended.
    return sum(map(int, fields[11:15])) / _TICKS_PER_SECOND if fields else 0.0


def _memory(pid: int) -> tuple[int, int]:
    sizes = {"Rss:": 0, "Pss:": 0}
    for line in _read(pid, "smaps_rollup").decode().splitlines():
        name, _, rest = line.partition(" ")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024
    return sizes["Rss:"], sizes["Pss:"]


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(*_GONE):
        os.kill(pid, number)
