"""The first page: what runs, what is best, and how to begin."""

from collections.abc import Sequence
from itertools import groupby

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from app.api.deps import Services, Wired
from app.api.v1.compare import Comparison, Entry, Quality, compare
from app.api.v1.schemas import JobOut, job_out
from app.db import jobs
from app.db.jobs import JobFilter
from app.db.pages import PageRequest
from app.db.session import reading
from app.domain.jobs import State
from app.plots.style import page_style
from app.ui.rendering import Rendering

router = APIRouter(include_in_schema=False)
_BEST_OF_A_DATASET = 6
_RECENT_JOBS = 8
_QUALITIES: tuple[Quality, ...] = ("accuracy", "rmse")
_MOST_RUNNING = 20
_STATES: tuple[State, ...] = ("running", "queued", "succeeded", "failed", "cancelled")


@router.get("/")
def show_overview(wired: Wired, pages: Rendering) -> HTMLResponse:
    """Show running jobs and the leaderboard."""
    return pages.page(
        "overview.html",
        running=running_jobs(wired),
        counts=_counts(wired),
        recent=_jobs(wired, JobFilter(), _RECENT_JOBS),
        boards=_boards(wired),
    )


@router.get("/ui/plots.css")
def get_plot_style() -> Response:
    """Return the style sheet of the figures, in both themes."""
    return Response(page_style(), media_type="text/css")


@router.get("/ui/parts/running")
def show_running(wired: Wired, pages: Rendering) -> HTMLResponse:
    """Show the running jobs alone; the page asks for them again and again."""
    return pages.page("parts/running.html", running=running_jobs(wired), counts=_counts(wired))


def running_jobs(wired: Services) -> list[JobOut]:
    """Return the jobs that run, members' jobs among them, and what waits for them."""
    running = _jobs(wired, JobFilter(state="running", children=True), _MOST_RUNNING)
    return running + _jobs(wired, JobFilter(state="queued"), _MOST_RUNNING - len(running) + 1)


def _jobs(wired: Services, chosen: JobFilter, most: int) -> list[JobOut]:
    with reading(wired.sessions) as session:
        return [job_out(row) for row in jobs.list_jobs(session, PageRequest(size=most), chosen).items]


def _counts(wired: Services) -> dict[str, int]:
    with reading(wired.sessions) as session:
        counted = jobs.count_jobs(session)
    return {state: sum(count for (found, _), count in counted.items() if found == state) for state in _STATES}


def _boards(wired: Services) -> list[tuple[str, Sequence[Entry]]]:
    """Return the best versions of every data set: of a classification by accuracy, of a regression by RMSE."""
    found = [entry for y in _QUALITIES for entry in compare(wired, Comparison(y=y)).models]
    found.sort(key=lambda entry: entry.dataset)
    return [(name, list(group)[:_BEST_OF_A_DATASET]) for name, group in groupby(found, key=lambda entry: entry.dataset)]
