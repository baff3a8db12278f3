"""Compare: accuracy, time and size of many versions, and which of them no other beats."""

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.api.deps import Wired
from app.api.v1.compare import Comparison, Cost, Entry, Quality, compare_models
from app.db import datasets
from app.db.session import reading
from app.plots.parallel import parallel_coordinates
from app.plots.pareto import pareto
from app.ui.rendering import Rendering

router = APIRouter(prefix="/ui", include_in_schema=False)
_MOST_DRAWN = 200
_AXES = ("latency", "bytes", "parameters")


@router.get("/compare")
def show_comparison(
    request: Request, wired: Wired, pages: Rendering, asked: Annotated[Comparison, Query()]
) -> HTMLResponse:
    """Show versions side by side."""
    with reading(wired.sessions) as session:
        known = list(datasets.dataset_names(session))
    if asked.dataset is None and known:
        used = [row.manifest.dataset for row in wired.view.every_version()]
        asked = asked.model_copy(update={"dataset": used[-1] if used else known[0]})
    found = compare_models(request, wired, asked)
    drawn = [_drawn(entry) for entry in found.models[:_MOST_DRAWN]]
    axes = list(dict.fromkeys([asked.y, *_AXES, *asked.x]))
    return pages.page(
        "compare.html",
        found=found,
        asked=asked,
        datasets=known,
        costs=get_args(Cost),
        qualities=get_args(Quality),
        front=pareto(drawn, x=asked.x[0], y=asked.y),
        parallel=parallel_coordinates(drawn, axes),
    )


def _drawn(entry: Entry) -> dict[str, Any]:
    return {**entry.model_dump(), "href": f"/ui/models/{entry.name}/versions/{entry.version}"}
