"""The process that does one batch prediction: `python -m worker.batch.predictor`. It never imports Keras.

It lives as a trainer does (`worker.trainer`): one assignment from stdin, JSON lines on stdout. It keeps no checkpoint;
an attempt that was cut short is done again from the first row.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import RowSet
from app.domain.models import served_file
from app.domain.predict_specs import PredictionFile
from app.domain.prediction_checks import sets_of
from app.serving.answering import Wanted, assemble, outputs_of
from app.serving.runtime import Engine, load_engine
from worker.assignment import BatchAssignment
from worker.batch.columns import Chunk, actual_of, describe_chunk, layout_of
from worker.batch.writers import open_writer
from worker.context import Reporter, Stopped
from worker.messages import Predicted
from worker.trainer import Inbox, Outbox, PipeReporter, fingerprint, lead, leave

BATCH_ROWS = 256
_MOST_CHUNK_ROWS = 16_384
_CHUNK_BYTES = 32 * 2**20

Array = NDArray[Any]


class _Stretch(NamedTuple):
    row_set: RowSet
    first: int
    last: int


def predict_batch(assignment: BatchAssignment, reporter: Reporter) -> Predicted:
    """Answer every row and write the file; raise Stopped when the reporter asked for it."""
    spec, version, schema = assignment.spec, assignment.version, assignment.dataset.dataset_schema
    engine = load_engine(version.files[served_file(version.files)], threads=assignment.limits.threads or 1)
    total = sum(schema.rows[name] for name in sets_of(spec.set))
    reporter.progress(0, total)
    path = assignment.output / f"predictions.{spec.format}"
    chunks = _chunks(assignment, engine, reporter, total)
    first = next(chunks)
    layout, classes = layout_of(first, version.manifest), version.manifest.classes
    with open_writer(spec.format, path, layout, classes=classes, scratch=assignment.scratch) as writer:
        writer.write(first)
        del first
        for chunk in chunks:
            writer.write(chunk)
    return Predicted(path=path, result=_describe(assignment, path, total))


def _chunks(assignment: BatchAssignment, engine: Engine, reporter: Reporter, total: int) -> Iterator[Chunk]:
    """Yield the answers of all rows, some thousand rows at a time."""
    size = chunk_rows(assignment)
    done = 0
    for row_set in sets_of(assignment.spec.set):
        count = assignment.dataset.dataset_schema.rows[row_set]
        for first in range(0, count, size):
            stretch = _Stretch(row_set, first, min(count, first + size))
            yield _answer(assignment, engine, reporter, stretch, (done, total))
            done += stretch.last - stretch.first


def chunk_rows(assignment: BatchAssignment) -> int:
    """Return how many rows are held at a time: fewer the more there is to say of each."""
    manifest = assignment.version.manifest
    outputs = len(outputs_of(manifest, _wanted(assignment)))
    bytes_per_row = 8 * outputs * max(1, len(manifest.classes)) + 4 * outputs * max(map(len, manifest.classes or [""]))
    return max(BATCH_ROWS, min(_MOST_CHUNK_ROWS, _CHUNK_BYTES // bytes_per_row))


def _answer(
    assignment: BatchAssignment, engine: Engine, reporter: Reporter, stretch: _Stretch, progress: tuple[int, int]
) -> Chunk:
    manifest, wanted, row_set = assignment.version.manifest, _wanted(assignment), stretch.row_set
    rows = _mapped(assignment.dataset.files[f"{row_set}_x"])
    names = outputs_of(manifest, wanted)
    found: list[list[Array]] = []
    for start in range(stretch.first, stretch.last, BATCH_ROWS):
        if reason := reporter.stop_requested():
            raise Stopped(reason, step=progress[0] + start - stretch.first)
        batch = rows[start : min(start + BATCH_ROWS, stretch.last)]
        found.append(engine.run(np.ascontiguousarray(batch, engine.dtype), names))
        reporter.progress(progress[0] + start + len(batch) - stretch.first, progress[1])
    answers = assemble(manifest, wanted, [np.concatenate(parts) for parts in zip(*found, strict=True)])
    targets = _mapped(assignment.dataset.files[f"{row_set}_y"])[stretch.first : stretch.last]
    actual = actual_of(assignment.dataset.dataset_schema, targets)
    return describe_chunk(answers, manifest, row_set=row_set, first=stretch.first, actual=actual)


def _wanted(assignment: BatchAssignment) -> Wanted:
    return Wanted(members=assignment.spec.members, uncertainty=assignment.spec.uncertainty)


def _mapped(path: Path) -> Array:
    mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _describe(assignment: BatchAssignment, path: Path, rows: int) -> PredictionFile:
    version, dataset = assignment.version, assignment.dataset
    return PredictionFile(
        format=assignment.spec.format,
        rows=rows,
        file=fingerprint(path),
        model=version.name,
        version=version.version,
        digest=version.digest,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        set=assignment.spec.set,
    )


def _work(given: bytes, outbox: Outbox, inbox: Inbox) -> Predicted:
    assignment = BatchAssignment.model_validate_json(given)
    seconds = assignment.limits.checkpoint_seconds
    reporter = PipeReporter(outbox, inbox, assignment.scratch, checkpoint_seconds=seconds)
    return predict_batch(assignment, reporter)


if __name__ == "__main__":
    leave(lead(lambda: _work))
