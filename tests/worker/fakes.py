"""Fakes of the worker's ports."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from worker.context import Context, StopReason


class FakeReporter:
    """Keep everything that is reported; ask for a stop as soon as so many steps are done."""

    def __init__(self, directory: Path, *, stop_after: int | None = None, reason: StopReason = "drain") -> None:
        self.directory = directory
        self.stop_after = stop_after
        self.reason: StopReason = reason
        self.steps: list[tuple[int, int]] = []
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.lines: list[str] = []
        self.checkpoints: list[tuple[int, Path]] = []

    def progress(self, step: int, total_steps: int) -> None:
        self.steps.append((step, total_steps))

    def metric(self, epoch: int, values: Mapping[str, float]) -> None:
        self.metrics.append((epoch, dict(values)))

    def log(self, text: str) -> None:
        self.lines.append(text)

    def stop_requested(self) -> StopReason | None:
        done = self.steps[-1][0] if self.steps else 0
        return self.reason if self.stop_after is not None and done >= self.stop_after else None

    def checkpoint_due(self) -> bool:
        return False

    def checkpoint(self, write: Callable[[Path], None], step: int) -> None:
        path = self.directory / f"checkpoint-{len(self.checkpoints)}"
        path.mkdir(parents=True)
        write(path)
        self.checkpoints.append((step, path))


def fake_context(
    directory: Path, *, seed: int = 0, resume: Path | None = None, stop_after: int | None = None
) -> tuple[Context, FakeReporter]:
    """Return a context over fresh directories below `directory`, and the reporter that it reports to."""
    for name in ("scratch", "output"):
        shutil.rmtree(directory / name, ignore_errors=True)
        (directory / name).mkdir(parents=True)
    reporter = FakeReporter(directory / "checkpoints", stop_after=stop_after)
    return Context(reporter, directory / "scratch", directory / "output", seed, resume), reporter
