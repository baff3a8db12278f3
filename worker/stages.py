"""Long methods as a row of stages: what is finished is kept, what runs has its own checkpoint.

A checkpoint holds `finished/<stage>/` for every stage that ended and `running/<stage>/` with what the training loop
wrote. After a stop, finished stages are read back instead of run again, so that the result is the same.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from worker.context import Context, Reporter, Stopped, StopReason

Outcome = TypeVar("Outcome")
FINISHED, RUNNING = "finished", "running"


@dataclass(frozen=True)
class Stage:
    """Plan a stage: its name, how many epochs and optimizer steps it may take."""

    name: str
    epochs: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Codec(Generic[Outcome]):
    """Say how a stage's outcome is kept in a directory and read back."""

    save: Callable[[Outcome, Path], None]
    load: Callable[[Path], Outcome]


class Stages:
    """Run planned stages in order, in one progress and with one checkpoint."""

    def __init__(self, context: Context, plan: Sequence[Stage]) -> None:
        self._reporter = context.reporter
        self._resume = context.resume
        self._kept = context.scratch / FINISHED
        self._plan = {stage.name: stage for stage in plan}
        self._total = sum(stage.steps for stage in plan)
        self._done = Stage("")
        if context.resume is not None and (context.resume / FINISHED).is_dir():
            shutil.copytree(context.resume / FINISHED, self._kept, dirs_exist_ok=True)

    def run(self, name: str, work: Callable[[Reporter, Path | None], Outcome], codec: Codec[Outcome]) -> Outcome:
        """Return what a stage came to: read back, or worked out with a reporter of its own and a state to resume."""
        stage = self._plan[name]
        path = self._kept / name
        if path.is_dir():
            outcome = codec.load(path)
            self._count(stage)
            return outcome
        if len(self._plan) > 1:
            self._reporter.log(f"{name}: stage {list(self._plan).index(name) + 1} of {len(self._plan)}")
        running = self._resume / RUNNING / name if self._resume is not None else None
        outcome = work(
            StageReporter(self._reporter, self, stage), running if running is not None and running.is_dir() else None
        )
        self._keep(outcome, path, codec)
        self._count(stage)
        self._reporter.progress(self._done.steps, self._total)
        self._reporter.checkpoint(self.copy_finished, self._done.steps)
        self._stop_if_asked()
        return outcome

    @property
    def done(self) -> Stage:
        """Return the epochs and steps of all finished stages together."""
        return self._done

    @property
    def total_steps(self) -> int:
        """Count the steps of the whole plan."""
        return self._total

    def directory_of(self, name: str) -> Path:
        """Return where a finished stage keeps its outcome; what is no longer needed may be removed from it."""
        return self._kept / name

    def copy_finished(self, directory: Path) -> None:
        """Put what finished stages keep into a checkpoint; files never change, so a link is as good as a copy."""
        if self._kept.is_dir():
            shutil.copytree(self._kept, directory / FINISHED, copy_function=link_or_copy)

    def _keep(self, outcome: Outcome, path: Path, codec: Codec[Outcome]) -> None:
        """Save under another name first: what is there under the stage's own name is whole."""
        partial = path.parent.parent / f"{FINISHED}.partial" / path.name
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        codec.save(outcome, partial)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(path)

    def _count(self, stage: Stage) -> None:
        self._done = Stage("", self._done.epochs + stage.epochs, self._done.steps + stage.steps)

    def _stop_if_asked(self) -> None:
        if reason := self._reporter.stop_requested():
            raise Stopped(reason, step=self._done.steps)


class StageReporter:
    """Report one stage as a part of the whole."""

    def __init__(self, whole: Reporter, stages: Stages, stage: Stage) -> None:
        self._whole = whole
        self._stages = stages
        self._stage = stage
        self._scale = 1.0

    def progress(self, step: int, total_steps: int) -> None:
        """Report the stage's steps as steps of the whole, scaled where the stage takes others than were planned."""
        self._scale = self._stage.steps / max(total_steps, 1)
        self._whole.progress(self._place(min(step, total_steps)), self._stages.total_steps)

    def metric(self, epoch: int, values: Mapping[str, float]) -> None:
        """Number the epochs through all stages."""
        self._whole.metric(self._stages.done.epochs + epoch, values)

    def log(self, text: str) -> None:
        """Say which stage speaks."""
        self._whole.log(f"{self._stage.name}: {text}")

    def stop_requested(self) -> StopReason | None:
        """Pass the question on."""
        return self._whole.stop_requested()

    def checkpoint_due(self) -> bool:
        """Pass the question on."""
        return self._whole.checkpoint_due()

    def checkpoint(self, write: Callable[[Path], None], step: int) -> None:
        """Keep the finished stages beside the state of the running one."""

        def write_all(directory: Path) -> None:
            self._stages.copy_finished(directory)
            running = directory / RUNNING / self._stage.name
            running.mkdir(parents=True)
            write(running)

        self._whole.checkpoint(write_all, self._place(step))

    def _place(self, step: int) -> int:
        return self._stages.done.steps + min(round(step * self._scale), self._stage.steps)


def link_or_copy(source: str, target: str) -> None:
    """Put a file that never changes in a second place, at no cost where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
