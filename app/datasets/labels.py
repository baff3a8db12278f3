"""From labels as they were written to class numbers and regression targets."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from app.datasets.options import IngestOptions
from app.domain.datasets import Task
from app.domain.errors import FieldError, InvalidInputError
from app.domain.upload_errors import LabelOutOfRangeError, NonFiniteValuesError, SingleClassError, UnsupportedDtypeError

Array: TypeAlias = np.ndarray[Any, Any]
MOST_CLASSES = 1000


def find_task(labels: Array, options: IngestOptions) -> Task:
    """Return the task that was asked for, else regression for floats and classification for the rest."""
    if options.task is not None:
        return options.task
    return "regression" if labels.dtype.kind == "f" else "classification"


def encode_classes(
    labels: Array, names: tuple[str, ...] | None, places: Sequence[str]
) -> tuple[Array, tuple[str, ...]]:
    """Return class numbers int64 (rows,) and the names of the classes.

    Text labels are matched with the names, or name the classes themselves (sorted, as numbers where they are).
    Integers are class numbers 0 .. K-1 already.
    """
    if labels.dtype.kind == "f":
        labels = _whole(labels, places)
    if labels.dtype.kind == "U":
        numbers, classes = _encode_text(labels, names, places)
    else:
        numbers, classes = _encode_integers(labels.astype(np.int64), names, places)
    if len(np.unique(numbers)) < 2:
        raise SingleClassError(
            f"Every row has the label {classes[int(numbers[0])]!r}.",
            hint="A classifier needs rows of at least two classes.",
        )
    return numbers, classes


def encode_numbers(labels: Array, places: Sequence[str]) -> Array:
    """Return regression targets float32 (rows, 1)."""
    if labels.dtype.kind == "U":
        labels = _parse_numbers(labels, places)
    targets = labels.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(targets))
    if len(bad):
        raise NonFiniteValuesError(
            f"The target at {places[bad[0]]} is NaN or infinite.",
            hint="Fill in or drop the rows that have no target.",
            errors=_at(bad, places, "non-finite"),
        )
    return targets.reshape(-1, 1)


def natural_order(name: str) -> tuple[int, int, str]:
    """Sort whole numbers by value, before all other names."""
    digits = name.removeprefix("-")
    return (0, int(name), name) if digits.isdecimal() and len(digits) < 19 else (1, 0, name)


def _encode_text(labels: Array, names: tuple[str, ...] | None, places: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    found, inverse = np.unique(labels, return_inverse=True)
    if names is None:
        _refuse_negative(found, labels, places)
        _check_number_of_classes(len(found))
        names = tuple(sorted((str(name) for name in found), key=natural_order))
    number = {name: index for index, name in enumerate(names)}
    mapping = np.array([number.get(str(name), -1) for name in found], dtype=np.int64)
    numbers = mapping[inverse.reshape(-1)]
    bad = np.flatnonzero(numbers < 0)
    if len(bad):
        raise LabelOutOfRangeError(
            f"The label {str(labels[bad[0]])[:80]!r} at {places[bad[0]]} is none of the {len(names)} classes.",
            hint=f"Mend the label, or list it in `classes`; known are {', '.join(names[:20])}.",
            errors=_at(bad, places, "label-out-of-range"),
        )
    return numbers, names


def _encode_integers(
    labels: Array, names: tuple[str, ...] | None, places: Sequence[str]
) -> tuple[Array, tuple[str, ...]]:
    classes = len(np.unique(labels)) if names is None else len(names)
    _check_number_of_classes(classes)
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise LabelOutOfRangeError(
            f"The label {int(labels[bad[0]])} at {places[bad[0]]} is not in 0 to {classes - 1}.",
            hint="Number the classes from 0 without gaps, or send the labels as text, or name the `classes`.",
            errors=_at(bad, places, "label-out-of-range"),
        )
    return labels, names or tuple(str(index) for index in range(classes))


def _refuse_negative(found: Array, labels: Array, places: Sequence[str]) -> None:
    """Refuse negative numbers among whole-number labels: they mark missing labels far more often than classes."""
    orders = [natural_order(str(name)) for name in found]
    if any(kind for kind, _, _ in orders) or all(value >= 0 for _, value, _ in orders):
        return
    bad = np.flatnonzero(np.char.startswith(labels, "-"))
    raise LabelOutOfRangeError(
        f"The label {labels[bad[0]]} at {places[bad[0]]} is negative.",
        hint="Drop rows without a label; if negative numbers are classes, list them all in `classes`.",
        errors=_at(bad, places, "label-out-of-range"),
    )


def _check_number_of_classes(classes: int) -> None:
    if classes > MOST_CLASSES:
        raise LabelOutOfRangeError(
            f"There are {classes} different labels; at most {MOST_CLASSES} classes are accepted.",
            hint='Set "task": "regression" when the target is a quantity.',
            errors=[FieldError("/options/task", "too many classes", "label-out-of-range")],
        )


def _whole(labels: Array, places: Sequence[str]) -> Array:
    bad = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)) | (np.abs(labels) > 2**53))
    if len(bad):
        raise UnsupportedDtypeError(
            f"The label {labels[bad[0]]} at {places[bad[0]]} is not a whole number.",
            hint='Classes are whole numbers or text; set "task": "regression" for quantities.',
            errors=_at(bad, places, "unsupported-dtype"),
        )
    return labels.astype(np.int64)


def _parse_numbers(labels: Array, places: Sequence[str]) -> Array:
    try:
        return labels.astype(np.float64)
    except ValueError:
        bad = next(index for index, label in enumerate(labels) if not _is_number(str(label)))
    raise InvalidInputError(
        f"The target {str(labels[bad])[:80]!r} at {places[bad]} is not a number.",
        hint='Mend the value, or set "task": "classification".',
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _at(rows: Array, places: Sequence[str], kind: str) -> list[FieldError]:
    return [FieldError("/file", places[row], kind) for row in rows[:10].tolist()]
