"""The leaderboard: every model side by side, and which of them no other beats."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from app.api.deps import Wired
from app.db.registry import VersionRow
from app.domain.models import Metrics
from app.domain.names import NAME_PATTERN
from app.domain.pareto import pareto_front

router = APIRouter(prefix="/v1", tags=["models"])
Cost = Literal["latency", "bytes", "parameters", "macs"]
Quality = Literal["accuracy", "nll", "rmse"]
_COSTS: Mapping[Cost, Callable[[Metrics], float]] = {
    "latency": lambda metrics: metrics.latency_ms_batch_1,
    "bytes": lambda metrics: metrics.served_bytes,
    "parameters": lambda metrics: metrics.parameters,
    "macs": lambda metrics: metrics.macs,
}


class Entry(BaseModel):
    """One model on the leaderboard, measured on the exported file."""

    name: str
    version: int
    kind: str
    method: str
    dataset: str
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    nll: float | None
    rmse: float | None
    parameters: int
    macs: int
    bytes: int
    weights_bytes: int
    latency_ms: float
    latency_ms_batch_32: float
    pareto: bool


class Leaderboard(BaseModel):
    """The newest versions, the best first; `pareto` marks those that none beats in both x and y."""

    x: Cost
    y: Quality
    dataset: str | None
    models: list[Entry]


@router.get("/compare", summary="Compare models")
def compare_models(
    wired: Wired,
    dataset: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Only models of this data set.")] = None,
    x: Annotated[Cost, Query(description="What shall be small.")] = "latency",
    y: Annotated[Quality, Query(description="What shall be good.")] = "accuracy",
) -> Leaderboard:
    """Return every model's newest version with its figures, and the Pareto front of cost against quality."""
    wired.view.refresh()
    chosen = [row for row in wired.view.newest_versions() if dataset in (None, row.manifest.dataset)]
    measured = [row for row in chosen if getattr(row.manifest.metrics, y) is not None]
    costs = [(_COSTS[x](row.manifest.metrics), _loss(row, y)) for row in measured]
    ranked = sorted(zip(measured, pareto_front(costs), strict=True), key=lambda pair: _loss(pair[0], y))
    return Leaderboard(x=x, y=y, dataset=dataset, models=[_entry(row, pareto) for row, pareto in ranked])


def _loss(row: VersionRow, y: Quality) -> float:
    value = float(getattr(row.manifest.metrics, y))
    return -value if y == "accuracy" else value


def _entry(row: VersionRow, pareto: bool) -> Entry:
    metrics = row.manifest.metrics
    return Entry(
        name=row.name,
        version=row.version,
        kind=row.manifest.kind,
        method=row.manifest.method,
        dataset=row.manifest.dataset,
        accuracy=metrics.accuracy,
        accuracy_interval=metrics.accuracy_interval,
        nll=metrics.nll,
        rmse=metrics.rmse,
        parameters=metrics.parameters,
        macs=metrics.macs,
        bytes=metrics.served_bytes,
        weights_bytes=metrics.weights_bytes,
        latency_ms=metrics.latency_ms_batch_1,
        latency_ms_batch_32=metrics.latency_ms_batch_32,
        pareto=pareto,
    )
