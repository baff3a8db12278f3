"""Answer predictions before the framework sees them.

Its layers, routing among all paths and collecting dependencies take longer than a small model does. What stands here is
answered by the same functions that the documented routes call; every other request goes on to them.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.deps import Services
from app.api.problems import answer_error
from app.domain.errors import LeanfuseError
from app.serving.request_log import request_id

Handler: TypeAlias = Callable[[Services, "re.Match[str]", bytes, Headers], Awaitable[Response]]
# Whoever leaves sooner than that gets an answer that nobody reads; watching every request would cost more.
_WATCH_AFTER_SECONDS = 0.2


@dataclass(frozen=True)
class Lane:
    """Answer POSTs to paths of a pattern; they are counted under `path_format`."""

    pattern: "re.Pattern[str]"
    path_format: str
    handle: Handler


class Express:
    """Answer the lanes' requests through their own gate, pass all others on."""

    def __init__(self, app: ASGIApp, *, lanes: Sequence[Lane], gate: Callable[[ASGIApp], ASGIApp]) -> None:
        self._app = app
        self._lanes = tuple(lanes)
        self._answer = gate(_answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            for lane in self._lanes:
                if found := lane.pattern.fullmatch(path):
                    scope["route"], scope["lane_match"] = lane, found
                    await self._answer(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    lane: Lane = scope["route"]
    request_id.set(scope["state"]["request_id"])
    body = await _read(receive)
    wired: Services = scope["app"].state.services
    try:
        work = lane.handle(wired, scope["lane_match"], body, Headers(scope=scope))
        response = await _unless_left(work, receive)  # type: ignore[arg-type]  # handlers are coroutine functions
    except LeanfuseError as error:
        response = answer_error(Request(scope, receive), error)
    await response(scope, receive, send)


async def _read(receive: Receive) -> bytes:
    message = await receive()
    chunks: list[bytes] = []
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        message = await receive()
    raise ClientDisconnect


async def _unless_left(work: Coroutine[Any, Any, Response], receive: Receive) -> Response:
    """Wait for the work; cancel it and raise ClientDisconnect when the client goes away meanwhile."""
    own = asyncio.current_task()
    watch = _Watch(own, receive)
    timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, watch.start)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.left and own is not None:
            own.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        watch.stop()


class _Watch:
    """Cancel a task when the client has left."""

    def __init__(self, task: "asyncio.Task[Any] | None", receive: Receive) -> None:
        self._task = task
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self.left = False

    def start(self) -> None:
        self._watcher = asyncio.ensure_future(self._follow())

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()

    async def _follow(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True
        if self._task is not None:
            self._task.cancel()
