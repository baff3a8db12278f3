"""Ensembles: which members, how much each counts, how they differ, and what the fusion gains."""

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

from app.api.deps import Services, Wired
from app.api.pages import Pages
from app.api.v1.ensembles import EnsembleOut, get_ensemble_version, list_ensembles
from app.api.v1.lookup import NameInPath, VersionInPath, find_in_view
from app.api.v1.models import REPORT, read_json_artifact
from app.domain.names import Reference
from app.ui.models import draw_plots
from app.ui.rendering import Rendering, Templates

_PLOTS = ("gain", "member-weights", "diversity")
router = APIRouter(prefix="/ui", include_in_schema=False)


@router.get("/ensembles")
def show_ensembles(request: Request, wired: Wired, page: Pages, pages: Rendering) -> HTMLResponse:
    """Show the ensembles, each with its gain over its best member."""
    return pages.page("ensembles.html", found=list_ensembles(request, wired, page), request=request)


@router.get("/ensembles/{name}/versions/{version}")
async def show_ensemble(wired: Wired, name: NameInPath, version: VersionInPath, pages: Rendering) -> HTMLResponse:
    """Show one version of an ensemble: members and weights, how they differ, and what the fusion gains."""
    ensemble = await get_ensemble_version(wired, name, version)
    return await run_in_threadpool(_show, wired, ensemble, pages)


def _show(wired: Services, ensemble: EnsembleOut, pages: Templates) -> HTMLResponse:
    report = read_json_artifact(wired, find_in_view(wired, Reference(ensemble.name, ensemble.version)), REPORT)
    method = report.get("method") or {}
    return pages.page(
        "ensemble.html",
        ensemble=ensemble,
        diversity=method.get("diversity") or {},
        values=[member.get("marginal_value") for member in method.get("members", ())],
        heaviest=max((member.weight or 0.0 for member in ensemble.members), default=0.0) or 1.0,
        plots=[plot for plot in draw_plots(report, ensemble.newest.classes) if plot.name in _PLOTS],
    )
