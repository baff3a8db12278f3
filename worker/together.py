"""Train several networks that differ in seed and draw of rows: as one graph, or one after another."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from worker.context import Reporter
from worker.learning import Lesson, Trained, learn
from worker.nn.together import Pupil, Task, fit_together, seconds_per_update, why_alone
from worker.nn.units import units_of

MOST_AT_ONCE = 16
MEASURED_UPDATES = 30
# Where one after another takes no longer than this, compiling other graphs to measure them costs more than it gains.
WORTH_MEASURING_SECONDS = 20.0


def why_one_by_one(lessons: Sequence[Lesson]) -> str | None:
    """Say why lessons cannot be learned as one; None: they can."""
    if any(lesson.keep_zeros or lesson.groups or lesson.around for lesson in lessons):
        return "weights that are tied or kept at zero are for one network at a time"
    if len({_unit(lesson) for lesson in lessons}) > 1:
        return "their targets are standardized by different draws of rows"
    return why_alone(_task(lessons[0]), [_pupil(lesson) for lesson in lessons])


def learn_together(lessons: Sequence[Lesson], reporter: Reporter, resume: Path | None) -> list[Trained]:
    """Train the networks of lessons that differ in seed and draw alone as one graph; one lesson as `learn` does."""
    if len(lessons) == 1:
        return [learn(lessons[0], reporter, resume)]
    found = fit_together(_task(lessons[0]), [_pupil(lesson) for lesson in lessons], reporter, resume)
    turned = [_outward(lesson) for lesson in lessons]
    return [Trained(outward(weights), history) for outward, (weights, history) in zip(turned, found, strict=True)]


def choose_at_once(lessons: Sequence[Lesson], wanted: int | Literal["auto"], reporter: Reporter) -> int:
    """Return how many lessons to learn as one: the wanted number, or the one measured to be fastest for each."""
    why = why_one_by_one(lessons) if len(lessons) > 1 else None
    if why is not None:
        reporter.log(f"the networks are trained one after another: {why}")
        return 1
    if wanted != "auto":
        return min(wanted, len(lessons))
    return _fastest(lessons, reporter)


def _fastest(lessons: Sequence[Lesson], reporter: Reporter) -> int:
    seconds = {1: _seconds_each(lessons, 1)}
    training = lessons[0].training
    updates = training.epochs * -(-lessons[0].rows.count // training.batch_size)
    if seconds[1] * updates * len(lessons) > WORTH_MEASURING_SECONDS:
        sizes = {min(size, len(lessons)) for size in (2, 4, 8, MOST_AT_ONCE)} - {1}
        seconds |= {size: _seconds_each(lessons, size) for size in sorted(sizes)}
    best = min(seconds, key=lambda size: seconds[size])
    told = ", ".join(f"{size} at once {1000 * took:.2f} ms" for size, took in seconds.items())
    reporter.log(f"an update of one network takes: {told}")
    return best


def _seconds_each(lessons: Sequence[Lesson], size: int) -> float:
    """Return the seconds that an update takes for each of so many networks."""
    chosen = lessons[:size]
    return seconds_per_update(_task(lessons[0]), [_pupil(lesson) for lesson in chosen], updates=MEASURED_UPDATES) / size


def _task(lesson: Lesson) -> Task:
    objective = lesson.objective
    if lesson.network.task == "regression":
        objective = units_of(lesson.network, lesson.rows).objective(objective)
    return Task(lesson.network, objective, lesson.training)


def _pupil(lesson: Lesson) -> Pupil:
    start = dict(lesson.start)
    if lesson.network.task == "regression":
        start = units_of(lesson.network, lesson.rows).inward(start)
    return Pupil(lesson.seed, lesson.rows, start)


def _outward(lesson: Lesson) -> Callable[..., dict[str, Any]]:
    return units_of(lesson.network, lesson.rows).outward if lesson.network.task == "regression" else dict


def _unit(lesson: Lesson) -> object:
    return units_of(lesson.network, lesson.rows) if lesson.network.task == "regression" else None
