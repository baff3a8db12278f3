"""Compare: accuracy, time and size of many versions, and which of them no other beats."""

from collections.abc import Sequence
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.api.deps import Services, Wired
from app.api.v1.compare import Comparison, Cost, Entry, Quality, compare, refuse_unknown
from app.db import datasets
from app.db.session import reading
from app.plots.parallel import parallel_coordinates
from app.plots.pareto import pareto
from app.ui.rendering import Rendering

router = APIRouter(prefix="/ui", include_in_schema=False)
_MOST_DRAWN = 200
_COSTS = ("latency", "bytes")
_AXES = ("latency", "bytes", "parameters")


@router.get("/compare")
def show_comparison(
    request: Request, wired: Wired, pages: Rendering, asked: Annotated[Comparison, Query()]
) -> HTMLResponse:
    """Show versions side by side."""
    refuse_unknown(request, Comparison)
    with reading(wired.sessions) as session:
        known = list(datasets.dataset_names(session))
    asked = _completed(wired, asked, known)
    found = compare(wired, asked)
    drawn = [_drawn(entry) for entry in found.models[:_MOST_DRAWN]]
    return pages.page(
        "compare.html",
        found=found,
        asked=asked,
        datasets=known,
        costs=get_args(Cost),
        qualities=get_args(Quality),
        fronts=[(cost, pareto(drawn, x=cost, y=found.y)) for cost in dict.fromkeys((*asked.x, *_COSTS))],
        parallel=parallel_coordinates(drawn, list(dict.fromkeys((asked.y, *_AXES, *asked.x)))),
    )


def _completed(wired: Services, asked: Comparison, known: Sequence[str]) -> Comparison:
    """Compare on the data set used last, and by what its task is measured in, unless asked otherwise."""
    used = [row.manifest for row in wired.view.every_version()]
    name = asked.dataset or (used[-1].dataset if used else next(iter(known), None))
    is_regression = any(manifest.dataset == name and manifest.task == "regression" for manifest in used)
    y = "rmse" if is_regression and asked.y == "accuracy" else asked.y
    return asked.model_copy(update={"dataset": name, "y": y})


def _drawn(entry: Entry) -> dict[str, Any]:
    figures = entry.model_dump(exclude={"indistinguishable_from"})
    return {**figures, "href": f"/ui/models/{entry.name}/versions/{entry.version}"}
