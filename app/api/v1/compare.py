"""The leaderboard: versions side by side, which of them no other beats, and the best that meets some limits."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, SkipValidation

from app.api.deps import Services, Wired
from app.api.problems import documented
from app.db import datasets
from app.db.registry import SERVED_STATES, VersionRow
from app.db.session import reading
from app.domain import errors, request_errors
from app.domain.errors import FieldError
from app.domain.explain import suggest
from app.domain.models import Metrics
from app.domain.names import NAME_PATTERN
from app.domain.pareto import Interval, Limit, overlapping, pareto_front, shortfalls

router = APIRouter(prefix="/v1", tags=["models"])
Cost = Literal["latency", "bytes", "gzip_bytes", "parameters", "macs", "memory"]
Quality = Literal["accuracy", "nll", "rmse", "brier", "ece"]
Most = Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)]
_FIGURES: Mapping[str, str] = {
    "latency": "latency_ms_batch_1",
    "bytes": "served_bytes",
    "memory": "peak_memory_bytes",
}
_LIMITS: Mapping[str, tuple[Cost | Quality, bool]] = {
    "max_latency_ms": ("latency", False),
    "max_bytes": ("bytes", False),
    "max_gzip_bytes": ("gzip_bytes", False),
    "max_parameters": ("parameters", False),
    "max_macs": ("macs", False),
    "max_memory_bytes": ("memory", False),
    "min_accuracy": ("accuracy", True),
    "max_nll": ("nll", False),
    "max_rmse": ("rmse", False),
}


class Comparison(BaseModel):
    """What is compared, and which limits the best has to meet."""

    dataset: str | None = Field(None, pattern=NAME_PATTERN, description="Only versions for this data set.")
    x: list[Cost] = Field(["latency"], min_length=1, max_length=6, description="What shall be small; may be repeated.")
    y: Quality = Field("accuracy", description="What shall be good.")
    versions: Literal["newest", "all"] = Field("newest", description="Of every model the newest version, or all.")
    include_rejected: bool = Field(default=False, description="Also versions that failed their gate.")
    max_latency_ms: Most | None = Field(None, description="Median for one row, on one thread.")
    max_bytes: Most | None = Field(None, description="Size of the file that answers.")
    max_gzip_bytes: Most | None = None
    max_parameters: Most | None = None
    max_macs: Most | None = None
    max_memory_bytes: Most | None = None
    min_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    max_nll: Most | None = None
    max_rmse: Most | None = None


class Entry(BaseModel):
    """One version on the leaderboard, measured on the exported file."""

    name: str
    version: int
    state: str
    rejected: str | None
    kind: str
    method: str
    dataset: str
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    nll: float | None
    rmse: float | None
    brier: float | None
    ece: float | None
    parameters: int
    macs: int
    bytes: int
    gzip_bytes: int | None
    weights_bytes: int
    latency_ms: float
    latency_ms_batch_32: float
    memory_bytes: int | None
    pareto: bool = Field(description="No other version of its data set is as good in every x and y and better in one.")
    # Hundreds of names for each of hundreds of versions, all made here.
    indistinguishable_from: SkipValidation[list[str]] = Field(
        description="Versions of the front whose 95 % interval of the accuracy overlaps this one's."
    )


class Miss(BaseModel):
    """A limit that was not met."""

    limit: float
    value: float


class NearestMiss(BaseModel):
    """The version that misses the limits by least, in sum of the shares of each."""

    name: str
    version: int
    misses: dict[str, Miss]


class Leaderboard(BaseModel):
    """Versions, the best first; `pareto` marks those that none of the same data set beats in all of x and y."""

    x: list[Cost]
    y: Quality
    versions: Literal["newest", "all"]
    dataset: str | None
    limits: dict[str, float] = Field(description="The limits that were asked for.")
    best: Entry | None = Field(description="The best in y that meets the limits; none over several data sets.")
    nearest_miss: NearestMiss | None = Field(description="When no version meets the limits: the one nearest to it.")
    models: list[Entry]
    left_out: int = Field(description="Versions for which a figure of x or y was not measured.")


class _Ranked(NamedTuple):
    row: VersionRow
    loss: float
    pareto: bool
    near: Sequence[str]


@router.get(
    "/compare",
    summary="Compare models",
    responses=documented(
        errors.DatasetNotFoundError,
        errors.UnknownFieldError,
        errors.UnknownComponentError,
        request_errors.NonFiniteNumberError,
    ),
)
def compare_models(request: Request, wired: Wired, asked: Annotated[Comparison, Query()]) -> Leaderboard:
    """Return versions with their figures, the Pareto front of costs against quality, and the best within limits."""
    refuse_unknown(request, Comparison)
    return compare(wired, asked)


def compare(wired: Services, asked: Comparison) -> Leaderboard:
    """Return the leaderboard that was asked for; raise DatasetNotFoundError."""
    if asked.dataset is not None:
        _check_dataset(wired, asked.dataset)
    wired.view.refresh()
    chosen = _chosen(wired.view.every_version(), asked)
    measured = [row for row in chosen if None not in (_figure(row, asked.y), *_costs(row, asked))]
    ranked = _rank(measured, asked)
    limits = {name: float(bound) for name in _LIMITS if (bound := getattr(asked, name)) is not None}
    best, nearest = _best(ranked, limits)
    return Leaderboard(
        x=list(dict.fromkeys(asked.x)),
        y=asked.y,
        versions=asked.versions,
        dataset=asked.dataset,
        limits=limits,
        best=best,
        nearest_miss=nearest,
        models=[_entry(item) for item in ranked],
        left_out=len(chosen) - len(measured),
    )


def refuse_unknown(request: Request, known: type[Comparison]) -> None:
    """Refuse a limit that would silently limit nothing."""
    for name in request.query_params:
        if name not in known.model_fields:
            kind = errors.UnknownFieldError
            detail = f"There is no parameter `{name[:60]}` here."
            hint = suggest(name, tuple(known.model_fields))
            raise kind(detail, hint=hint, errors=[FieldError(f"/query/{name[:60]}", detail, kind.slug)])


def _check_dataset(wired: Services, name: str) -> None:
    with reading(wired.sessions) as session:
        known = datasets.dataset_names(session)
    if name not in known:
        kind = errors.DatasetNotFoundError
        detail = f"There is no data set {name!r}."
        raise kind(detail, hint=suggest(name, known), errors=[FieldError("/query/dataset", detail, kind.slug)])


def _chosen(rows: Sequence[VersionRow], asked: Comparison) -> list[VersionRow]:
    states = (*SERVED_STATES, "rejected") if asked.include_rejected else SERVED_STATES
    found = [row for row in rows if row.state in states and asked.dataset in (None, row.manifest.dataset)]
    if asked.versions == "all":
        return found
    # Later versions come later, so that the last of a name stays.
    return list({row.name: row for row in found}.values())


def _figure(row: VersionRow, name: str) -> float | None:
    value: float | None = getattr(row.manifest.metrics, _FIGURES.get(name, name))
    return value


def _costs(row: VersionRow, asked: Comparison) -> list[float | None]:
    return [_figure(row, cost) for cost in asked.x]


def _loss(row: VersionRow, y: Quality) -> float:
    value = _figure(row, y) or 0.0
    return -value if y == "accuracy" else value


def _rank(rows: Sequence[VersionRow], asked: Comparison) -> list[_Ranked]:
    """Mark the front of every data set: rows of different data sets cannot be compared."""
    by_dataset: dict[str, list[VersionRow]] = defaultdict(list)
    for row in rows:
        by_dataset[row.manifest.dataset].append(row)
    ranked = [item for group in by_dataset.values() for item in _rank_alike(group, asked)]
    return sorted(ranked, key=lambda item: (item.loss, *(_figure(item.row, cost) or 0.0 for cost in asked.x)))


def _rank_alike(rows: Sequence[VersionRow], asked: Comparison) -> list[_Ranked]:
    losses = [_loss(row, asked.y) for row in rows]
    costs = [[*(cost or 0.0 for cost in _costs(row, asked)), loss] for row, loss in zip(rows, losses, strict=True)]
    front = pareto_front(costs)
    intervals = [_interval(row.manifest.metrics) for row in rows]
    near = overlapping(intervals, [place for place, on_it in enumerate(front) if on_it])
    references = [f"{row.name}/{row.version}" for row in rows]
    return [
        _Ranked(row, loss, on_it, [references[place] for place in places])
        for row, loss, on_it, places in zip(rows, losses, front, near, strict=True)
    ]


def _interval(metrics: Metrics) -> Interval | None:
    return metrics.accuracy_interval


def _best(ranked: Sequence[_Ranked], limits: Mapping[str, float]) -> tuple[Entry | None, NearestMiss | None]:
    """Return the best that meets the limits, or else what misses them by least."""
    names = sorted({item.row.manifest.dataset for item in ranked})
    if len(names) > 1:
        if limits:
            raise _several_datasets(names)
        return None, None
    missed: list[tuple[float, _Ranked, list[str]]] = []
    bounds = [Limit(name, bound, _LIMITS[name][1]) for name, bound in limits.items()]
    for item in ranked:
        found = shortfalls(bounds, {name: _figure(item.row, _LIMITS[name][0]) for name in limits})
        if found == {}:
            return _entry(item), None
        if found is not None:
            missed.append((sum(found.values()), item, list(found)))
    if not missed:
        return None, None
    _, nearest, names = min(missed, key=lambda miss: miss[0])
    misses = {name: Miss(limit=limits[name], value=_figure(nearest.row, _LIMITS[name][0]) or 0.0) for name in names}
    return None, NearestMiss(name=nearest.row.name, version=nearest.row.version, misses=misses)


def _several_datasets(names: Sequence[str]) -> errors.InvalidRequestError:
    kind = errors.InvalidRequestError
    detail = "There are versions of several data sets, and the best of one cannot be compared with that of another."
    hint = f"Say which with `dataset`: {', '.join(names[:10])}."
    return kind(detail, hint=hint, errors=[FieldError("/query/dataset", detail, kind.slug)])


def _entry(item: _Ranked) -> Entry:
    manifest, metrics = item.row.manifest, item.row.manifest.metrics
    return Entry(
        name=item.row.name,
        version=item.row.version,
        state=item.row.state,
        rejected=manifest.rejected,
        kind=manifest.kind,
        method=manifest.method,
        dataset=manifest.dataset,
        bytes=metrics.served_bytes,
        latency_ms=metrics.latency_ms_batch_1,
        memory_bytes=metrics.peak_memory_bytes,
        pareto=item.pareto,
        indistinguishable_from=list(item.near),
        **{name: getattr(metrics, name) for name in _SHOWN},
    )


_SHOWN = (
    *("accuracy", "accuracy_interval", "nll", "rmse", "brier", "ece"),
    *("parameters", "macs", "gzip_bytes", "weights_bytes", "latency_ms_batch_32"),
)
