"""Count what happened to the predictions of each version, since this process started.

Everything is counted on the event loop, so nothing needs a lock.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field

NANOSECONDS = 1e9


@dataclass
class Duration:
    """Add up how often something happened and how long it took."""

    count: int = 0
    nanoseconds: int = 0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.nanoseconds += int(seconds * NANOSECONDS)


@dataclass
class VersionStatistics:
    """Hold the counters of one version: by request, and by run of an engine (`executions`, `batches` by their rows)."""

    success: Duration = field(default_factory=Duration)
    failure: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    reading: Duration = field(default_factory=Duration)
    running: Duration = field(default_factory=Duration)
    writing: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))
    inferences: int = 0
    executions: int = 0
    last_milliseconds: int = 0

    def count_success(self, *, seconds: float, queue_seconds: float, run_seconds: float) -> None:
        """Count a request that was answered."""
        self.success.add(seconds)
        self.queue.add(queue_seconds)
        self.running.add(run_seconds)
        self.last_milliseconds = time.time_ns() // 1_000_000

    def count_batch(self, rows: int, seconds: float) -> None:
        """Count a run of an engine."""
        self.executions += 1
        self.inferences += rows
        self.batches[rows].add(seconds)


class Statistics:
    """Keep the counters of all versions."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], VersionStatistics] = {}

    def of(self, name: str, version: int) -> VersionStatistics:
        """Return the counters of a version, to be read or counted on."""
        found = self._versions.get((name, version))
        if found is None:
            found = self._versions[name, version] = VersionStatistics()
        return found
