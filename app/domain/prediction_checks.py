"""Decide whether a batch prediction can work, before anything is written."""

from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from app.domain import errors
from app.domain.datasets import ROW_SETS, DatasetManifest, DatasetSchema, RowSet
from app.domain.errors import FieldError
from app.domain.names import parse_reference
from app.domain.pointing import pointing_at
from app.domain.predict_specs import ChosenRows, PredictSpec
from app.domain.validation import Catalogue, KnownVersion, missing_dataset

_ROWS_OF_A_TIMED_BATCH = 32


class PredictionEstimate(BaseModel):
    """Say what a batch prediction will cost."""

    model_config = ConfigDict(frozen=True)

    rows: int
    seconds: float = Field(description="By the version's measured time for 32 rows, on one thread.")


class CheckedPrediction(NamedTuple):
    """A batch prediction that can work: its version pinned, and what it will cost."""

    spec: PredictSpec
    estimate: PredictionEstimate
    dataset: DatasetManifest
    version: KnownVersion


def sets_of(chosen: ChosenRows) -> tuple[RowSet, ...]:
    """Return the sets that are predicted, in the order of the file's rows."""
    return ROW_SETS if chosen == "all" else (chosen,)


def check_prediction(spec: PredictSpec, catalogue: Catalogue) -> CheckedPrediction:
    """Return the spec with its version pinned (`name/3`); raise the InvalidInputError that names what is wrong."""
    manifest = catalogue.dataset(spec.dataset)
    if manifest is None:
        raise missing_dataset(spec.dataset, catalogue.dataset_names())
    schema = manifest.dataset_schema
    with pointing_at("/model"):
        known = _find(spec.model, catalogue)
        _check_fit(known, spec.dataset, schema)
    rows = sum(schema.rows.get(name, 0) for name in sets_of(spec.set))
    if rows == 0:
        detail = f"The set {spec.set!r} of {spec.dataset!r} has no rows."
        there = ", ".join(f"{name} ({count:,} rows)" for name, count in schema.rows.items() if count)
        wrong = [FieldError("/set", detail, errors.OutOfRangeError.slug)]
        raise errors.OutOfRangeError(detail, hint=f"Choose among: {there}.", errors=wrong)
    seconds = rows / _ROWS_OF_A_TIMED_BATCH * known.manifest.metrics.latency_ms_batch_32 / 1000
    pinned = spec.model_copy(update={"model": f"{known.name}/{known.version}"})
    return CheckedPrediction(pinned, PredictionEstimate(rows=rows, seconds=round(seconds, 3)), manifest, known)


def _find(text: str, catalogue: Catalogue) -> KnownVersion:
    known = catalogue.version(parse_reference(text))
    if known is None:
        raise errors.ReferenceNotFoundError(f"There is no model {text!r}.", hint="GET /v1/models lists them.")
    if known.state not in ("ready", "deprecated", "rejected"):
        raise errors.ModelNotReadyError(f"{text!r} is {known.state}.", hint="Name another version.")
    return known


def _check_fit(known: KnownVersion, dataset: str, schema: DatasetSchema) -> None:
    """Raise ShapeMismatchError unless the rows have the version's shape and every value has a place in its type."""
    taken = known.manifest.input
    if taken.shape == schema.shape and np.can_cast(schema.dtype, taken.dtype, "safe"):
        return
    raise errors.ShapeMismatchError(
        f"{known.name}/{known.version} takes {list(taken.shape)} {taken.dtype}; "
        f"rows of {dataset!r} have {list(schema.shape)} {schema.dtype}.",
        hint=f"Name a data set like {known.manifest.dataset!r}, which it was trained on.",
    )
