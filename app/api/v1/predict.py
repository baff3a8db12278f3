"""TensorFlow Serving's predict calls, on models and on ensembles: no database, no pydantic on the way."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from app.api.bodies import Json, check_encoding, check_text, read_loosely
from app.api.deps import Services, Wired
from app.api.express import Lane
from app.api.openapi import json_body
from app.api.problems import documented
from app.api.v1.answers import Answers, Wanted, ask_along, class_sets, member_weights, reply
from app.api.v1.lookup import AliasInPath, NameInPath, VersionInPath, route_version
from app.db.registry import VersionRow
from app.domain import errors, prediction_errors, request_errors, upload_errors
from app.domain.errors import FieldError
from app.domain.explain import suggest
from app.domain.names import NAME_PATTERN, Reference
from app.serving.decoding import read_plain_rows
from app.serving.inputs import inputs_to_rows, instances_to_rows
from app.serving.npy import NPY, NPY_TYPES, npy_to_rows, to_npy, wants_npy
from app.serving.pictures import takes_pictures

router = APIRouter(prefix="/v1", tags=["predictions"])
# What TensorFlow Serving's own examples send: `curl -d` says it is a form, other clients say nothing.
_MEDIA_TYPES = ("application/json", *NPY_TYPES, "application/x-www-form-urlencoded", "text/plain", "")
_FIELDS = frozenset({"instances", "inputs", "signature_name", "members", "weights", "uncertainty", "sets"})
_FIELD_OF_ANSWERS = {"instances": "predictions", "inputs": "outputs"}
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
        prediction_errors.BatchTooLargeError,
        errors.UnsupportedMediaTypeError,
        prediction_errors.InputShapeMismatchError,
        prediction_errors.RaggedInputError,
        prediction_errors.EmptyInputError,
        prediction_errors.InvalidInputValueError,
        errors.UnreadableFileError,
        upload_errors.UnsupportedDtypeError,
        upload_errors.PickleNotAllowedError,
        upload_errors.DeclaredSizeMismatchError,
        request_errors.InvalidImageError,
        errors.UnknownFieldError,
        errors.ArtifactCorruptedError,
        errors.OverloadedError,
        prediction_errors.PredictionTimeoutError,
    ),
    "response_model": None,
}


@router.post("/models/{name}:predict", summary="Predict with the newest version", **_DOCUMENTED)
async def predict(request: Request, wired: Wired, name: NameInPath) -> Response:
    """Answer rows with a model's newest version."""
    return await _predict(wired, Reference(name), None, await request.body(), request.headers)


@router.post("/models/{name}/versions/{version}:predict", summary="Predict with a version", **_DOCUMENTED)
async def predict_version(request: Request, wired: Wired, name: NameInPath, version: VersionInPath) -> Response:
    """Answer rows with one version of a model."""
    return await _predict(wired, Reference(name, version), None, await request.body(), request.headers)


@router.post("/models/{name}/labels/{alias}:predict", summary="Predict with an alias", **_DOCUMENTED)
async def predict_alias(request: Request, wired: Wired, name: NameInPath, alias: AliasInPath) -> Response:
    """Answer rows with the version that an alias names now."""
    return await _predict(wired, Reference(name, alias=alias), None, await request.body(), request.headers)


@router.post("/ensembles/{name}:predict", summary="Predict with the newest version of an ensemble", **_DOCUMENTED)
async def predict_ensemble(request: Request, wired: Wired, name: NameInPath) -> Response:
    """Answer rows with an ensemble's newest version."""
    return await _predict(wired, Reference(name), "ensemble", await request.body(), request.headers)


@router.post(
    "/ensembles/{name}/versions/{version}:predict", summary="Predict with a version of an ensemble", **_DOCUMENTED
)
async def predict_ensemble_version(
    request: Request, wired: Wired, name: NameInPath, version: VersionInPath
) -> Response:
    """Answer rows with one version of an ensemble."""
    return await _predict(wired, Reference(name, version), "ensemble", await request.body(), request.headers)


@router.post("/ensembles/{name}/labels/{alias}:predict", summary="Predict with an alias of an ensemble", **_DOCUMENTED)
async def predict_ensemble_alias(request: Request, wired: Wired, name: NameInPath, alias: AliasInPath) -> Response:
    """Answer rows with the version of an ensemble that an alias names now."""
    return await _predict(wired, Reference(name, alias=alias), "ensemble", await request.body(), request.headers)


async def _express(wired: Services, found: "re.Match[str]", body: bytes, headers: Headers) -> Response:
    number = found["version"]
    reference = Reference(found["name"], int(number) if number else None, found["alias"])
    return await _predict(wired, reference, "ensemble" if found["resource"] == "ensembles" else None, body, headers)


_NAME = NAME_PATTERN[1:-1]
# Paths that break the naming rule are left to the documented routes, which know what to answer.
EXPRESS = Lane(
    re.compile(
        rf"/v1/(?P<resource>models|ensembles)/(?P<name>{_NAME})"
        rf"(?:/versions/(?P<version>[1-9][0-9]{{0,8}})|/labels/(?P<alias>{_NAME}))?:predict"
    ),
    "/v1/models/{name}:predict",
    _express,
)


async def _predict(wired: Services, reference: Reference, kind: str | None, body: bytes, headers: Headers) -> Response:
    media_type = _media_type(headers)
    route = await route_version(wired, reference, headers, kind=kind)
    version = route.version
    signature = version.manifest.input
    if media_type in NPY_TYPES:
        answers = await ask_along(wired, route, npy_to_rows(body, signature), Wanted())
        return _reply(version, "predictions", answers, {}, headers)
    plain = read_plain_rows(body, signature)
    if plain is not None:
        answers = await ask_along(wired, route, plain.rows, Wanted())
        return _reply(version, _FIELD_OF_ANSWERS[plain.field], answers, {}, headers)
    content = _check_fields(read_loosely(body))
    field = "instances" if "instances" in content else "inputs"
    read = instances_to_rows if field == "instances" else inputs_to_rows
    # Pictures take long to decode; meanwhile the loop serves others.
    decoding = takes_pictures(signature)
    rows = await asyncio.to_thread(read, content[field], signature) if decoding else read(content[field], signature)
    wanted = Wanted(**{name: content.get(name, False) for name in ("members", "uncertainty", "sets")})
    answers = await ask_along(wired, route, rows, wanted)
    return _reply(version, _FIELD_OF_ANSWERS[field], answers, content, headers)


def _reply(version: VersionRow, field: str, answers: Answers, content: Mapping[str, Any], headers: Headers) -> Response:
    if wants_npy(headers.get("accept", "")):
        served = {"Leanfuse-Version": f"{version.name}/{version.version}", "Leanfuse-Digest": version.digest}
        return Response(to_npy(answers.fused), headers=served, media_type=NPY)
    answered: dict[str, Any] = {field: answers.fused}
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


def _media_type(headers: Headers) -> str:
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in _MEDIA_TYPES:
        raise errors.UnsupportedMediaTypeError(
            f"The body has the media type {given[:80]!r}.", hint=f"Send `Content-Type: application/json` or `{NPY}`."
        )
    check_encoding(headers)
    return given


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
    if not isinstance(content.get("signature_name", ""), str):
        raise errors.InvalidRequestError("/signature_name: Not a text.", hint="Send a name, or leave it out.")
    check_text(content.get("signature_name", ""))
    for name in _FLAGS:
        if not isinstance(content.get(name, False), bool):
            raise errors.InvalidRequestError(f"/{name}: Not true or false.", hint="Send true, or leave it out.")
    return content
