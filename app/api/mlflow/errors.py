"""What MLflow's clients read when a request fails: `{"error_code", "message"}` with codes of their own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import Response
from fastapi.responses import JSONResponse

from app.domain import errors, request_errors
from app.domain.errors import LeanfuseError

PREFIXES = tuple(
    f"/{api}/{part}" for api in ("api", "ajax-api") for part in ("2.0/mlflow", "2.0/mlflow-artifacts", "3.0/mlflow")
)


class _Code(NamedTuple):
    name: str
    code: int


# The first that fits. A taken name is 400, not 409: `register_model` goes on only then.
_CODES: tuple[tuple[type[LeanfuseError], _Code], ...] = (
    (errors.ModelNotFoundError, _Code("RESOURCE_DOES_NOT_EXIST", 404)),
    (errors.ModelDeletedError, _Code("RESOURCE_DOES_NOT_EXIST", 404)),
    (errors.NotFoundError, _Code("ENDPOINT_NOT_FOUND", 404)),
    (request_errors.MethodNotAllowedError, _Code("ENDPOINT_NOT_FOUND", 405)),
    (errors.AlreadyExistsError, _Code("RESOURCE_ALREADY_EXISTS", 400)),
    (errors.ConflictError, _Code("RESOURCE_CONFLICT", 409)),
    (errors.PreconditionFailedError, _Code("RESOURCE_CONFLICT", 409)),
    (request_errors.InvalidHostError, _Code("BAD_REQUEST", 400)),
    (errors.InvalidInputError, _Code("INVALID_PARAMETER_VALUE", 400)),
    (errors.MalformedRequestError, _Code("INVALID_PARAMETER_VALUE", 400)),
    (errors.UnsupportedMediaTypeError, _Code("BAD_REQUEST", 400)),
    (errors.PayloadTooLargeError, _Code("BAD_REQUEST", 413)),
    (errors.UnavailableError, _Code("TEMPORARILY_UNAVAILABLE", 503)),
)
_INTERNAL = _Code("INTERNAL_ERROR", 500)
_MESSAGE = "What happened, and how to mend it."
_SCHEMA = {
    "type": "object",
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string", "description": _MESSAGE}},
    "required": ["error_code", "message"],
}


def error_response(error: LeanfuseError, headers: Mapping[str, str]) -> Response:
    """Return the answer to a request that failed."""
    code, told = mlflow_error(error)
    return JSONResponse(told, status_code=code, headers=dict(headers))


def mlflow_error(error: LeanfuseError) -> tuple[int, dict[str, Any]]:
    """Return the HTTP code and the body that an error becomes."""
    chosen = _code_of(type(error))
    return chosen.code, {"error_code": chosen.name, "message": f"{error.detail} {error.hint}".strip()}


def described_errors(*kinds: type[LeanfuseError]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of an operation that may fail in these ways, for the OpenAPI document."""
    by_code: dict[int, list[_Code]] = {}
    for code in dict.fromkeys(map(_code_of, kinds)):
        by_code.setdefault(code.code, []).append(code)
    return {code: _described(names) for code, names in sorted(by_code.items())}


def _described(codes: Sequence[_Code]) -> dict[str, Any]:
    examples = {code.name: {"value": {"error_code": code.name, "message": _MESSAGE}} for code in codes}
    return {
        "description": "; ".join(f"`{code.name}`" for code in codes),
        "content": {"application/json": {"schema": _SCHEMA, "examples": examples}},
    }


def _code_of(kind: type[LeanfuseError]) -> _Code:
    return next((code for known, code in _CODES if issubclass(kind, known)), _INTERNAL)
