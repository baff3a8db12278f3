"""What a reader hands over, and how several files become one set of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from app.datasets.labels import encode_classes, encode_numbers, find_task
from app.datasets.options import IngestOptions
from app.datasets.weights import check_weights
from app.domain.datasets import Features, Task
from app.domain.errors import FieldError, ShapeMismatchError
from app.domain.upload_errors import LengthMismatchError, NonFiniteValuesError, NoSamplesError

Array: TypeAlias = np.ndarray[Any, Any]
DEFAULT_LONGEST_SECONDS = 10.0


@dataclass(frozen=True)
class RawRows:
    """Hold the rows of one file as they were read.

    `x` is an array (rows, ...), or, for rows of unequal length (text bytes, audio samples), one 1-D array per row.
    `labels` are text, integers or floats as read, 0 where none are wanted; `weights` are numbers as read; `official`
    marks rows of an official report part; `places` says where row i stands in the file.
    """

    features: Features
    x: Array | Sequence[Array]
    labels: Array
    groups: Array | None = None
    weights: Array | None = None
    order: Array | None = None
    official: Array | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    sample_rate: int | None = None
    places: Sequence[str] = ()
    mixed: bool = False  # the file gives the rows no order of their own


@dataclass(frozen=True)
class Rows:
    """Hold all rows of a data set, ready to be split.

    `x` is (rows, *shape); `targets` are int64 (rows,) for a classification, float32 (rows, 1) for a regression and
    (rows, 0) without labels; `weights` float32 (rows,), where rows have some.
    """

    features: Features
    task: Task
    x: Array
    targets: Array
    classes: tuple[str, ...]
    groups: Array | None
    weights: Array | None
    order: Array | None
    official: Array
    columns: tuple[str, ...]
    sample_rate: int | None
    notes: list[str] = field(default_factory=list)


def gather(files: Sequence[RawRows], options: IngestOptions) -> Rows:
    """Join the files (the second one is the official report part), pad the rows, encode the labels."""
    first = files[0]
    _check_alike(files)
    labels = _join([file.labels for file in files])
    places = [place for index, file in enumerate(files) for place in _places(file, "report file, " if index else "")]
    notes: list[str] = []
    x = _stack(files, options, notes)
    _check_rows(x, labels, places)
    task = find_task(labels, options)
    classes: tuple[str, ...] = ()
    if task == "unlabelled":
        targets = np.zeros((len(labels), 0), np.float32)
    elif task == "classification":
        targets, classes = encode_classes(labels, options.classes or first.classes, places)
    else:
        targets = encode_numbers(labels, places)
    return Rows(
        features=first.features,
        task=task,
        x=x,
        targets=targets,
        classes=classes,
        groups=_optional([file.groups for file in files]),
        weights=_weights(files, options, places, notes),
        order=_optional([file.order for file in files]),
        official=_official(files),
        columns=first.columns,
        sample_rate=first.sample_rate,
        notes=notes,
    )


def check_finite(x: Array, places: Sequence[str], *, names: Sequence[str] = ()) -> None:
    """Raise NonFiniteValuesError with the first ten places when a float array holds NaN or infinity."""
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return
    found = np.argwhere(~np.isfinite(x))[:10]
    errors = [FieldError("/file", f"{places[at[0]]}, {_column(at[1:], names)}", "non-finite") for at in found.tolist()]
    raise NonFiniteValuesError(
        f"{errors[0].detail} is NaN or infinite (float32 holds numbers up to 3.4e38).",
        hint="Fill in or drop the rows that have no value; rescale values that are too large.",
        errors=errors,
    )


def _column(at: list[int], names: Sequence[str]) -> str:
    return f"column {names[at[0]]!r}" if names else f"value {at}"


def _places(file: RawRows, prefix: str) -> Iterator[str]:
    places = file.places or (f"row {index}" for index in range(len(file.labels)))
    return (prefix + place for place in places)


def _check_alike(files: Sequence[RawRows]) -> None:
    first = files[0]
    for other in files[1:]:
        for what in ("features", "columns", "sample_rate", "classes"):
            here, there = getattr(first, what), getattr(other, what)
            if here != there:
                raise ShapeMismatchError(
                    f"The report file has other {what} than the file: {str(there)[:200]} instead of {str(here)[:200]}.",
                    hint="Both files must describe rows of the same kind.",
                    errors=[FieldError("/report_file", f"other {what}", "shape-mismatch")],
                )


def _check_rows(x: Array, labels: Array, places: Sequence[str]) -> None:
    if len(x) != len(labels):
        raise LengthMismatchError(
            f"There are {len(x)} rows of features and {len(labels)} labels.", hint="Give one label per row."
        )
    if x.size == 0:
        raise NoSamplesError(
            f"The features have the shape {x.shape}: there are no values.", hint="Send at least one row and one column."
        )
    check_finite(x, places)


def _stack(files: Sequence[RawRows], options: IngestOptions, notes: list[str]) -> Array:
    if isinstance(files[0].x, np.ndarray):
        arrays = [np.asarray(file.x) for file in files]
        if len({array.shape[1:] for array in arrays}) > 1:
            raise ShapeMismatchError(
                f"Rows of the file have the shape {arrays[0].shape[1:]}, of the report file {arrays[1].shape[1:]}.",
                hint="Both files must describe rows of the same shape.",
                errors=[FieldError("/report_file", "other shape", "shape-mismatch")],
            )
        return _join(arrays)
    ragged = [row for file in files for row in file.x]
    if not ragged:
        raise NoSamplesError("The file has no rows.", hint="Send at least one row for each of two classes.")
    if files[0].features == "text":
        return _pad(ragged, options.text_bytes, notes, unit="texts")
    return _pad_audio(ragged, files[0].sample_rate or 1, options, notes)[:, :, None]


def _pad_audio(clips: Sequence[Array], rate: int, options: IngestOptions, notes: list[str]) -> Array:
    longest = max(len(clip) for clip in clips)
    wanted = round((options.seconds or DEFAULT_LONGEST_SECONDS) * rate)
    steps = max(1, wanted if options.seconds is not None else min(longest, wanted))
    return _pad(clips, steps, notes, unit="clips", exactly=options.seconds is not None)


def _pad(rows: Sequence[Array], cap: int, notes: list[str], *, unit: str, exactly: bool = False) -> Array:
    """Cut rows at `cap` and pad them with 0, to the longest row that is left or `exactly` to the cap."""
    longest = max(len(row) for row in rows)
    padded = np.zeros((len(rows), cap if exactly else max(1, min(longest, cap))), dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row[: padded.shape[1]]
    cut = sum(len(row) > cap for row in rows)
    if cut:
        notes.append(f"{cut} of {len(rows)} {unit} were cut to {padded.shape[1]} of up to {longest} values.")
    return padded


def _join(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _optional(arrays: Sequence[Array | None]) -> Array | None:
    given = [array for array in arrays if array is not None]
    return _join(given) if given else None


def _weights(files: Sequence[RawRows], options: IngestOptions, places: Sequence[str], notes: list[str]) -> Array | None:
    given = _optional([file.weights for file in files])
    if given is None:
        return None
    weights = check_weights(given, places, name=options.weight or "weight")
    idle = len(weights) - np.count_nonzero(weights)
    if idle:
        notes.append(f"{idle} of {len(weights)} rows have the weight 0: nothing is learned from them.")
    return weights


def _official(files: Sequence[RawRows]) -> Array:
    marks = [np.zeros(len(file.labels), bool) if file.official is None else file.official for file in files]
    if len(marks) > 1:
        marks[1:] = [np.ones_like(mark) for mark in marks[1:]]
    return _join(marks)
