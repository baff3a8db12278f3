"""Train several networks that differ in their seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from worker.context import Reporter
from worker.learning import Lesson, Trained, learn


def learn_together(
    lessons: Sequence[Lesson], reporter: Reporter, resume: Path | None, *, at_once: int | Literal["auto"]
) -> list[Trained]:
    """Train the networks of lessons, one after another."""
    if len(lessons) == 1:
        return [learn(lessons[0], reporter, resume)]
    reporter.log(f"{len(lessons)} networks are trained one after another, not {at_once} at once")
    return [learn(lesson, reporter, None) for lesson in lessons]
