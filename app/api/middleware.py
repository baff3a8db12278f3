"""What happens to every request before routing: an id, the host check, the size limit, headers and metrics."""

import re
import secrets
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.domain import errors
from app.domain.errors import LeanfuseError
from app.logging import get_logger
from app.metrics import Metrics

log = get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# Swagger UI sets inline styles and draws its icons from data URLs; scripts come from files only.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """Stand before the application: refuse wrong hosts and oversized bodies, name and count every request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        allowed_hosts: Sequence[str],
        most_body_bytes: int,
        most_upload_bytes: int,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._most_body_bytes = most_body_bytes
        self._most_upload_bytes = most_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        answer = _Answer(send, request_id, scope["path"])
        started = time.perf_counter()
        try:
            await self._serve(scope, headers, receive, answer)
        finally:
            self._metrics.observe_request(scope, answer.code, time.perf_counter() - started)

    async def _serve(self, scope: Scope, headers: Headers, receive: Receive, answer: "_Answer") -> None:
        limit = self._limit(scope)
        refusal = self._refusal(headers, limit)
        if refusal is not None:
            await self._refuse(refusal, scope, receive, answer)
            return
        body = _Body(receive, limit)
        try:
            await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            return  # nobody is left to be answered
        except Exception as unexpected:
            if answer.started:
                raise
            log.exception("request_failed", path=scope["path"], request_id=answer.request_id)
            await self._refuse(_as_problem(unexpected), scope, receive, answer)

    def _limit(self, scope: Scope) -> int:
        uploads = scope["method"] == "POST" and scope["path"] in {"/v1/datasets", "/v1/models"}
        return self._most_upload_bytes if uploads else self._most_body_bytes

    def _refusal(self, headers: Headers, limit: int) -> LeanfuseError | None:
        host = headers.get("host", "")
        if "*" not in self._allowed_hosts and _without_port(host) not in self._allowed_hosts:
            return errors.InvalidHostError(
                f"This service is not {host[:80]!r}.", hint="Use the address that it listens on."
            )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            return _too_large(limit)
        return None

    @staticmethod
    async def _refuse(refusal: LeanfuseError, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        # The body is not read, so the connection cannot carry another request.
        response = problem_response(refusal, answer.request_id, headers={"Connection": "close"})
        await response(scope, receive, answer.send)


class _Body:
    """Count what a request sends, whatever it announced."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._size_bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._size_bytes += len(message.get("body", b""))
        if self._size_bytes > self._limit:
            raise _too_large(self._limit)
        return message


class _Answer:
    """Add the headers that every answer carries, and remember its code."""

    def __init__(self, send: Send, request_id: str, path: str) -> None:
        self._send = send
        self._path = path
        self.request_id = request_id
        self.code = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.code = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers():
                headers.setdefault(name, value)
        await self._send(message)

    def _headers(self) -> Iterable[tuple[str, str]]:
        yield from _HEADERS.items()
        yield "X-Request-ID", self.request_id
        yield "Content-Security-Policy", _PAGE_POLICY if self._path == "/docs" else _POLICY
        if not self._path.startswith(("/static/", "/v1/")):
            yield "Cache-Control", "no-store"


def _as_problem(unexpected: Exception) -> LeanfuseError:
    """Keep what went wrong inside to the log: paths, statements and names are no client's business."""
    if isinstance(unexpected, LeanfuseError):
        return unexpected
    return LeanfuseError("The request could not be answered.", hint="Tell the operator the request id.")


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _without_port(host: str) -> str:
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def _too_large(limit: int) -> errors.PayloadTooLargeError:
    return errors.PayloadTooLargeError(
        f"The body is larger than {limit:,} bytes, the limit here.", hint="Send less, or raise `LEANFUSE_LIMITS__*`."
    )
