"""Jobs: the list, one job live, and a form for a new one."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse

from app.api.deps import Services, Wired
from app.api.pages import Pages
from app.api.v1.examples import JOB_SPECS
from app.api.v1.jobs import Kind, list_jobs
from app.api.v1.schemas import JobOut, job_out
from app.db import datasets, events, jobs
from app.db.pages import PageRequest
from app.db.session import reading
from app.db.tables import JobEvent
from app.domain.jobs import State
from app.domain.validation import job_spec_schema
from app.ui.rendering import Rendering

router = APIRouter(prefix="/ui", include_in_schema=False)
_STATES: tuple[State, ...] = ("queued", "running", "succeeded", "failed", "cancelled")
_KINDS = ("train", "optimize", "ensemble", "search", "import", "predict")
_MOST_CHILDREN = 100
_LOG_LINES = 200


@router.get("/jobs")
def show_jobs(
    request: Request,
    wired: Wired,
    page: Pages,
    pages: Rendering,
    state: Annotated[State | None, Query()] = None,
    kind: Annotated[Kind | None, Query()] = None,
) -> HTMLResponse:
    """Show the jobs, the newest first."""
    found = list_jobs(request, wired, page, state=state, kind=kind)
    return pages.page(
        "jobs.html", found=found, chosen_state=state, chosen_kind=kind, states=_STATES, kinds=_KINDS, request=request
    )


@router.get("/jobs/new")
def show_new_job(wired: Wired, pages: Rendering, example: str = "train") -> HTMLResponse:
    """Show a form that is made of the schema of a job spec, with examples to begin with."""
    with reading(wired.sessions) as session:
        known = list(datasets.dataset_names(session))
    models = sorted({row.name for row in wired.view.every_version()})
    chosen = example if example in JOB_SPECS else "train"
    return pages.page("new_job.html", examples=JOB_SPECS, chosen=chosen, datasets=known, models=models)


@router.get("/job-spec.json")
def get_spec_schema() -> JSONResponse:
    """Return the JSON schema of a job spec, of which the form is made."""
    return JSONResponse(job_spec_schema())


@router.get("/jobs/{job_id:uuid}")
def show_job(wired: Wired, job_id: UUID, pages: Rendering) -> HTMLResponse:
    """Show one job; a script follows it."""
    job, children = _load(wired, str(job_id))
    with reading(wired.sessions) as session:
        found = events.list_events(session, str(job_id), limit=10_000)
    logged = [event for event in found if event.type == "log"][-_LOG_LINES:]
    metrics = [event.data for event in found if event.type == "metric"]
    return pages.page("job.html", job=job, children=children, logged=logged, metrics=metrics, last=_last_id(found))


@router.get("/parts/jobs/{job_id:uuid}/members")
def show_members(wired: Wired, job_id: UUID, pages: Rendering) -> HTMLResponse:
    """Show the jobs of an ensemble's members alone; the page asks for them again and again."""
    return pages.page("parts/children.html", children=_load(wired, str(job_id))[1])


def _load(wired: Services, job_id: str) -> tuple[JobOut, list[JobOut]]:
    with reading(wired.sessions) as session:
        job = job_out(jobs.get_job(session, job_id), jobs.dependencies(session, job_id))
        page = jobs.list_jobs(session, PageRequest(size=_MOST_CHILDREN), jobs.JobFilter(parent_id=job_id))
        children = [job_out(row) for row in page.items]
    return job, sorted(children, key=lambda child: child.created_at)


def _last_id(found: list[JobEvent]) -> int:
    return found[-1].id if found else 0
