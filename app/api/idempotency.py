"""The Idempotency-Key header: the same key and request, sent again, has the same answer and no second effect."""

import hashlib
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Header, Request

from app.domain.request_errors import InvalidIdempotencyKeyError

_LONGEST = 255
# Only for the document: what breaks it has a problem of its own.
_SCHEMA: dict[str, Any] = {"minLength": 1, "maxLength": _LONGEST, "pattern": "^[ -~]+$"}


class IdempotencyKey(NamedTuple):
    """A key, and what tells one request from another."""

    key: str
    request_sha256: str


def idempotency_key(
    request: Request,
    idempotency_key: Annotated[  # noqa: ARG001 - declared for the OpenAPI document; empty and absent differ
        str, Header(description="Up to 255 printable ASCII characters; kept for 24 hours.", json_schema_extra=_SCHEMA)
    ] = "",
) -> str | None:
    """Return the key that was sent, or None; raise InvalidIdempotencyKeyError."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not key or len(key) > _LONGEST or not (key.isascii() and key.isprintable()):
        raise InvalidIdempotencyKeyError(
            "The Idempotency-Key is empty, too long or not printable.", hint="Send 1 to 255 printable ASCII characters."
        )
    return key


def fingerprint(request: Request, body: bytes) -> str:
    """Return the digest of what a repeated request must have in common with the first."""
    head = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(head + body).hexdigest()


OptionalKey = Annotated[str | None, Depends(idempotency_key)]
