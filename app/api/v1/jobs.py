"""Jobs: submit, look, wait, cancel, retry."""

import asyncio
import time
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from pydantic import TypeAdapter
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from app.api.bodies import CHECKED_FIELDS, STRICT_JSON, read_json
from app.api.deps import Services, Wired
from app.api.idempotency import OptionalKey, fingerprint
from app.api.openapi import json_body
from app.api.pages import LISTING, Pages, refuse_unknown_filters
from app.api.problems import documented
from app.api.v1 import submission
from app.api.v1.downloads import IfNoneMatch, Offer, send_file
from app.api.v1.examples import JOB_SPECS
from app.api.v1.schemas import JobList, JobMetrics, JobOut, ValidatedSpec, job_out
from app.db import events, idempotency, jobs
from app.db.idempotency import Answer
from app.db.session import reading
from app.domain import errors, request_errors
from app.domain.job_errors import MethodNotApplicableError
from app.domain.jobs import TERMINAL_STATES, TOGETHER, State
from app.domain.predict_specs import MEDIA_TYPES, PREDICT, PredictionFile
from app.domain.prediction_checks import CheckedPrediction
from app.domain.specs import SubmittedSpec, submitted_spec_adapter
from app.domain.validation import CheckedSpec, parse_job_spec

router = APIRouter(prefix="/v1", tags=["jobs"])
_FILTERS = frozenset({"state", "kind", "name", "parent_id", "children"})
Kind = Literal["train", "train_together", "optimize", "ensemble", "search", "import", "predict"]
_LONGEST_WAIT_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_RETRY_AFTER_SECONDS = "2"
_MOST_METRICS = 10_000
_job_adapter = TypeAdapter(JobOut)
Body = Annotated[bytes, Depends(read_json)]


@router.post(
    "/jobs",
    status_code=202,
    summary="Submit a job",
    response_model=JobOut,
    openapi_extra=json_body("JobSpec", JOB_SPECS),
    responses={
        200: {"model": ValidatedSpec, "description": "With `validate_only`: the spec would be accepted."},
        **documented(
            *STRICT_JSON,
            *CHECKED_FIELDS,
            request_errors.InvalidIdempotencyKeyError,
            errors.ModelNotReadyError,
            errors.VersionRejectedError,
            request_errors.IdempotencyInProgressError,
            errors.UnknownComponentError,
            errors.InvalidNameError,
            errors.InvalidEnsembleError,
            MethodNotApplicableError,
            errors.DatasetNotFoundError,
            errors.ReferenceNotFoundError,
            errors.ShapeMismatchError,
            errors.ModelTooLargeError,
            errors.InvalidArchitectureError,
            request_errors.IdempotencyKeyReusedError,
            errors.ArtifactCorruptedError,
        ),
    },
)
def create_job(
    request: Request,
    wired: Wired,
    body: Body,
    key: OptionalKey,
    validate_only: Annotated[bool, Query(description="Only say whether the spec would be accepted.")] = False,
) -> Response:
    """Check a job spec completely, then accept it: whatever can be known to fail is answered here, at once."""
    spec = parse_job_spec(body)
    if validate_only:
        return _validated(wired, spec)
    request_sha256 = fingerprint(request, body)
    with wired.sessions.begin() as session:
        kept = idempotency.claim_key(session, key, request_sha256) if key else None
        if kept is not None:
            return accepted(kept.body, replayed=True)
        document = dump_job(submission.submit(session, _check(wired, session, spec)))
        if key:
            idempotency.keep_answer(session, key, Answer(202, document))
    wired.hinter.hint(document["id"])
    return accepted(document)


def _check(wired: Services, session: Session, spec: SubmittedSpec) -> CheckedSpec | CheckedPrediction:
    return submission.check(session, spec, store=wired.store, limits=wired.settings.limits)


def _validated(wired: Services, spec: SubmittedSpec) -> Response:
    with reading(wired.sessions) as session:
        checked = _check(wired, session, spec)
    if isinstance(checked, CheckedPrediction):
        parameters = checked.version.manifest.metrics.parameters
    else:
        parameters = checked.estimate.parameters
    spec_out = checked.spec.model_dump(mode="json")
    answer = ValidatedSpec(spec=spec_out, parameters=parameters, estimate=checked.estimate)
    return JSONResponse(answer.model_dump(mode="json"))


def dump_job(row: jobs.JobRow) -> dict[str, Any]:
    """Return the JSON of a job."""
    document: dict[str, Any] = _job_adapter.dump_python(job_out(row), mode="json")
    return document


def accepted(document: dict[str, Any], *, replayed: bool = False) -> Response:
    """Answer 202 with a job, and where to follow it."""
    headers = {"Location": f"/v1/jobs/{document['id']}", "Retry-After": _RETRY_AFTER_SECONDS}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(orjson.dumps(document), 202, headers, "application/json")


@router.get("/jobs", summary="List jobs, the newest first", responses=documented(*LISTING))
def list_jobs(
    request: Request,
    wired: Wired,
    page: Pages,
    state: Annotated[State | None, Query()] = None,
    kind: Annotated[Kind | None, Query()] = None,
    name: Annotated[str | None, Query(max_length=63, description="The model that the job registers under.")] = None,
    parent_id: Annotated[UUID | None, Query(description="List the members' jobs of this ensemble's job.")] = None,
    children: Annotated[bool, Query(description="List members' jobs too.")] = False,
) -> JobList:
    """List the jobs that users submitted; those of ensembles' members on request."""
    refuse_unknown_filters(request, _FILTERS)
    chosen = jobs.JobFilter(state, kind, name, str(parent_id) if parent_id else None, children)
    with reading(wired.sessions) as session:
        found = jobs.list_jobs(session, page.request, chosen)
    return JobList(jobs=[job_out(row) for row in found.items], next_page_token=page.token(found.next))


@router.get("/jobs/{job_id:uuid}", summary="Look at a job", responses=documented(errors.JobNotFoundError))
async def get_job(
    request: Request,
    wired: Wired,
    job_id: UUID,
    response: Response,
    prefer: Annotated[str, Header(description="`wait=20`: answer when the job is done, or after 20 s.")] = "",
) -> JobOut:
    """Return a job, at once or when it is done."""
    wait_seconds = _wanted_wait(prefer)
    deadline = time.monotonic() + wait_seconds
    found = await run_in_threadpool(_load, wired, str(job_id))
    while not found.done and time.monotonic() < deadline and not wired.leaving.is_set():
        await asyncio.sleep(_LOOK_SECONDS)
        if await request.is_disconnected():
            raise ClientDisconnect
        found = await run_in_threadpool(_load, wired, str(job_id))
    if wait_seconds:
        response.headers["Preference-Applied"] = f"wait={wait_seconds:g}"
    if not found.done:
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return found


def _load(wired: Services, job_id: str) -> JobOut:
    with reading(wired.sessions) as session:
        found = job_out(jobs.get_job(session, job_id), jobs.dependencies(session, job_id))
    if found.result is not None:
        # Whoever learns here that a version exists may predict with it at once.
        wired.view.refresh()
    return found


def _wanted_wait(prefer: str) -> float:
    for preference in prefer.split(","):
        name, _, value = preference.partition("=")
        if name.strip().lower() == "wait" and value.strip().isdecimal():
            return min(_LONGEST_WAIT_SECONDS, float(value))
    return 0.0


@router.get("/jobs/{job_id:uuid}/metrics", summary="Metrics by epoch", responses=documented(errors.JobNotFoundError))
def get_job_metrics(wired: Wired, job_id: UUID) -> JobMetrics:
    """Return what the job reported while it trained, in order."""
    with reading(wired.sessions) as session:
        jobs.get_job(session, str(job_id))
        found = events.list_events(session, str(job_id), limit=_MOST_METRICS)
    return JobMetrics(job_id=str(job_id), metrics=[event.data for event in found if event.type == "metric"])


@router.get(
    "/jobs/{job_id:uuid}/result",
    summary="Download the file of a batch prediction",
    response_class=FileResponse,
    responses={
        206: {"description": "The range that was asked for.", "content": {"application/octet-stream": {}}},
        304: {"description": "The file is the one of the given ETag."},
        **documented(
            errors.JobNotFoundError,
            errors.ResultNotReadyError,
            request_errors.RangeNotSatisfiableError,
            errors.ArtifactCorruptedError,
        ),
    },
)
def download_result(request: Request, wired: Wired, job_id: UUID, if_none_match: IfNoneMatch = "") -> Response:
    """Download what a `predict` job wrote: NPZ, CSV or Parquet. Other jobs register versions, and have no file here."""
    with reading(wired.sessions) as session:
        job = jobs.get_job(session, str(job_id)).job
    if job.kind != PREDICT:
        kind = errors.NotFoundError
        raise kind(f"A {job.kind} job has no file.", hint=f"GET /v1/jobs/{job_id} names what it registered.")
    if job.result_file is None:
        hint = "Submit it again." if job.state in TERMINAL_STATES else f"GET /v1/jobs/{job_id} with `Prefer: wait=20`."
        raise errors.ResultNotReadyError(f"The job is {job.state}.", hint=hint)
    result = PredictionFile.model_validate(job.result_file)
    filename = f"{job.name}.{result.format}"
    return send_file(request, wired, Offer(result.file, filename, MEDIA_TYPES[result.format]), if_none_match)


@router.post(
    "/jobs/{job_id:uuid}:cancel",
    status_code=202,
    summary="Cancel a job",
    responses=documented(errors.JobNotFoundError, errors.JobAlreadyFinishedError),
)
def cancel_job(wired: Wired, job_id: UUID) -> JobOut:
    """Stop a job and those of its members; one that runs ends within a batch and a heartbeat."""
    with wired.sessions.begin() as session:
        jobs.cancel(session, str(job_id))
    wired.hinter.hint(str(job_id))
    return _load(wired, str(job_id))


@router.post(
    "/jobs/{job_id:uuid}:retry",
    status_code=202,
    summary="Submit a failed or cancelled job again",
    response_model=JobOut,
    responses=documented(
        errors.JobNotFoundError,
        errors.ConflictError,
        errors.VersionRejectedError,
        errors.ReferenceNotFoundError,
        MethodNotApplicableError,
        errors.ArtifactCorruptedError,
    ),
)
def retry_job(wired: Wired, job_id: UUID) -> Response:
    """Submit the same spec as a new job; members that exist by now are not trained again."""
    with wired.sessions.begin() as session:
        job = jobs.get_job(session, str(job_id)).job
        if job.state not in TERMINAL_STATES or job.state == "succeeded":
            raise errors.ConflictError(
                f"The job is {job.state}.", hint="Only a failed or cancelled job can be retried."
            )
        if job.kind == TOGETHER:
            raise errors.ConflictError(
                "The job trains members of an ensemble.", hint=f"Retry the ensemble's job, {job.parent_id}."
            )
        spec = submitted_spec_adapter.validate_python(job.spec, strict=False)
        document = dump_job(submission.submit(session, _check(wired, session, spec)))
    wired.hinter.hint(document["id"])
    return accepted(document)
