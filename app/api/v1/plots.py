"""Figures: of a version's report, of the leaderboard, of a job's learning."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from app.api.deps import Services, Wired
from app.api.problems import documented
from app.api.v1.compare import Comparison, compare, refuse_unknown
from app.api.v1.downloads import IfNoneMatch
from app.api.v1.lookup import NameInPath, VersionInPath, find_in_view
from app.api.v1.models import REPORT, read_json_artifact
from app.api.v1.rendering import Form, ThemeAsked, described, send_figure
from app.db import events, jobs
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain import errors
from app.domain.names import Reference
from app.plots.curves import learning_curves
from app.plots.parallel import parallel_coordinates
from app.plots.pareto import pareto
from app.plots.report import plot_titles, report_plot
from app.plots.style import Theme

router = APIRouter(prefix="/v1")
PlotInPath = Annotated[str, Path(pattern=r"^[a-z-]{1,40}$", description="Name of the figure, as the list has it.")]
_MOST_EVENTS = 10_000
_REFUSALS = (errors.ModelNotFoundError, errors.ModelDeletedError, errors.ArtifactCorruptedError)
_COMPARED = (errors.DatasetNotFoundError, errors.UnknownFieldError, errors.UnknownComponentError)


class PlotOut(BaseModel):
    """A figure and where it is to be had, as SVG and as PNG; both take `theme=dark`."""

    name: str
    title: str
    svg: str
    png: str


class PlotList(BaseModel):
    """The figures of a version: what its report has numbers for."""

    plots: list[PlotOut]


class ComparisonPlot(Comparison):
    """What is compared, and the colours to draw it in."""

    theme: Theme = Field("light", description="Colours for a light or for a dark page.")


@router.get(
    "/models/{name}/versions/{version}/plots",
    summary="List the figures of a version",
    tags=["models"],
    responses=documented(*_REFUSALS),
)
def list_plots(wired: Wired, name: NameInPath, version: VersionInPath) -> PlotList:
    """Return the figures that a version's report has numbers for."""
    row = find_in_view(wired, Reference(name, version))
    titles = plot_titles(read_json_artifact(wired, row, REPORT))
    place = f"/v1/models/{name}/versions/{version}/plots"
    return PlotList(
        plots=[
            PlotOut(name=plot, title=title, svg=f"{place}/{plot}.svg", png=f"{place}/{plot}.png")
            for plot, title in titles.items()
        ]
    )


@router.get(
    "/models/{name}/versions/{version}/plots/{plot}.svg",
    summary="Figure of a version, as SVG",
    tags=["models"],
    response_class=Response,
    responses={**described("svg"), **documented(*_REFUSALS)},
)
def get_plot_svg(
    wired: Wired,
    name: NameInPath,
    version: VersionInPath,
    plot: PlotInPath,
    theme: ThemeAsked = "light",
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Draw a figure of a version's report."""
    row = find_in_view(wired, Reference(name, version))
    return send_figure(_draw(wired, row, plot), "svg", theme, if_none_match)


@router.get(
    "/models/{name}/versions/{version}/plots/{plot}.png",
    summary="Figure of a version, as PNG",
    tags=["models"],
    response_class=Response,
    responses={**described("png"), **documented(*_REFUSALS)},
)
def get_plot_png(
    wired: Wired,
    name: NameInPath,
    version: VersionInPath,
    plot: PlotInPath,
    theme: ThemeAsked = "light",
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Draw a figure of a version's report as a picture, for documents and mail that show no SVG."""
    row = find_in_view(wired, Reference(name, version))
    return send_figure(_draw(wired, row, plot), "png", theme, if_none_match)


def _draw(wired: Services, row: VersionRow, plot: str) -> str:
    report = read_json_artifact(wired, row, REPORT)
    svg = report_plot(report, plot, row.manifest.classes)
    if svg is None:
        known = ", ".join(plot_titles(report)) or "none: its report has no numbers to draw"
        raise errors.NotFoundError(f"{row.name}/{row.version} has no figure {plot!r}.", hint=f"It has {known}.")
    return svg


@router.get(
    "/compare/plot.svg",
    summary="Draw the comparison of models, as SVG",
    tags=["models"],
    response_class=Response,
    responses={**described("svg"), **documented(*_COMPARED)},
)
def get_comparison_svg(
    request: Request, wired: Wired, asked: Annotated[ComparisonPlot, Query()], if_none_match: IfNoneMatch = ""
) -> Response:
    """Draw what `/v1/compare` tells: quality by one cost with the front, or all figures side by side for several."""
    return _send_comparison(request, wired, asked, if_none_match, form="svg")


@router.get(
    "/compare/plot.png",
    summary="Draw the comparison of models, as PNG",
    tags=["models"],
    response_class=Response,
    responses={**described("png"), **documented(*_COMPARED)},
)
def get_comparison_png(
    request: Request, wired: Wired, asked: Annotated[ComparisonPlot, Query()], if_none_match: IfNoneMatch = ""
) -> Response:
    """Draw what `/v1/compare` tells, as a picture."""
    return _send_comparison(request, wired, asked, if_none_match, form="png")


def _send_comparison(
    request: Request, wired: Services, asked: ComparisonPlot, if_none_match: str, *, form: Form
) -> Response:
    refuse_unknown(request, ComparisonPlot)
    found = compare(wired, asked)
    entries = [entry.model_dump() for entry in found.models]
    if len(found.x) == 1:
        svg = pareto(entries, x=found.x[0], y=found.y)
    else:
        svg = parallel_coordinates(entries, [found.y, *found.x])
    return send_figure(svg, form, asked.theme, if_none_match)


@router.get(
    "/jobs/{job_id:uuid}/plot.svg",
    summary="Draw how a job learns",
    tags=["jobs"],
    response_class=Response,
    responses={**described("svg"), **documented(errors.JobNotFoundError)},
)
def get_job_plot(wired: Wired, job_id: UUID, theme: ThemeAsked = "light", if_none_match: IfNoneMatch = "") -> Response:
    """Draw losses and accuracies by epoch, as far as the job has come."""
    with reading(wired.sessions) as session:
        jobs.get_job(session, str(job_id))
        found = events.list_events(session, str(job_id), limit=_MOST_EVENTS)
    history = _newest_by_epoch([event.data for event in found if event.type == "metric"])
    return send_figure(learning_curves(history), "svg", theme, if_none_match)


def _newest_by_epoch(told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per epoch: an attempt that resumed tells of some a second time."""
    newest = {entry["epoch"]: entry for entry in told if isinstance(entry.get("epoch"), int)}
    return [newest[epoch] for epoch in sorted(newest)]
