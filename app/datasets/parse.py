"""From files to written sets: what the jailed child does."""

from collections.abc import Sequence

import numpy as np

from app.datasets.builtin import read_builtin
from app.datasets.messages import Answer, Request
from app.datasets.options import IngestOptions
from app.datasets.readers.csv import read_csv
from app.datasets.readers.folders import read_zip
from app.datasets.rows import Array, RawRows, Rows, gather
from app.datasets.split import SET_NAMES, TRAIN, Assignment, assign_sets, hash_rows
from app.datasets.weights import check_sets_weigh
from app.datasets.write import arrange, describe, train_ranks, write_sets
from app.domain.datasets import DatasetSchema

STRATA_OF_A_REGRESSION = 10


def parse(request: Request) -> Answer:
    """Read the files, split the rows, write the sets under `request.output`, describe them."""
    options = request.options
    rows = gather(_read(request), options)
    hashes = hash_rows(rows.x)
    assignment = _assign(rows, hashes, options)
    if rows.weights is not None:
        check_sets_weigh(rows.weights, assignment.sets)
    indices = arrange(rows, assignment.sets, options.seed)
    write_sets(rows, hashes, indices, request.output)
    return Answer(
        dataset_schema=_describe_schema(rows, indices),
        statistics=None if rows.features == "text" else describe(rows.x, indices[0]),
        notes=(*rows.notes, *assignment.notes),
    )


def _read(request: Request) -> list[RawRows]:
    options, limits = request.options, request.limits
    if request.builtin is not None:
        return [read_builtin(request.builtin, request.files, limits)]
    read = {"csv": read_csv, "zip": read_zip}
    return [read[kind](path, options, limits) for path, kind in zip(request.files, request.formats, strict=True)]


def _assign(rows: Rows, hashes: Array, options: IngestOptions) -> Assignment:
    if rows.task == "unlabelled":
        return Assignment(np.full(len(hashes), TRAIN))
    return assign_sets(
        hashes,
        _strata(rows),
        split=options.split,
        seed=options.seed,
        groups=rows.groups,
        order=rows.order,
        official=rows.official,
    )


def _strata(rows: Rows) -> Array:
    """Return the class of each row, or, for a regression, the tenth of the targets that it lies in."""
    if rows.task == "classification":
        return rows.targets
    values = rows.targets[:, 0]
    edges = np.quantile(values, np.linspace(0, 1, STRATA_OF_A_REGRESSION + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def _describe_schema(rows: Rows, indices: Sequence[Array]) -> DatasetSchema:
    counts = {part: int(ranks.max()) + 1 for part, ranks in train_ranks(rows, indices[TRAIN]).items()}
    return DatasetSchema.model_validate(
        {
            "features": rows.features,
            "shape": rows.x.shape[1:],
            "dtype": rows.x.dtype.name,
            "task": rows.task,
            "classes": rows.classes,
            "rows": {name: len(chosen) for name, chosen in zip(SET_NAMES, indices, strict=True)},
            "sample_rate": rows.sample_rate,
            "columns": rows.columns,
            "row_weights": rows.weights is not None,
            "train_groups": counts.get("group", 0),
            "train_times": counts.get("order", 0),
        }
    )
