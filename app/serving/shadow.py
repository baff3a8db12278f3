"""Run candidates beside the versions that answer, on the same rows, and count how they compare."""

import asyncio
import threading
import time
from collections import defaultdict
from typing import Any

from numpy.typing import NDArray

from app.db import rollouts
from app.db.session import Sessions
from app.domain.errors import LeanfuseError, OverloadedError
from app.domain.rollouts import Tally
from app.logging import get_logger
from app.serving.predictor import Predictor
from app.serving.view import Route

log = get_logger(__name__)
Array = NDArray[Any]
_MOST_PENDING = 64


class Shadows:
    """Mirror requests after they were answered; never delay or fail one.

    Counts stay in memory until `flush` adds them to the database, where those of other processes are added too.
    `most_rows` may be mirrored at a time: shadows wait in the queue that requests wait in, and must leave them room.
    """

    def __init__(self, predictor: Predictor, sessions: Sessions, *, most_rows: int) -> None:
        self._predictor = predictor
        self._sessions = sessions
        self._most_rows = most_rows
        self._pending_rows = 0
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._guard = threading.Lock()
        self._pending: set[asyncio.Task[None]] = set()

    def mirror(self, route: Route, rows: Array, answered: Array, *, seconds: float, output: str) -> None:
        """Let the route's shadow answer the same rows later; drop the request when too much waits already."""
        if route.shadow is None:
            return
        if len(self._pending) >= _MOST_PENDING or self._pending_rows + len(rows) > self._most_rows:
            self._count(route, Tally(dropped=1))
            return
        task = asyncio.ensure_future(self._compare(route, rows, answered, seconds, output))
        self._pending_rows += len(rows)
        self._pending.add(task)
        task.add_done_callback(lambda done: self._forget(done, len(rows)))

    def _forget(self, done: "asyncio.Task[None]", rows: int) -> None:
        self._pending.discard(done)
        self._pending_rows -= rows

    def _count(self, route: Route, tally: Tally) -> None:
        with self._guard:
            self._tallies[route.rollout_id].add(tally.as_json())

    async def _compare(self, route: Route, rows: Array, answered: Array, seconds: float, output: str) -> None:
        if route.shadow is None:
            return
        started, tally = time.perf_counter(), Tally()
        try:
            (shadowed,) = await self._predictor.predict(route.shadow, rows, [output])
            tally.compare(answered, shadowed, seconds=(seconds, time.perf_counter() - started))
        except OverloadedError:
            tally = Tally(dropped=1)
        except Exception as failed:  # noqa: BLE001 - whatever goes wrong in the shadow is counted, and nobody's loss
            log.warning(
                "shadow_failed", model=route.shadow.name, version=route.shadow.version, reason=str(failed)[:300]
            )
            tally = Tally()
            tally.fail(len(rows))
        self._count(route, tally)

    def flush(self) -> None:
        """Add what was counted to the database; keep it for the next time when that does not answer."""
        with self._guard:
            counted = {rollout_id: tally.as_json() for rollout_id, tally in self._tallies.items()}
            self._tallies.clear()
        if not counted:
            return
        try:
            with self._sessions.begin() as session:
                rollouts.add_tallies(session, counted)
        except LeanfuseError as failed:
            log.warning("shadow_counts_kept", reason=failed.detail)
            with self._guard:
                for rollout_id, tally in counted.items():
                    self._tallies[rollout_id].add(tally)

    def follow(self, stop: threading.Event, *, seconds: float = 2.0) -> None:
        """Flush every few seconds, and once more when told to stop."""
        while not stop.wait(seconds):
            self.flush()
        self.flush()
