"""Requests: repeated where that is safe, after the time that the service names; problems are raised as errors."""

import hashlib
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import httpx

from app import __version__
from app.client.events import Event, parse_events
from app.client.problems import error_from
from app.domain import errors

DEFAULT_URL = "http://127.0.0.1:8000"
TRIES = 4
LONGEST_RETRY_SECONDS = 30.0
BUSY = frozenset({429, 503})

Document: TypeAlias = dict[str, Any]
Kind = TypeVar("Kind")
Parameters: TypeAlias = Mapping[str, str | int | float | bool | Sequence[str] | None]


class Connection:
    """Send requests: retry what may be repeated, raise problems as the errors that they name."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float = 60.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        sent = {"User-Agent": f"leanfuse-client/{__version__}", **(headers or {})}
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout_seconds, headers=sent, transport=transport)

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def get(
        self,
        kind: type[Kind],
        path: str,
        parameters: Parameters | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Kind:
        """GET a JSON document, typed as `kind`."""
        return self.request(kind, "GET", path, params=present(parameters), headers=headers)

    def request(
        self,
        kind: type[Kind],  # noqa: ARG002 - the type of what comes back
        method: str,
        path: str,
        *,
        repeatable: bool = True,
        **arguments: Any,  # noqa: ANN401 - those of httpx
    ) -> Kind:
        """Send a request, and return the JSON answer ({} for none), typed as `kind`."""
        response = self.send(method, path, repeatable=repeatable, **arguments)
        return cast("Kind", response.json() if response.content else {})

    def send(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool = True,
        **arguments: Any,  # noqa: ANN401 - those of httpx
    ) -> httpx.Response:
        """Send a request, at most four times if it may be repeated, and return the answer; raise its problem."""
        for attempt in range(TRIES):
            last = attempt == TRIES - 1 or not repeatable
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if last:
                    raise self._unreachable(error) from error
                time.sleep(pause_seconds(attempt, ""))
                continue
            if response.status_code in BUSY and not last:
                time.sleep(pause_seconds(attempt, response.headers.get("Retry-After", "")))
                continue
            if response.is_error:
                raise error_from(response)
            return response
        raise AssertionError("the last try returns or raises")

    def download(self, path: str, target: Path) -> Path:
        """Save a file whose ETag is its SHA-256; it is whole, or `target` is left as it was."""
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            digest = self._save(path, partial)
            if digest[0] != digest[1]:
                raise errors.ArtifactCorruptedError(f"{path} arrived damaged.", hint="Download it again.")
            partial.replace(target)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _save(self, path: str, partial: Path) -> tuple[str, str]:
        digest = hashlib.sha256()
        with self._http.stream("GET", path) as response:
            if response.is_error:
                response.read()
                raise error_from(response)
            with partial.open("wb") as file:
                for chunk in response.iter_bytes():
                    digest.update(chunk)
                    file.write(chunk)
            return digest.hexdigest(), response.headers["ETag"].strip('"')

    def pages(
        self,
        kind: type[Kind],  # noqa: ARG002 - the type of what comes back
        path: str,
        collection: str,
        parameters: Parameters | None = None,
    ) -> Iterator[Kind]:
        """Yield every item of a list, page after page, each typed as `kind`."""
        token = ""
        while True:
            page = self.get(Document, path, {**(parameters or {}), "page_token": token or None})
            yield from page[collection]
            token = page.get("next_page_token") or ""
            if not token:
                return

    def stream(self, path: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Event]:
        """Yield the server-sent events of one connection."""
        try:
            with self._http.stream("GET", path, headers=headers) as response:
                if response.is_error:
                    response.read()
                    raise error_from(response)
                yield from parse_events(response.iter_lines())
        except httpx.ConnectError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> errors.UnreachableError:
        return errors.UnreachableError(
            f"{self.base_url} does not answer: {error or type(error).__name__}.",
            hint="Start the service with `leanfuse up`, or say where it is with --url or LEANFUSE_URL.",
        )


def new_key(idempotency_key: str | None = None) -> dict[str, str]:
    """Return the header under which a POST may be repeated without being done twice."""
    return {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}


def pause_seconds(attempt: int, retry_after: str) -> float:
    """Return how long to wait before a request is repeated: what `Retry-After` says, else longer each time."""
    named = _named_seconds(retry_after)
    if named is not None:
        return max(0.0, min(LONGEST_RETRY_SECONDS, named))
    return 0.2 * 2.0**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


def _named_seconds(retry_after: str) -> float | None:
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None


def present(parameters: Parameters | None) -> dict[str, Any]:
    """Leave out what is None and write booleans as JSON does."""
    present = {key: value for key, value in (parameters or {}).items() if value is not None}
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in present.items()}
