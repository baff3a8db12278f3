"""What happens to every request before routing: an id, the host check, the size limit, headers and metrics."""

import random
import re
import time
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import CLIENT_CLOSED_REQUEST, refusal_response
from app.domain import errors, request_errors
from app.domain.errors import LeanfuseError
from app.logging import get_logger
from app.metrics import Metrics

log = get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_POLICY = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# Swagger UI sets inline styles and draws its icons from data URLs; scripts come from files only.
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
# The dashboard's own pages hold no inline script or style; figures are drawn in place, samples are data URLs.
_DASHBOARD_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_LASTING_HEADERS = (*_HEADERS, (b"content-security-policy", _POLICY))
_PASSING_HEADERS = (*_LASTING_HEADERS, (b"cache-control", b"no-store"))
_DASHBOARD_HEADERS = (*_HEADERS, (b"content-security-policy", _DASHBOARD_POLICY), (b"cache-control", b"no-store"))
_PAGE_HEADERS = (*_HEADERS, (b"content-security-policy", _PAGE_POLICY), (b"cache-control", b"no-store"))


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
            # Nobody is left to be answered, and it was no failure of ours.
            answer.code = CLIENT_CLOSED_REQUEST
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
            return request_errors.InvalidHostError(
                f"This service is not {host[:80]!r}.", hint="Use the address that it listens on."
            )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            return _too_large(limit)
        return None

    @staticmethod
    async def _refuse(refusal: LeanfuseError, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        # The body is not read, so the connection cannot carry another request.
        response = refusal_response(scope, refusal, headers={"Connection": "close"})
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
            present = {name for name, _ in message["headers"]}
            own = ((b"x-request-id", self.request_id.encode("ascii")), *_headers_of(self._path))
            message["headers"] = [*message["headers"], *(item for item in own if item[0] not in present)]
        await self._send(message)


def _headers_of(path: str) -> tuple[tuple[bytes, bytes], ...]:
    if path == "/" or path.startswith("/ui/"):
        return _DASHBOARD_HEADERS
    if path == "/docs" or path.startswith("/docs/"):
        return _PAGE_HEADERS
    return _LASTING_HEADERS if path.startswith(("/static/", "/v1/")) else _PASSING_HEADERS


def _as_problem(unexpected: Exception) -> LeanfuseError:
    """Keep what went wrong inside to the log: paths, statements and names are no client's business."""
    if isinstance(unexpected, LeanfuseError):
        return unexpected
    return LeanfuseError("The request could not be answered.", hint="Tell the operator the request id.")


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"


def _without_port(host: str) -> str:
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def _too_large(limit: int) -> errors.PayloadTooLargeError:
    return errors.PayloadTooLargeError(
        f"The body is larger than {limit:,} bytes, the limit here.", hint="Send less, or raise `LEANFUSE_LIMITS__*`."
    )
