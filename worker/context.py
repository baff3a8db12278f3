"""What a method may ask of the process that runs it: report, checkpoint, learn that it should stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

StopReason = Literal["cancel", "drain"]


class Stopped(Exception):  # noqa: N818 - a clean end that was asked for, not an error
    """End a method early because the supervisor asked for it; on "drain" a checkpoint was written just before."""

    def __init__(self, reason: StopReason, *, step: int) -> None:
        super().__init__(f"stopped at step {step}: {reason}")
        self.reason = reason
        self.step = step


class Reporter(Protocol):
    """Receive what a running method has to tell.

    Steps are optimizer updates. A training loop calls, several times a second and in this order: `progress`; then
    `stop_requested`, and on "cancel" raises Stopped at once, on "drain" calls `checkpoint` and then raises Stopped;
    then `checkpoint_due`, and on True calls `checkpoint`.
    """

    def progress(self, step: int, total_steps: int) -> None:
        """Note that `step` of `total_steps` steps are done."""

    def metric(self, epoch: int, values: Mapping[str, float]) -> None:
        """Note an epoch's figures: loss, accuracy, selection_loss, selection_accuracy."""

    def log(self, text: str) -> None:
        """Note one line for the job's reader."""

    def stop_requested(self) -> StopReason | None:
        """Say whether, and why, the method should stop."""

    def checkpoint_due(self) -> bool:
        """Say whether the last checkpoint is so old that a new one is worth its cost."""

    def checkpoint(self, write: Callable[[Path], None], step: int) -> None:
        """Let `write` fill a new, empty directory (it may make sub-directories) and keep it as the state at `step`."""


@dataclass(frozen=True)
class Context:
    """Hold what a method needs beside its assignment.

    `scratch` and `output` are empty directories; `resume` holds what the newest checkpoint wrote, or is None.
    """

    reporter: Reporter
    scratch: Path
    output: Path
    seed: int
    resume: Path | None = None

    def rng(self, *stream: int) -> np.random.Generator:
        """Return a generator that depends on the seed and the numbers of the stream alone."""
        return np.random.default_rng((self.seed, *stream))
