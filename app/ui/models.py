"""Models: the registry, one model with its aliases, one version with its report."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.api.deps import Services, Wired
from app.api.pages import Pages
from app.api.v1.aliases import get_alias_history
from app.api.v1.lookup import NameInPath, VersionInPath, find_in_view
from app.api.v1.models import REPORT, get_model, list_models, list_versions, read_json_artifact
from app.api.v1.schemas import VersionOut, version_out
from app.db.registry import VersionRow
from app.domain.models import VersionKind
from app.domain.names import Reference
from app.plots.lineage import lineage
from app.plots.report import plot_titles, report_plots
from app.ui.rendering import Rendering

router = APIRouter(prefix="/ui", include_in_schema=False)
_MOST_ANCESTORS = 60


class Plot(NamedTuple):
    """Show one figure of a report."""

    name: str
    title: str
    svg: str


@router.get("/models")
def show_models(
    request: Request,
    wired: Wired,
    page: Pages,
    pages: Rendering,
    kind: Annotated[VersionKind | None, Query()] = None,
) -> HTMLResponse:
    """Show the models by name, each with its newest version."""
    found = list_models(request, wired, page, kind=kind)
    return pages.page("models.html", found=found, kind=kind, request=request)


@router.get("/models/{name}")
def show_model(request: Request, wired: Wired, name: NameInPath, page: Pages, pages: Rendering) -> HTMLResponse:
    """Show a model: its aliases, where they pointed, and its versions."""
    model = get_model(wired, name)
    return pages.page(
        "model.html",
        model=model,
        versions=list_versions(request, wired, name, page),
        histories={alias: get_alias_history(wired, name, alias) for alias in sorted(model.aliases)},
        request=request,
    )


@router.get("/models/{name}/versions/{version}")
def show_version(wired: Wired, name: NameInPath, version: VersionInPath, pages: Rendering) -> HTMLResponse:
    """Show a version: what was measured on it, and what it was made from."""
    row = find_in_view(wired, Reference(name, version))
    report = read_json_artifact(wired, row, REPORT)
    shown = version_out(row)
    return pages.page(
        "version.html",
        version=shown,
        report=report,
        plots=draw_plots(report, shown.classes),
        by_class=_by_class(report, shown.classes),
        lineage=_lineage(wired, shown),
    )


def draw_plots(report: Mapping[str, Any], classes: Sequence[str]) -> list[Plot]:
    """Return the figures of a report in order."""
    titles = plot_titles(report)
    return [Plot(name, titles[name], svg) for name, svg in report_plots(report, classes).items()]


def _by_class(report: Mapping[str, Any], classes: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(zip(classes, report.get("quality", {}).get("by_class", ()), strict=False))


def _lineage(wired: Services, version: VersionOut) -> str:
    """Draw what a version was made from, through all generations, and what was made from it."""
    nodes: dict[str, dict[str, Any]] = {}
    edges: list[dict[str, str]] = []
    pending = [version.id]
    while pending and len(nodes) < _MOST_ANCESTORS:
        here = wired.view.by_id(pending.pop())
        if here is None or here.id in nodes:
            continue
        nodes[here.id] = _node(here, chosen=here.id == version.id)
        pending += [link.version_id for link in here.manifest.links]
        edges += [{"source": link.version_id, "target": here.id, "role": link.role} for link in here.manifest.links]
    for user in wired.view.every_version():
        roles = [link.role for link in user.manifest.links if link.version_id == version.id]
        if roles and user.id not in nodes and len(nodes) < 2 * _MOST_ANCESTORS:
            nodes[user.id] = _node(user)
            edges.append({"source": version.id, "target": user.id, "role": roles[0]})
    return lineage({"nodes": list(nodes.values()), "edges": edges}) if len(nodes) > 1 else ""


def _node(row: VersionRow, *, chosen: bool = False) -> dict[str, Any]:
    href = f"/ui/models/{row.name}/versions/{row.version}"
    label = f"{row.name}/{row.version}"
    return {"id": row.id, "label": label, "detail": row.manifest.method, "href": href, "chosen": chosen}
