"""A job's events as they happen (server-sent events); a broken stream resumes after the last event seen."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.deps import Wired
from app.api.problems import documented
from app.db import jobs
from app.db.session import reading
from app.domain import errors
from app.domain.errors import UnavailableError

router = APIRouter(prefix="/v1", tags=["jobs"])
_RECONNECT_MILLISECONDS = 1000


def starting_point(
    wired: Wired,
    job_id: UUID,
    last_event_id: Annotated[
        str, Header(max_length=20, pattern="^[0-9]*$", description="Resume after the event with this `id`.")
    ] = "",
) -> int:
    """Return the id of the last event that the client has; raise what a stream could no longer tell."""
    with reading(wired.sessions) as session:
        jobs.get_job(session, str(job_id))
    return int(last_event_id or 0)


@router.get(
    "/jobs/{job_id:uuid}/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses=documented(errors.JobNotFoundError),
)
async def stream_job_events(
    wired: Wired, job_id: UUID, after: Annotated[int, Depends(starting_point)]
) -> AsyncIterator[ServerSentEvent]:
    """Send `state`, `progress`, `metric`, `log` and `checkpoint` events, then `done`; comments keep it alive."""
    yield ServerSentEvent(retry=_RECONNECT_MILLISECONDS)
    while not wired.leaving.is_set():
        try:
            found = await wired.watch.events_after(str(job_id), after)
        except UnavailableError:
            return  # the client resumes where it was
        for event in found:
            after = event.id
            yield ServerSentEvent(event=event.type, id=str(event.id), data={**event.data, "at": event.at})
            if event.type == "done":
                return
