"""What MLflow's clients read when a request fails: `{"error_code", "message"}` with codes of their own."""

from collections.abc import Mapping
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


def error_response(error: LeanfuseError, headers: Mapping[str, str]) -> Response:
    """Return the answer to a request that failed."""
    code, told = mlflow_error(error)
    return JSONResponse(told, status_code=code, headers=dict(headers))


def mlflow_error(error: LeanfuseError) -> tuple[int, dict[str, Any]]:
    """Return the HTTP code and the body that an error becomes."""
    chosen = next((code for kind, code in _CODES if isinstance(error, kind)), _INTERNAL)
    return chosen.code, {"error_code": chosen.name, "message": f"{error.detail} {error.hint}".strip()}
