"""The registry: models, versions, reports, lineage, artifacts."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field, TypeAdapter

from app.api.bodies import CHECKED_FIELDS, STRICT_JSON, read_model
from app.api.deps import Services, Wired
from app.api.openapi import json_body
from app.api.pages import LISTING, Pages, refuse_unknown_filters
from app.api.problems import documented
from app.api.v1.downloads import IfNoneMatch, Offer, send_file
from app.api.v1.lookup import AliasInPath, NameInPath, VersionInPath, etag, find_in_view, find_version
from app.api.v1.schemas import (
    LineageOut,
    ModelList,
    ModelOut,
    VersionList,
    VersionOut,
    link_out,
    model_out,
    version_out,
)
from app.db import registry, retiring
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain import errors, request_errors
from app.domain.datasets import Value
from app.domain.models import VersionKind
from app.domain.names import Reference
from app.domain.specs import TagText

router = APIRouter(prefix="/v1", tags=["models"])
REPORT = "report.json"


class TagsIn(Value):
    """New tags of a version; they replace all others."""

    tags: dict[TagText, TagText] = Field(max_length=50)


class DescriptionIn(Value):
    """A new description of a model."""

    description: str = Field(max_length=10_000)


_tags: TypeAdapter[TagsIn] = TypeAdapter(TagsIn)
_description: TypeAdapter[DescriptionIn] = TypeAdapter(DescriptionIn)
_REFUSALS = (*STRICT_JSON, *CHECKED_FIELDS, errors.ModelNotFoundError)


# Bodies are read only where the path names something, so they ask for the path too.
async def _read_tags(request: Request, name: NameInPath, version: VersionInPath) -> TagsIn:  # noqa: ARG001
    return await read_model(request, _tags)


async def _read_description(request: Request, name: NameInPath) -> DescriptionIn:  # noqa: ARG001
    return await read_model(request, _description)


@router.get("/models", summary="List models", responses=documented(*LISTING))
def list_models(
    request: Request, wired: Wired, page: Pages, kind: Annotated[VersionKind | None, Query()] = None
) -> ModelList:
    """List the models by name, each with its newest version."""
    refuse_unknown_filters(request, frozenset({"kind"}))
    with reading(wired.sessions) as session:
        found = registry.list_models(session, page.request, kind=kind)
    return ModelList(models=[model_out(row) for row in found.items], next_page_token=page.token(found.next))


@router.get("/models/{name}", summary="Look at a model", responses=documented(errors.ModelNotFoundError))
def get_model(wired: Wired, name: NameInPath) -> ModelOut:
    """Return a model: newest version, aliases, and the state of its versions in TensorFlow Serving's words."""
    with reading(wired.sessions) as session:
        row = registry.get_model(session, name)
    wired.view.refresh()
    return model_out(row, wired.view.versions(name))


@router.patch(
    "/models/{name}",
    summary="Describe a model",
    openapi_extra=json_body(_description.json_schema(), {"a sentence": {"description": "Reads handwritten digits."}}),
    responses=documented(*_REFUSALS),
)
def update_model(
    wired: Wired, name: NameInPath, body: Annotated[DescriptionIn, Depends(_read_description)]
) -> ModelOut:
    """Replace a model's description."""
    with wired.sessions.begin() as session:
        retiring.describe_model(session, name, body.description)
    return get_model(wired, name)


@router.get(
    "/models/{name}/versions", summary="List versions", responses=documented(errors.ModelNotFoundError, *LISTING)
)
def list_versions(request: Request, wired: Wired, name: NameInPath, page: Pages) -> VersionList:
    """List a model's versions, the newest first."""
    refuse_unknown_filters(request, frozenset())
    with reading(wired.sessions) as session:
        found = registry.list_versions(session, name, page.request)
    return VersionList(versions=[version_out(row) for row in found.items], next_page_token=page.token(found.next))


@router.get(
    "/models/{name}/versions/{version}",
    summary="Look at a version",
    responses=documented(errors.ModelNotFoundError, errors.ModelDeletedError),
)
async def get_version(wired: Wired, name: NameInPath, version: VersionInPath, response: Response) -> VersionOut:
    """Return one version: what it is, what was measured, which files it has."""
    return await _version(wired, Reference(name, version), response)


@router.get(
    "/models/{name}/labels/{alias}", summary="Look at an alias", responses=documented(errors.ModelNotFoundError)
)
async def get_version_by_alias(wired: Wired, name: NameInPath, alias: AliasInPath, response: Response) -> VersionOut:
    """Return the version that an alias names now."""
    return await _version(wired, Reference(name, alias=alias), response)


async def _version(wired: Services, reference: Reference, response: Response) -> VersionOut:
    row = await find_version(wired, reference)
    # The tag is what an alias' If-Match compares; the document also holds labels that may change, so it is never a 304.
    response.headers["ETag"] = etag(row.digest)
    return version_out(row)


@router.patch(
    "/models/{name}/versions/{version}",
    summary="Replace a version's tags",
    openapi_extra=json_body(_tags.json_schema(), {"one tag": {"tags": {"team": "vision"}}}),
    responses=documented(*_REFUSALS, errors.ModelDeletedError),
)
def update_version(
    wired: Wired, name: NameInPath, version: VersionInPath, body: Annotated[TagsIn, Depends(_read_tags)]
) -> VersionOut:
    """Replace the labels that users put on a version; everything else of it is immutable."""
    with wired.sessions.begin() as session:
        row = registry.resolve(session, Reference(name, version))
        registry.set_tags(session, row.id, body.tags)
    wired.view.refresh()
    return version_out(wired.view.resolve(Reference(name, version)))


@router.delete(
    "/models/{name}/versions/{version}",
    status_code=204,
    summary="Delete a version",
    responses=documented(errors.ModelNotFoundError, errors.ModelDeletedError, errors.StillReferencedError),
)
def delete_version(wired: Wired, name: NameInPath, version: VersionInPath) -> None:
    """Take a version out of service, unless an alias, an ensemble or a job needs it; its number is not used again."""
    find_in_view(wired, Reference(name, version))
    with wired.sessions.begin() as session:
        retiring.delete_version(session, name, version)
    wired.view.refresh()


@router.get(
    "/models/{name}/versions/{version}/report",
    summary="Read a report",
    response_model=None,
    responses={
        200: {"description": "Every measured number.", "content": {"application/json": {"schema": {"type": "object"}}}},
        **documented(errors.ModelNotFoundError, errors.ModelDeletedError, errors.ArtifactCorruptedError),
    },
)
def get_report(wired: Wired, name: NameInPath, version: VersionInPath) -> Response:
    """Return every number that was measured on a version, its comparisons and verdicts."""
    # In a thread: a report with every row's answer may be large.
    row = find_in_view(wired, Reference(name, version))
    return Response(read_artifact(wired, row, REPORT), media_type="application/json")


def read_artifact(wired: Services, row: VersionRow, file: str) -> bytes:
    """Return the verified content of a version's file; raise NotFoundError."""
    if file not in row.manifest.files:
        raise errors.NotFoundError(f"{row.name}/{row.version} has no file {file[:80]!r}.", hint=_known_files(row))
    return wired.store.fetch(row.manifest.files[file].sha256).read_bytes()


def read_json_artifact(wired: Services, row: VersionRow, file: str) -> dict[str, Any]:
    """Return a version's JSON file, or {} when it has none of that name."""
    if file not in row.manifest.files:
        return {}
    content: dict[str, Any] = orjson.loads(read_artifact(wired, row, file))
    return content


def _known_files(row: VersionRow) -> str:
    return f"It has {', '.join(sorted(row.manifest.files))}."


@router.get(
    "/models/{name}/versions/{version}/lineage",
    summary="Lineage",
    responses=documented(errors.ModelNotFoundError, errors.ModelDeletedError),
)
def get_lineage(wired: Wired, name: NameInPath, version: VersionInPath) -> LineageOut:
    """Return what a version was made from (parent, teacher, members), and what was made from it."""
    with reading(wired.sessions) as session:
        found = registry.lineage(session, registry.resolve(session, Reference(name, version)).id)
    return LineageOut(
        name=name,
        version=version,
        made_from=[link_out(link) for link in found.made_from],
        used_by=[link_out(link) for link in found.used_by],
    )


@router.get(
    "/models/{name}/versions/{version}/artifacts/{file}",
    summary="Download a file",
    response_class=FileResponse,
    responses={
        206: {"description": "The range that was asked for.", "content": {"application/octet-stream": {}}},
        304: {"description": "The file is the one of the given ETag."},
        **documented(
            errors.ModelNotFoundError,
            errors.ModelDeletedError,
            request_errors.RangeNotSatisfiableError,
            errors.ArtifactCorruptedError,
        ),
    },
)
def download_artifact(
    request: Request,
    wired: Wired,
    name: NameInPath,
    version: VersionInPath,
    file: str,
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Download a file of a version: `model.onnx`, `model.packed`, `network.json`, `report.json` and others."""
    row = find_in_view(wired, Reference(name, version))
    if file not in row.manifest.files:
        raise errors.NotFoundError(f"{name}/{version} has no file {file[:80]!r}.", hint=_known_files(row))
    offer = Offer(
        row.manifest.files[file],
        filename=f"{name}-{version}-{file}",
        media_type="application/json" if file.endswith(".json") else "application/octet-stream",
    )
    return send_file(request, wired, offer, if_none_match)
