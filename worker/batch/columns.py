"""The columns of a file of predictions, and the values of a stretch of rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import DatasetSchema
from app.domain.models import VersionManifest
from app.serving.answering import Answers, member_output

Array = NDArray[Any]
Chunk = Mapping[str, Array]


class Column(NamedTuple):
    """Name an array [rows], or [rows, parts] that a table shows as one column per part."""

    name: str
    dtype: "np.dtype[Any]"
    parts: tuple[str, ...] = ()


def layout_of(chunk: Chunk, manifest: VersionManifest) -> list[Column]:
    """Describe the columns that a chunk has; those of every other chunk of the same job are equal."""
    return [Column(name, values.dtype, _parts(name, manifest)) for name, values in chunk.items()]


def tabular(layout: Sequence[Column], chunk: Chunk) -> dict[str, Array]:
    """Return the columns of a table: `probabilities` becomes `probability.<class>` for each class."""
    table: dict[str, Array] = {}
    for column in layout:
        values = chunk[column.name]
        if column.parts:
            table |= {name: values[:, place] for place, name in enumerate(column.parts)}
        else:
            table[column.name] = values
    return table


def describe_chunk(
    answers: Answers, manifest: VersionManifest, *, row_set: str, first: int, actual: Array | None
) -> dict[str, Array]:
    """Return the arrays of some rows of one set, the first of them at place `first`; equal types in every chunk."""
    rows = len(answers.fused)
    chunk: dict[str, Array] = {
        "row": np.arange(first, first + rows, dtype=np.int64),
        "set": np.full(rows, row_set, dtype="<U9"),
        **_answer("", manifest, answers.fused, is_logits=False),
    }
    if actual is not None:
        chunk["actual"] = actual
    if answers.answered_by is not None:
        chunk["answered_by"] = answers.answered_by.reshape(rows).astype(np.int64)
    is_logits = member_output(manifest) == "logits"
    for place, part in enumerate(answers.members):
        chunk |= _answer(f"member.{place}.", manifest, part, is_logits=is_logits)
    for name, values in answers.uncertainty.items():
        chunk[f"uncertainty.{name}"] = np.asarray(values, dtype=np.float64).reshape(rows)
    return chunk


def actual_of(schema: DatasetSchema, targets: Array) -> Array | None:
    """Return the right answers: names of classes, or numbers; None where rows have no labels."""
    if schema.task == "unlabelled":
        return None
    return _names(schema.classes)[targets] if schema.classes else np.asarray(targets[:, 0], dtype=np.float32)


def _answer(prefix: str, manifest: VersionManifest, values: Array, *, is_logits: bool) -> dict[str, Array]:
    if manifest.task == "regression":
        return {f"{prefix}prediction": values[:, 0].astype(np.float32)}
    if is_logits:
        return {f"{prefix}logits": values.astype(np.float32)}
    label = _names(manifest.classes)[values.argmax(axis=1)]
    return {f"{prefix}label": label, f"{prefix}probabilities": values.astype(np.float32)}


def _parts(name: str, manifest: VersionManifest) -> tuple[str, ...]:
    prefix, _, last = name.rpartition(".")
    singular = {"probabilities": "probability", "logits": "logit"}.get(last)
    start = f"{prefix}." if prefix else ""
    return tuple(f"{start}{singular}.{label}" for label in manifest.classes) if singular else ()


def _names(classes: Sequence[str]) -> Array:
    return np.array(classes, dtype=f"<U{max(map(len, classes))}")
