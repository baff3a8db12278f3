"""The routes of MLflow's model registry, under both prefixes that its clients use."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app import __version__
from app.api.deps import services
from app.api.mlflow import artifacts, models, versions
from app.api.mlflow import requests as sent
from app.api.mlflow.errors import described_errors
from app.api.mlflow.replies import Reply
from app.api.openapi import json_body
from app.domain import errors, request_errors
from app.domain.errors import LeanfuseError

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """One operation: where, what is sent, what answers, and an example of the body."""

    method: str
    path: str
    kind: type[sent.Fields]
    handler: Callable[..., Reply]
    summary: str
    example: Mapping[str, Any] | None = None
    needs_base_url: bool = False


_MODEL = {"name": "digits-cnn"}
_NEW = {"name": "digits-best"}
_VERSION = {"name": "digits-cnn", "version": "1"}
_TAG = {"key": "team", "value": "vision"}
OPERATIONS = (
    Operation("POST", "registered-models/create", sent.NewModel, models.create, "Make a registered model", _NEW),
    Operation("GET", "registered-models/get", sent.ModelName, models.get, "Look at a registered model"),
    Operation("GET", "registered-models/search", sent.ModelSearch, models.search, "Search registered models"),
    Operation(
        "POST",
        "registered-models/rename",
        sent.NewName,
        models.rename,
        "Rename a registered model",
        {**_MODEL, "new_name": "digits-large"},
    ),
    Operation(
        "PATCH",
        "registered-models/update",
        sent.ModelDescription,
        models.update,
        "Describe a registered model",
        {**_MODEL, "description": "Reads digits."},
    ),
    Operation("DELETE", "registered-models/delete", sent.ModelName, models.delete, "Delete a registered model", _MODEL),
    Operation(
        "POST",
        "registered-models/set-tag",
        sent.ModelTagIn,
        models.set_tag,
        "Tag a registered model",
        {**_MODEL, **_TAG},
    ),
    Operation(
        "DELETE",
        "registered-models/delete-tag",
        sent.ModelTagKey,
        models.delete_tag,
        "Untag a registered model",
        {**_MODEL, "key": "team"},
    ),
    Operation(
        "GET", "registered-models/get-latest-versions", sent.Stages, models.get_latest_versions, "The newest version"
    ),
    Operation(
        "POST",
        "registered-models/get-latest-versions",
        sent.Stages,
        models.get_latest_versions,
        "The newest version, by POST",
        _MODEL,
    ),
    Operation(
        "POST",
        "registered-models/alias",
        sent.NewAlias,
        models.set_alias,
        "Let an alias name a version",
        {**_VERSION, "alias": "champion"},
    ),
    Operation("GET", "registered-models/alias", sent.ModelAlias, models.get_by_alias, "Look at a version by its alias"),
    Operation(
        "DELETE",
        "registered-models/alias",
        sent.ModelAlias,
        models.delete_alias,
        "Remove an alias of a registered model",
        {**_MODEL, "alias": "champion"},
    ),
    Operation(
        "POST",
        "model-versions/create",
        sent.NewVersionIn,
        versions.create,
        "Register a version under another name",
        {"name": "digits", "source": "models:/digits-cnn/1"},
        needs_base_url=True,
    ),
    Operation("GET", "model-versions/get", sent.NumberedVersion, versions.get, "Look at a model version"),
    Operation("GET", "model-versions/search", sent.VersionSearch, versions.search, "Search model versions"),
    Operation(
        "GET",
        "model-versions/get-download-uri",
        sent.NumberedVersion,
        versions.get_download_uri,
        "Where a version's files lie",
        needs_base_url=True,
    ),
    Operation(
        "PATCH",
        "model-versions/update",
        sent.VersionDescription,
        versions.update,
        "Describe a model version",
        {**_VERSION, "description": "The first."},
    ),
    Operation(
        "POST", "model-versions/set-tag", sent.VersionTagIn, versions.set_tag, "Tag a version", {**_VERSION, **_TAG}
    ),
    Operation(
        "DELETE",
        "model-versions/delete-tag",
        sent.VersionTagKey,
        versions.delete_tag,
        "Untag a version",
        {**_VERSION, "key": "team"},
    ),
    Operation(
        "DELETE", "model-versions/delete", sent.NumberedVersion, versions.delete, "Delete a model version", _VERSION
    ),
    Operation(
        "POST",
        "model-versions/transition-stage",
        sent.VersionStage,
        versions.transition_stage,
        "Refuse a stage",
        {**_VERSION, "stage": "None"},
    ),
)


def routers() -> tuple[APIRouter, APIRouter]:
    """Return the routes under `/api`, and the same under `/ajax-api`, where pages of a browser ask."""
    return _router("/api", shown=True), _router("/ajax-api", shown=False)


def _router(start: str, *, shown: bool) -> APIRouter:
    router = APIRouter(tags=["mlflow"], include_in_schema=shown)
    for operation in OPERATIONS:
        add = partial(router.add_api_route, f"{start}/2.0/mlflow/{operation.path}", methods=[operation.method])
        add(_endpoint(operation), **_described(operation), name=_id_of(operation), openapi_extra=_sent(operation))
    files = f"{start}/2.0/mlflow-artifacts/artifacts"
    listed = Operation("GET", "", sent.ArtifactPath, artifacts.list_artifacts, "List the files of a version")
    add = partial(router.add_api_route, methods=["GET"])
    add(files, _endpoint(listed), **_described(listed), name="mlflow_list_artifacts", openapi_extra=_sent(listed))
    add(
        f"{files}/{{path:path}}",
        _download,
        summary="Download a file of a version",
        name="mlflow_download_artifact",
        responses={
            206: {"description": "The range that was asked for."},
            416: {"description": "Several ranges, or one beyond the end."},
            **described_errors(errors.ModelNotFoundError, errors.NotFoundError, errors.ArtifactCorruptedError),
        },
    )
    add(f"{start}/3.0/mlflow/server-info", _server_info, summary="What this registry can do", name="mlflow_server_info")
    hidden = partial(router.add_api_route, include_in_schema=False)
    hidden(f"{files}/{{path:path}}", _refuse_change, methods=["PUT", "POST", "PATCH", "DELETE"])
    hidden(f"{start}/2.0/mlflow/logged-models/{{path:path}}", _no_logged_model, methods=["GET"])
    hidden(f"{start}/2.0/mlflow/runs/{{path:path}}", _no_runs, methods=["GET", "POST", "PATCH", "DELETE"])
    return router


def _endpoint(operation: Operation) -> Endpoint:
    async def answer(request: Request) -> Response:
        asked = await sent.read_fields(request, operation.kind)
        more = (str(request.base_url).rstrip("/"),) if operation.needs_base_url else ()
        reply = await run_in_threadpool(operation.handler, services(request), asked, *more)
        return Response(orjson.dumps(reply), media_type="application/json")

    return answer


async def _download(request: Request, path: str) -> Response:
    """Download a file of a version: `MLmodel`, `model.onnx`, `report.json` and others."""
    if "," in request.headers.get("range", ""):
        # One request must not make the service assemble thousands of pieces.
        return Response(status_code=416)
    return await run_in_threadpool(artifacts.download, services(request), path)


async def _server_info() -> dict[str, Any]:
    """Tell MLflow's clients what they need not try: uploads in parts, workspaces, traces."""
    return {
        "store_type": None,
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
        "leanfuse": __version__,
    }


async def _refuse_change(path: str) -> Response:
    raise request_errors.MethodNotAllowedError(
        f"The files of a version never change, so nothing is written at {path[:80]!r}.",
        hint="`POST /v1/models` imports an ONNX graph as a new version.",
    )


async def _no_logged_model(path: str) -> Response:
    raise errors.ModelNotFoundError(
        f"There is no logged model {path[:80]!r}.", hint="Name a version, `models:/name/3`, or an alias."
    )


async def _no_runs(path: str) -> Response:
    raise errors.NotFoundError(
        f"Leanfuse keeps no runs of MLflow, so nothing answers runs/{path[:40]}.",
        hint="`GET /v1/jobs` lists the jobs that made the versions.",
    )


def _id_of(operation: Operation) -> str:
    return f"mlflow_{operation.method.lower()}_{re.sub('[^a-z]', '_', operation.path)}"


def _described(operation: Operation) -> dict[str, Any]:
    answered = {"description": "As MLflow answers.", "content": {"application/json": {"schema": {"type": "object"}}}}
    changes = (errors.ConflictError,) if operation.method != "GET" else ()
    refused = described_errors(errors.InvalidRequestError, errors.ModelNotFoundError, *_taken(operation), *changes)
    return {
        "summary": operation.summary,
        "description": operation.handler.__doc__,
        "response_model": None,
        "responses": {200: answered, **refused},
    }


def _taken(operation: Operation) -> tuple[type[LeanfuseError], ...]:
    return (errors.AlreadyExistsError,) if operation.path.endswith(("create", "rename")) else ()


def _sent(operation: Operation) -> dict[str, Any]:
    schema = operation.kind.model_json_schema()
    definitions = schema.pop("$defs", {})
    for described in schema["properties"].values():
        if "$ref" in described.get("items", {}):
            described["items"] = definitions[described["items"]["$ref"].rpartition("/")[2]]
    if operation.example is not None:
        return json_body(schema, {"one": operation.example})
    required = schema.get("required", ())
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": described}
            for name, described in schema["properties"].items()
        ]
    }
