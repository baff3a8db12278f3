"""Every error leaves as an RFC 9457 problem: one place maps exceptions, one place writes the answer."""

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from app.domain import errors, request_errors
from app.domain.errors import LeanfuseError
from app.domain.explain import explain_parameters, explain_validation

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = "2"
CLIENT_CLOSED_REQUEST = 499  # no standard; nginx counts it so
_TENSORFLOW_VERBS = (":predict", ":classify", ":regress")
Responses: TypeAlias = dict[int | str, dict[str, Any]]


class ErrorForm(NamedTuple):
    """How the clients of another protocol read errors, and how the OpenAPI document describes them."""

    answer: Callable[[LeanfuseError, Mapping[str, str]], Response]
    describe: Callable[..., Responses]


class WrongField(BaseModel):
    """Point at one wrong field."""

    pointer: str = Field(description="RFC 6901 pointer into the body, or `/query/NAME` for a parameter.")
    detail: str
    type: str = Field(description="The slug of the problem of this field.")


class Problem(BaseModel):
    """Say what happened, why and how to mend it (RFC 9457)."""

    type: str = Field(
        description="Path of the page that explains this kind of problem.", examples=["/problems/out-of-range"]
    )
    title: str
    status: int = Field(description="The HTTP status code.")
    detail: str
    hint: str = Field("", description="How to mend it.")
    instance: str = Field(description="The request, as `urn:request:ID`.")
    request_id: str
    errors: list[WrongField] = Field(default_factory=list)


def problem_body(error: LeanfuseError, request_id: str) -> dict[str, Any]:
    """Return the members of the problem that an error becomes."""
    return {
        "type": f"/problems/{error.slug}",
        "title": error.title,
        "status": error.code,
        "detail": error.detail,
        "hint": error.hint,
        "instance": f"urn:request:{request_id}",
        "request_id": request_id,
        "errors": [item._asdict() for item in error.errors],
    }


def problem_response(
    error: LeanfuseError,
    request_id: str,
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the answer to a request that failed; `extra` are further members of the problem."""
    body = {**problem_body(error, request_id), **(extra or {})}
    return JSONResponse(body, status_code=error.code, media_type=MEDIA_TYPE, headers=_with_retry(error, headers))


def refusal_response(scope: Scope, error: LeanfuseError, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to a request that failed, in the form of the protocol that its path belongs to."""
    path = scope["path"]
    form = form_of(scope["app"], path)
    if form is not None:
        return form.answer(error, _with_retry(error, headers))
    # TensorFlow Serving's clients read `error`; ours read the rest.
    extra = {"error": error.detail} if path.endswith(_TENSORFLOW_VERBS) else {}
    request_id = str(scope.get("state", {}).get("request_id", "unknown"))
    return problem_response(error, request_id, headers=headers, extra=extra)


def form_of(app: FastAPI, path: str) -> ErrorForm | None:
    """Return the form of errors below the paths of another protocol, None for our own."""
    forms: Mapping[str, ErrorForm] = getattr(app.state, "error_forms", {})
    return next((form for prefix, form in forms.items() if path == prefix or path.startswith(f"{prefix}/")), None)


def _with_retry(error: LeanfuseError, headers: Mapping[str, str] | None) -> dict[str, str]:
    sent = dict(headers or {})
    if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
        sent.setdefault("Retry-After", RETRY_AFTER_SECONDS)
    return sent


def documented(*kinds: type[LeanfuseError]) -> Responses:
    """Return the `responses` of an operation that may fail in these ways, for the OpenAPI document."""
    by_code: dict[int, list[type[LeanfuseError]]] = {}
    for kind in kinds:
        by_code.setdefault(kind.code, []).append(kind)
    return {code: _described(group) for code, group in sorted(by_code.items())}


def _described(kinds: Sequence[type[LeanfuseError]]) -> dict[str, Any]:
    examples = {kind.slug: {"$ref": f"#/components/examples/{kind.slug}"} for kind in kinds}
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    return {
        "description": "; ".join(f"`{kind.slug}`: {kind.title}" for kind in kinds),
        "content": {MEDIA_TYPE: content},
    }


def install_handlers(app: FastAPI, *, forms: Mapping[str, ErrorForm]) -> None:
    """Let every expected exception leave as a problem; the gate answers for the unexpected.

    Below the paths in `forms` they leave in the form of another protocol.
    """
    app.state.error_forms = forms
    for kind in (LeanfuseError, RequestValidationError, ValidationError, HTTPException):
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(ClientDisconnect, _note_absence)


def _note_absence(_request: Request, _gone: Exception) -> Response:
    """Let a request whose sender left count as that, not as a failure of ours; nobody reads the answer."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def answer_error(request: Request, error: Exception) -> Response:
    """Return the answer to a request that failed with an expected exception."""
    mapped, headers = _map(request, error)
    return refusal_response(request.scope, mapped, headers=headers)


def _map(request: Request, error: Exception) -> tuple[LeanfuseError, dict[str, str]]:
    if isinstance(error, request_errors.MethodNotAllowedError):
        return error, {"Allow": ", ".join(allowed_methods(request.app, request.url.path)) or "GET"}
    if isinstance(error, LeanfuseError):
        return error, {"Connection": "close"} if isinstance(error, errors.PayloadTooLargeError) else {}
    if isinstance(error, RequestValidationError):
        if any(item["loc"][:1] == ("path",) for item in error.errors()):
            return _map_path(request)
        return explain_parameters(error.errors(), _parameters(request)), {}
    if isinstance(error, ValidationError):
        return explain_validation(error.errors(include_url=False)), {}
    return _map_http(request, cast("HTTPException", error))


def _map_http(request: Request, error: HTTPException) -> tuple[LeanfuseError, dict[str, str]]:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _wrong_method(request, allowed_methods(request.app, request.url.path.replace("/ajax-api/", "/api/", 1)))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _nothing_at(request), {}
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return errors.PayloadTooLargeError("The body is larger than this service accepts."), {"Connection": "close"}
    return errors.MalformedRequestError("The request could not be read.", hint=str(error.detail)[:200]), {}


def _map_path(request: Request) -> tuple[LeanfuseError, dict[str, str]]:
    """Answer a path whose parts break their rules: `x:predict` is no name, but a path that has other methods."""
    allowed = allowed_methods(request.app, request.url.path)
    return (_nothing_at(request), {}) if request.method in allowed or not allowed else _wrong_method(request, allowed)


def _wrong_method(request: Request, allowed: Sequence[str]) -> tuple[LeanfuseError, dict[str, str]]:
    listed = ", ".join(allowed)
    detail = f"{request.method} is not possible on {request.url.path[:200]}."
    hint = f"Use one of {listed}." if allowed else ""
    return request_errors.MethodNotAllowedError(detail, hint=hint), {"Allow": listed}


def _nothing_at(request: Request) -> LeanfuseError:
    return errors.NotFoundError(f"There is nothing at {request.url.path[:200]}.", hint="`/docs` lists every path.")


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """Return the methods that a path has; Starlette knows only those of the first route that matches."""
    paths = app.openapi()["paths"].items()
    return sorted(
        {method.upper() for pattern, methods in paths if _pattern(pattern).fullmatch(path) for method in methods}
    )


def _parameters(request: Request) -> Mapping[str, Any]:
    """Return the parameters of the operation that was asked for as one schema, so that messages tell whole ranges."""
    places: dict[str, dict[str, Any]] = {}
    for pattern, item in request.app.openapi()["paths"].items():
        if _pattern(pattern).fullmatch(request.url.path):
            for parameter in item.get(request.method.lower(), {}).get("parameters", ()):
                name = parameter["name"].lower() if parameter["in"] == "header" else parameter["name"]
                places.setdefault(parameter["in"], {})[name] = parameter["schema"]
    # Pages are not described; without a schema the error itself tells its place.
    return {"properties": {place: {"properties": found} for place, found in places.items()}} if places else {}


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]*\})", path)
    return re.compile("".join("[^/:]+" if part.startswith("{") else re.escape(part) for part in parts))
