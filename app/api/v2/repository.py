"""Triton's model repository: what there is, load it now, free its memory."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from app.api.bodies import check_json
from app.api.deps import Services, Wired
from app.api.openapi import json_body
from app.api.v1.lookup import find_version
from app.api.v2.errors import described_errors
from app.api.v2.models import configuration
from app.api.v2.paths import ModelInPath, reference_of
from app.api.v2.schemas import replies_with
from app.db.registry import SERVED_STATES, VersionRow
from app.domain import errors
from app.domain.names import Reference
from app.serving.predictor import graph_of

router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"])
_PARAMETERS = {"type": "object", "properties": {"parameters": {"type": "object"}}}
_INDEX = {"type": "object", "properties": {"ready": {"type": "boolean", "description": "Only what is ready."}}}
_ENTRY = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "state": {"enum": ["READY", "UNAVAILABLE"]},
        "reason": {"type": "string"},
    },
    "required": ["name", "version", "state", "reason"],
}
_BAD = (errors.MalformedJsonError, errors.InvalidRequestError)
_FAILURES = described_errors(*_BAD, errors.ModelNotFoundError, errors.ModelNotReadyError, errors.NotSupportedError)


def _optional(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    described = json_body(schema, {"an example": example})
    described["requestBody"]["required"] = False
    return described


@router.post(
    "/index",
    summary="List versions and whether they serve",
    openapi_extra=_optional(_INDEX, {"ready": True}),
    responses=replies_with("Every version.", {"type": "array", "items": _ENTRY}) | described_errors(*_BAD),
    response_model=None,
)
async def list_repository(request: Request, wired: Wired) -> Response:
    """Return every version; READY are those that answer, in memory or not, as they are loaded when they are asked."""
    ready = (await _body(request)).get("ready", False)
    if not isinstance(ready, bool):
        raise errors.InvalidRequestError("`ready` is neither true nor false.")
    entries = [_entry(row) for row in wired.view.every_version()]
    return JSONResponse([entry for entry in entries if not ready or entry["state"] == "READY"])


@router.post(
    "/models/{name}/load",
    summary="Load a model into memory",
    openapi_extra=_optional(_PARAMETERS, {}),
    responses=replies_with("It is in memory.") | _FAILURES,
    response_class=Response,
    response_model=None,
)
async def load_into_memory(request: Request, wired: Wired, name: ModelInPath) -> Response:
    """Verify, load and warm up a model's newest version (or that of `name@alias`) in the process that answers."""
    parameters = await _parameters(request)
    version = await find_version(wired, reference_of(name))
    _check_config(parameters, version)
    await run_in_threadpool(wired.predictor.load, version)
    return Response()


@router.post(
    "/models/{name}/unload",
    summary="Free the memory of a model",
    openapi_extra=_optional(_PARAMETERS, {"parameters": {"unload_dependents": False}}),
    responses=replies_with("It is out of memory.") | _FAILURES,
    response_class=Response,
    response_model=None,
)
async def unload_from_memory(request: Request, wired: Wired, name: ModelInPath) -> Response:
    """Free the memory of all versions (or of that of `name@alias`); the next request loads what it needs again."""
    await _parameters(request)
    for version in await _versions(wired, reference_of(name)):
        if _reason(version) is None or version.state not in SERVED_STATES:
            wired.predictor.unload(version)
    return Response()


async def _versions(wired: Services, reference: Reference) -> Sequence[VersionRow]:
    if reference.alias is not None:
        return [await find_version(wired, reference)]
    # A model with rejected versions alone has none to load, but there may be some to unload.
    return wired.view.versions(reference.name) or [await find_version(wired, reference)]


def _entry(version: VersionRow) -> dict[str, str]:
    reason = _reason(version)
    state = "READY" if reason is None else "UNAVAILABLE"
    return {"name": version.name, "version": str(version.version), "state": state, "reason": reason or ""}


def _reason(version: VersionRow) -> str | None:
    """Say why a version does not serve; None if it does."""
    if version.state not in SERVED_STATES:
        return f"{version.state}: {version.manifest.rejected or 'it does not serve'}; it answers by its number alone"
    try:
        graph_of(version)
    except errors.ModelNotReadyError as missing:
        return missing.detail
    return None


async def _body(request: Request) -> dict[str, Any]:
    """Return the object that was sent; Triton's client sends nothing where it has nothing to say."""
    body = await request.body()
    content = check_json(body) if body.strip() else {}
    if not isinstance(content, dict):
        raise errors.InvalidRequestError("The body is no object.", hint="Send nothing, or {}.")
    return content


async def _parameters(request: Request) -> dict[str, Any]:
    parameters = (await _body(request)).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise errors.InvalidRequestError("`parameters` is no object.")
    if any(name.startswith("file:") for name in parameters):
        raise errors.NotSupportedError(
            "Models are not uploaded here.", hint="POST /v1/models imports an ONNX file as a version."
        )
    return parameters


def _check_config(parameters: Mapping[str, Any], version: VersionRow) -> None:
    """Refuse to change a version's configuration: it follows from its graph. The present one may be sent."""
    if "config" not in parameters:
        return
    given = parameters["config"]
    config = check_json(given.encode()) if isinstance(given, str) else given
    if not isinstance(config, dict):
        raise errors.InvalidRequestError("`config` is no object in JSON.", hint="Leave it out.")
    present = configuration(version)
    for name, value in config.items():
        if present.get(name) != value:
            raise errors.NotSupportedError(
                f"The configuration cannot be changed: `{name[:80]}` has another value.", hint="Leave `config` out."
            )
