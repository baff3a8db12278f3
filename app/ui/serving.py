"""Serving: how long predictions take, how many rows run at once, what waits."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from prometheus_client.metrics_core import Metric

from app.api.deps import Services, Wired
from app.ui.histograms import Histogram, read_counts, read_histograms
from app.ui.rendering import Rendering

router = APIRouter(prefix="/ui", include_in_schema=False)
_BY_VERSION = ("model", "version")
_MOST_ROUTES = 12


class Served(NamedTuple):
    """What one version answered since the service started."""

    model: str
    version: str
    answered: int
    failed: int
    queue: Histogram
    run: Histogram
    rows: Histogram


class Route(NamedTuple):
    """What one path answered since the service started."""

    method: str
    path: str
    durations: Histogram
    refused: int
    failed: int


@router.get("/serving")
def show_serving(wired: Wired, pages: Rendering) -> HTMLResponse:
    """Show what is served, and how fast."""
    return pages.page("serving.html", **_measured(wired))


@router.get("/parts/serving")
def show_serving_part(wired: Wired, pages: Rendering) -> HTMLResponse:
    """Show the figures alone; the page asks for them again and again."""
    return pages.page("parts/serving.html", **_measured(wired))


def _measured(wired: Services) -> dict[str, Any]:
    families = wired.metrics.families()
    served = _served(families)
    batches = Histogram()
    for one in served:
        for bound, count in one.rows.counts.items():
            batches.counts[bound] = batches.counts.get(bound, 0.0) + count
    return {
        "served": served,
        "routes": _routes(families),
        "batches": [(bound, count) for bound, count in batches.buckets() if count],
        "loaded": sum(wired.predictor.is_loaded(row) for row in wired.view.every_version()),
        "waiting": wired.predictor.waiting_rows,
        "most_waiting": wired.settings.serving.most_waiting_rows,
    }


def _served(families: Sequence[Metric]) -> list[Served]:
    outcomes = read_counts(families, "leanfuse_predictions", (*_BY_VERSION, "outcome"))
    queue, run, rows = (
        read_histograms(families, f"leanfuse_{name}", _BY_VERSION)
        for name in ("prediction_queue_seconds", "prediction_run_seconds", "batch_rows")
    )
    versions = sorted({(model, version) for model, version, _ in outcomes})
    return [
        Served(
            model,
            version,
            answered=outcomes.get((model, version, "ok"), 0),
            failed=sum(
                count for (*one, outcome), count in outcomes.items() if one == [model, version] and outcome != "ok"
            ),
            queue=queue.get((model, version), Histogram()),
            run=run.get((model, version), Histogram()),
            rows=rows.get((model, version), Histogram()),
        )
        for model, version in versions
    ]


def _routes(families: Sequence[Metric]) -> list[Route]:
    codes = read_counts(families, "leanfuse_http_requests", ("method", "route", "code"))
    durations = read_histograms(families, "leanfuse_http_request_duration_seconds", ("method", "route"))
    found = [
        Route(
            method,
            path,
            one,
            refused=sum(n for (m, p, code), n in codes.items() if (m, p) == (method, path) and code.startswith("4")),
            failed=sum(n for (m, p, code), n in codes.items() if (m, p) == (method, path) and code.startswith("5")),
        )
        for (method, path), one in durations.items()
    ]
    return sorted(found, key=lambda route: route.durations.count, reverse=True)[:_MOST_ROUTES]
