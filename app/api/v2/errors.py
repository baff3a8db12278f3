"""Errors as the protocol's clients read them: `{"error": "text"}`, and none of the codes that they do not expect."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Response

from app.domain.errors import LeanfuseError

# The protocol knows bad requests, unknown models and models that are not ready, nothing finer.
_CODES = {
    HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST,
    HTTPStatus.GONE: HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT: HTTPStatus.SERVICE_UNAVAILABLE,
}
_SCHEMA = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "What happened, and how to mend it."}},
    "required": ["error"],
}


def error_response(error: LeanfuseError, headers: Mapping[str, str]) -> Response:
    """Return the answer to a request that failed; KServe's client wants its media type without a charset."""
    text = f"{error.detail} {error.hint}".strip()
    return Response(json.dumps({"error": text}), code_of(error), dict(headers), media_type="application/json")


def code_of(error: LeanfuseError | type[LeanfuseError]) -> int:
    """Return the HTTP code under which an error leaves."""
    return _CODES.get(HTTPStatus(error.code), HTTPStatus(error.code)).value


def described_errors(*kinds: type[LeanfuseError]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of an operation that may fail in these ways, for the OpenAPI document."""
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        titles.setdefault(code_of(kind), []).append(kind.title)
    content = {"application/json": {"schema": _SCHEMA}}
    return {code: {"description": "; ".join(group), "content": content} for code, group in sorted(titles.items())}
