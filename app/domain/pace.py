"""How fast a job works: from the steps that it told, the time that the others will take."""

from typing import NamedTuple

_MOST_MARKS = 128
# A whole percent may take hours, yet a week's job should not be told every other second.
_TELL_SECONDS, _TELL_SHARE = 2.0, 0.1


class Mark(NamedTuple):
    """A step, and when it was done, on any clock that only goes forward."""

    at_seconds: float
    step: int


def add_mark(marks: tuple[Mark, ...], new: Mark) -> tuple[Mark, ...]:
    """Return the marks with a new one; of many every other is forgotten, and all when the work began anew."""
    if marks and new.step < marks[-1].step:
        return (new,)
    return (*(marks[::2] if len(marks) >= _MOST_MARKS else marks), new)


def remaining_seconds(marks: tuple[Mark, ...], total_steps: int) -> float | None:
    """Return the time that the steps left will take at the pace of the latter half of the time, None while unknown.

    The first steps are slower (graphs are compiled), and later stages of one job have a pace of their own.
    """
    if marks and marks[-1].step >= total_steps:
        return 0.0
    seconds_per_step = _seconds_per_step(marks)
    return None if seconds_per_step is None else (total_steps - marks[-1].step) * seconds_per_step


def is_long_ago(told_seconds: float, *, began_seconds: float, now_seconds: float) -> bool:
    """Say whether the progress was told so long ago, beside the time that the work has taken, that it is due again."""
    return now_seconds - told_seconds >= max(_TELL_SECONDS, _TELL_SHARE * (now_seconds - began_seconds))


def _seconds_per_step(marks: tuple[Mark, ...]) -> float | None:
    if len(marks) < 2:
        return None
    first, last = marks[0], marks[-1]
    middle_seconds = (first.at_seconds + last.at_seconds) / 2
    recent = max(mark for mark in marks if mark.at_seconds <= middle_seconds)
    for start in (recent, first):
        if last.step > start.step and last.at_seconds > start.at_seconds:
            return (last.at_seconds - start.at_seconds) / (last.step - start.step)
    return None
