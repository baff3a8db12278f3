"""TensorFlow Serving's predict calls, on models and on ensembles: no database, no pydantic on the way."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.bodies import Json, read_loosely
from app.api.deps import Services, Wired
from app.api.openapi import json_body
from app.api.problems import documented
from app.api.v1.answers import Wanted, ask, class_sets, member_weights, reply
from app.api.v1.lookup import AliasInPath, NameInPath, VersionInPath, find_version
from app.db.registry import VersionRow
from app.domain import errors
from app.domain.errors import FieldError
from app.domain.explain import suggest
from app.domain.names import Reference
from app.serving.inputs import inputs_to_rows, instances_to_rows

router = APIRouter(prefix="/v1", tags=["predictions"])
# What TensorFlow Serving's own examples send: `curl -d` says it is a form, other clients say nothing.
_MEDIA_TYPES = ("application/json", "application/x-www-form-urlencoded", "text/plain", "")
_FIELDS = frozenset({"instances", "inputs", "signature_name", "members", "weights", "uncertainty", "sets"})
_FLAGS = ("members", "weights", "uncertainty", "sets")
_SCHEMA = {
    "type": "object",
    "properties": {
        "instances": {"type": "array", "items": {}, "description": "One item per row; the reply has `predictions`."},
        "inputs": {"description": 'All rows, or {"x": rows}; the reply has `outputs`.'},
        "signature_name": {"type": "string", "description": "Accepted for TensorFlow Serving's clients."},
        "members": {"type": "boolean", "description": "Answer each member's prediction too."},
        "weights": {"type": "boolean", "description": "Answer the members' weights too."},
        "uncertainty": {"type": "boolean", "description": "Answer entropy, disagreement and the like too."},
        "sets": {"type": "boolean", "description": "Answer sets of classes too, of an ensemble with `conformal`."},
    },
    "additionalProperties": False,
}
_DOCUMENTED: dict[str, Any] = {
    "openapi_extra": json_body(
        _SCHEMA, {"two rows of a table": {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}}
    ),
    "responses": documented(
        errors.MalformedJsonError,
        errors.ModelNotFoundError,
        errors.ModelNotReadyError,
        errors.ModelDeletedError,
        errors.BatchTooLargeError,
        errors.UnsupportedMediaTypeError,
        errors.InputShapeMismatchError,
        errors.RaggedInputError,
        errors.EmptyInputError,
        errors.InvalidInputValueError,
        errors.UnknownFieldError,
        errors.ArtifactCorruptedError,
        errors.OverloadedError,
        errors.PredictionTimeoutError,
    ),
    "response_model": None,
}


@router.post("/models/{name}:predict", summary="Predict with the newest version", **_DOCUMENTED)
async def predict(request: Request, wired: Wired, name: NameInPath) -> Response:
    """Answer rows with a model's newest version."""
    return await _predict(request, wired, await find_version(wired, Reference(name)))


@router.post("/models/{name}/versions/{version}:predict", summary="Predict with a version", **_DOCUMENTED)
async def predict_version(request: Request, wired: Wired, name: NameInPath, version: VersionInPath) -> Response:
    """Answer rows with one version of a model."""
    return await _predict(request, wired, await find_version(wired, Reference(name, version)))


@router.post("/models/{name}/labels/{alias}:predict", summary="Predict with an alias", **_DOCUMENTED)
async def predict_alias(request: Request, wired: Wired, name: NameInPath, alias: AliasInPath) -> Response:
    """Answer rows with the version that an alias names now."""
    return await _predict(request, wired, await find_version(wired, Reference(name, alias=alias)))


@router.post("/ensembles/{name}:predict", summary="Predict with the newest version of an ensemble", **_DOCUMENTED)
async def predict_ensemble(request: Request, wired: Wired, name: NameInPath) -> Response:
    """Answer rows with an ensemble's newest version."""
    return await _predict(request, wired, await find_version(wired, Reference(name), kind="ensemble"))


@router.post(
    "/ensembles/{name}/versions/{version}:predict", summary="Predict with a version of an ensemble", **_DOCUMENTED
)
async def predict_ensemble_version(
    request: Request, wired: Wired, name: NameInPath, version: VersionInPath
) -> Response:
    """Answer rows with one version of an ensemble."""
    return await _predict(request, wired, await find_version(wired, Reference(name, version), kind="ensemble"))


@router.post("/ensembles/{name}/labels/{alias}:predict", summary="Predict with an alias of an ensemble", **_DOCUMENTED)
async def predict_ensemble_alias(request: Request, wired: Wired, name: NameInPath, alias: AliasInPath) -> Response:
    """Answer rows with the version of an ensemble that an alias names now."""
    return await _predict(request, wired, await find_version(wired, Reference(name, alias=alias), kind="ensemble"))


async def _predict(request: Request, wired: Services, version: VersionRow) -> Response:
    body = await _read(request)
    content = _check_fields(read_loosely(body))
    # Python cannot tell a boolean from a number in an array, so the values are walked only if there may be one.
    booleans = b"true" in body or b"false" in body
    signature = version.manifest.input
    if "instances" in content:
        rows = instances_to_rows(content["instances"], signature, may_hold_booleans=booleans)
    else:
        rows = inputs_to_rows(content["inputs"], signature, may_hold_booleans=booleans)
    wanted = Wanted(**{name: content.get(name, False) for name in ("members", "uncertainty", "sets")})
    answers = await ask(wired, version, rows, wanted)
    answered: dict[str, Any] = {"predictions" if "instances" in content else "outputs": answers.fused}
    if answers.members:
        answered["members"] = answers.members
    if content.get("weights"):
        answered["weights"] = member_weights(version.manifest)
    if answers.uncertainty:
        answered["uncertainty"] = answers.uncertainty
    if answers.sets is not None:
        answered["sets"] = class_sets(version.manifest, answers.sets)
    if answers.answered_by is not None:
        answered["answered_by"] = answers.answered_by.astype(int)
    return reply({**answered, "model": version.name, "version": version.version, "digest": version.digest})


async def _read(request: Request) -> bytes:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in _MEDIA_TYPES:
        raise errors.UnsupportedMediaTypeError(
            f"The body has the media type {given[:80]!r}.", hint="Send `Content-Type: application/json`."
        )
    return await request.body()


def _check_fields(content: Json) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise errors.InvalidRequestError("The body is no object.", hint='Send {"instances": [row, ...]}.')
    for name in content:
        if name not in _FIELDS:
            detail = f"There is no field `{name[:80]}` here."
            field = FieldError(f"/{name[:80]}", detail, errors.UnknownFieldError.slug)
            raise errors.UnknownFieldError(detail, hint=suggest(name, sorted(_FIELDS)), errors=[field])
    if ("instances" in content) == ("inputs" in content):
        raise errors.InvalidRequestError(
            "Either `instances` or `inputs` must be there.", hint='Send {"instances": [row, ...]}.'
        )
    for name in _FLAGS:
        if not isinstance(content.get(name, False), bool):
            raise errors.InvalidRequestError(f"/{name}: Not true or false.", hint="Send true, or leave it out.")
    return content
