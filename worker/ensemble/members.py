"""The members of an ensemble: registered graphs and their answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import InvalidEnsembleError, ShapeMismatchError
from app.domain.fusion import mean_squared_error, negative_log_likelihood
from app.domain.models import Link, Metrics, served_file
from app.serving.runtime import load_engine, predict_rows
from worker.assignment import VersionInput
from worker.package import Product
from worker.rows import Array, Data


@dataclass(frozen=True)
class Member:
    """Name a member's graph and identity; a member made by the same job has the id `#0`, `#1`... and no version."""

    version_id: str
    name: str
    version: int | None
    digest: str
    graph: Path
    metrics: Metrics

    @property
    def label(self) -> str:
        """Return the member's name as a reference."""
        return self.name if self.version is None else f"{self.name}/{self.version}"

    def link(self, position: int, weight: float | None) -> Link:
        """Return the link from an ensemble to this member."""
        return Link(role="member", version_id=self.version_id, position=position, weight=weight)


def registered_members(versions: Sequence[VersionInput], data: Data) -> list[Member]:
    """Return registered versions as members; raise when one does not fit the data set."""
    if not versions:
        raise InvalidEnsembleError("An ensemble needs at least one member.")
    for version in versions:
        check_fit(version, data)
    return [
        Member(item.version_id, item.name, item.version, item.digest, _graph_of(item), item.manifest.metrics)
        for item in versions
    ]


def made_members(products: Sequence[Product]) -> list[Member]:
    """Return versions that the same job made, in their order, as members."""
    return [
        Member(
            f"#{place}",
            product.name_hint,
            None,
            product.manifest.digest,
            product.directory / served_file(product.manifest.files),
            product.manifest.metrics,
        )
        for place, product in enumerate(products)
    ]


def _graph_of(version: VersionInput) -> Path:
    return version.files[served_file(version.files)]


def check_fit(version: VersionInput, data: Data) -> None:
    """Raise ShapeMismatchError when a version does not take the rows of a data set or answers something else."""
    schema, manifest = data.dataset_schema, version.manifest
    taken, wanted = (manifest.task, manifest.classes), (schema.task, schema.classes)
    if manifest.input.shape != schema.shape or manifest.input.dtype != data.input_dtype:
        raise ShapeMismatchError(
            f"{version.name}/{version.version} takes {manifest.input.dtype} rows of shape {manifest.input.shape}; "
            f"the data set has {data.input_dtype} rows of shape {schema.shape}."
        )
    if taken != wanted:
        raise ShapeMismatchError(
            f"{version.name}/{version.version} answers {manifest.task} of {len(manifest.classes)} classes; "
            f"the data set needs {schema.task} of {len(schema.classes)}, in the same order."
        )


def answers_of(graphs: Sequence[Path], rows: Array, output: str) -> NDArray[np.float64]:
    """Return the answers (graphs, rows, outputs) of exported graphs for raw rows."""
    return np.stack([predict_rows(load_engine(graph), rows, output) for graph in graphs]).astype(np.float64)


def loss_of(answers: NDArray[Any], targets: Array, data: Data, *, row_weights: Array | None = None) -> float:
    """Return the mean -log p, or the mean squared error, of answers (rows, outputs), by row weight where given."""
    if data.classification:
        return negative_log_likelihood(answers, np.asarray(targets), row_weights=row_weights)
    return mean_squared_error(answers, np.asarray(targets).reshape(answers.shape), row_weights=row_weights)


def best_of(answers: NDArray[Any], targets: Array, data: Data) -> int:
    """Return the place of the member that a fusion is compared with: the most accurate one on these very rows.

    Chosen in hindsight it is harder to beat than one chosen beforehand, so the comparison never flatters the fusion.
    """
    if not data.classification:
        return int(np.argmin([loss_of(member, targets, data) for member in answers]))
    return int(np.argmax((answers.argmax(axis=2) == targets).mean(axis=1)))
