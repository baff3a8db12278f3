"""Operations: health, version, metrics, documentation, the meaning of problems."""

import time
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel, Field
from starlette.staticfiles import StaticFiles

from app import __version__
from app.api.deps import Services, Wired
from app.api.problems import Responses, documented
from app.api.v1.lookup import NameInPath
from app.db import jobs
from app.db.session import reading
from app.domain import errors
from app.domain.error_tree import all_errors
from app.domain.errors import LeanfuseError
from app.domain.jobs import PROTOCOL
from app.logging import get_logger
from app.metrics import CONTENT_TYPE

router = APIRouter(tags=["operations"])
STATIC = Path(__file__).parents[1] / "ui" / "static"
log = get_logger(__name__)


class Version(BaseModel):
    """What runs."""

    name: str
    version: str
    protocol: int
    parts: dict[str, str]


class Check(BaseModel):
    """Whether a part answers, and how quickly."""

    ok: bool
    milliseconds: float


class Readiness(BaseModel):
    """Whether the service can serve, part by part."""

    ready: bool
    checks: dict[str, Check]
    detail: str = Field("", description="What fails; only where it is not ready.")


class ProblemKind(BaseModel):
    """A kind of problem: what it means, and what to do about it."""

    slug: str
    title: str
    status: int
    meaning: str
    remedy: str = Field(description="What to do; the `hint` of a problem says it for the case at hand.")


_READINESS: Responses = {
    200: {"description": "Ready.", "model": Readiness},
    503: {"description": "Not ready: `detail` names what fails.", "model": Readiness},
}


@router.get("/livez", summary="Is the process alive?")
async def get_liveness() -> dict[str, bool]:
    """Answer, and do nothing else."""
    return {"live": True}


@router.get("/readyz", summary="Can it serve?", response_model=None, responses=_READINESS)
def get_readiness(wired: Wired) -> Response:
    """Check database, schema, registry view and store; 503 names what fails."""
    checks = {name: _measure(check, wired) for name, check in _CHECKS.items()}
    ready = all(check["ok"] for check in checks.values())
    failing = ", ".join(name for name, check in checks.items() if not check["ok"])
    body = {"ready": ready, "checks": checks} | ({} if ready else {"detail": f"Not ready: {failing}."})
    return JSONResponse(body, status_code=200 if ready else 503, headers={} if ready else {"Retry-After": "2"})


def _measure(check: Callable[[Services], bool], wired: Services) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        ok = check(wired)
    except (LeanfuseError, OSError) as failed:
        log.warning("readiness_check_failed", reason=str(failed))
        ok = False
    return {"ok": ok, "milliseconds": round(1000 * (time.perf_counter() - started), 2)}


def _check_database(wired: Services) -> bool:
    with reading(wired.sessions) as session:
        jobs.count_jobs(session)
    return True


def _check_store(wired: Services) -> bool:
    return not wired.store.contains("0" * 64)


_CHECKS: dict[str, Callable[[Services], bool]] = {
    "migrations": lambda wired: wired.is_current(),
    "database": _check_database,
    "store": _check_store,
    "registry": lambda wired: wired.view.loaded,
}


@router.get("/version", summary="What runs?")
async def get_service_version() -> Version:
    """Return the version of the service and of the parts that predict and store."""
    parts = {name: installed_version(name) for name in ("fastapi", "onnxruntime", "sqlalchemy", "numpy")}
    return Version(name="leanfuse", version=__version__, protocol=PROTOCOL, parts=parts)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
def get_metrics(wired: Wired) -> Response:
    """Return every metric in Prometheus' text format."""
    try:
        with reading(wired.sessions) as session:
            counts = jobs.count_jobs(session)
    except errors.UnavailableError:
        counts = {}
    return Response(wired.metrics.render(counts), media_type=CONTENT_TYPE)


@router.get("/problems", summary="Every kind of problem")
async def list_problems() -> list[ProblemKind]:
    """Return every kind of problem that an answer or a failed job may name."""
    return sorted(map(_describe, all_errors()), key=lambda kind: kind.slug)


@router.get(
    "/problems/{slug}",
    summary="What does a problem mean?",
    response_model=ProblemKind,
    responses={
        303: {"description": "To a browser: its page is there."},
        **documented(errors.NotFoundError),
    },
)
async def get_problem(
    slug: str, accept: Annotated[str, Header(description="`text/html` leads to a page to read.")] = ""
) -> Response:
    """Explain one kind of problem: to a program as JSON, to a browser as a page."""
    kind = next((kind for kind in all_errors() if kind.slug == slug), None)
    if kind is None:
        raise errors.NotFoundError(f"There is no problem {slug[:80]!r}.", hint="GET /problems lists them.")
    if prefers_html(accept):
        return RedirectResponse(f"/ui/problems/{slug}", 303, headers={"Vary": "Accept"})
    return JSONResponse(_describe(kind).model_dump(), headers={"Vary": "Accept"})


def prefers_html(accept: str) -> bool:
    """Tell whether an Accept header names HTML before JSON, as browsers do; programs name neither or JSON.

    >>> prefers_html("text/html,application/xhtml+xml,*/*;q=0.8"), prefers_html("*/*"), prefers_html("")
    (True, False, False)
    """
    types = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    first = next((kind for kind in types if kind in ("text/html", "application/json", "application/problem+json")), "")
    return first == "text/html"


def _describe(kind: type[LeanfuseError]) -> ProblemKind:
    meaning = " ".join((kind.__doc__ or "").split())
    return ProblemKind(slug=kind.slug, title=kind.title, status=kind.code, meaning=meaning, remedy=kind.remedy)


@router.get("/docs", include_in_schema=False)
def get_docs() -> HTMLResponse:
    """Show Swagger UI, from files of this package alone."""
    return HTMLResponse((STATIC / "docs.html").read_text(encoding="utf-8"))


@router.get("/docs/models/{name}", include_in_schema=False)
def get_model_docs(name: NameInPath) -> HTMLResponse:
    """Show Swagger UI on the document of one model; the script reads its name from the path."""
    page = (STATIC / "docs.html").read_text(encoding="utf-8")
    return HTMLResponse(page.replace('="static/', '="../../static/').replace("<title>", f"<title>{name} - "))


def install_static(app: FastAPI) -> None:
    """Serve the assets of the pages."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
