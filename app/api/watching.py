"""Wait for the events of jobs: streams of one job at the same place share one look at the database."""

import asyncio
from collections.abc import Sequence

from fastapi.concurrency import run_in_threadpool

from app.db import events
from app.db.session import Sessions, reading
from app.db.tables import JobEvent

_LOOK_SECONDS = 0.2
_Place = tuple[str, int]


class EventWatch:
    """Look for new events on behalf of any number of streams, from one event loop."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._looks: dict[_Place, asyncio.Task[Sequence[JobEvent]]] = {}

    async def events_after(self, job_id: str, after: int) -> Sequence[JobEvent]:
        """Return the events after one, at once if there are any; else none, a moment later.

        Raise UnavailableError while the database is away.
        """
        place = (job_id, after)
        look = self._looks.get(place)
        if look is None:
            look = self._looks[place] = asyncio.create_task(self._look(place))
            look.add_done_callback(lambda done: self._forget(place, done))
        # A stream that is closed leaves the look to the others.
        return await asyncio.shield(look)

    async def _look(self, place: _Place) -> Sequence[JobEvent]:
        found = await run_in_threadpool(self._load, *place)
        if not found:
            await asyncio.sleep(_LOOK_SECONDS)
        return found

    def _load(self, job_id: str, after: int) -> Sequence[JobEvent]:
        with reading(self._sessions) as session:
            return events.list_events(session, job_id, after=after)

    def _forget(self, place: _Place, done: "asyncio.Task[Sequence[JobEvent]]") -> None:
        del self._looks[place]
        if not done.cancelled():
            done.exception()  # whoever still waits is told; nobody else needs to be
