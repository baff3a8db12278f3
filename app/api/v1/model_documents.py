"""OpenAPI documents of single models, for generators of clients and for the page `/docs/models/{name}`."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from app.api.deps import Services, Wired
from app.api.model_document import Described, describe_model
from app.api.problems import documented
from app.api.v1.answers import reply
from app.api.v1.lookup import AliasInPath, NameInPath, VersionInPath, find_version, member_names
from app.db import datasets
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain import errors
from app.domain.datasets import DatasetManifest
from app.domain.names import Reference

router = APIRouter(prefix="/v1", tags=["models"])
# A longer row would fill the page, and helps nobody to write one.
_MOST_NUMBERS = 50_000
_FOUND = {
    200: {"description": "An OpenAPI 3.1 document.", "content": {"application/json": {"schema": {"type": "object"}}}}
}
_DOCUMENTED: dict[str, Any] = {
    "response_model": None,
    "responses": {
        **_FOUND,
        **documented(errors.ModelNotFoundError, errors.VersionRejectedError, errors.ArtifactCorruptedError),
    },
}
_OF_A_VERSION: dict[str, Any] = {
    "response_model": None,
    "responses": {
        **_FOUND,
        **documented(errors.ModelNotFoundError, errors.ModelDeletedError, errors.ArtifactCorruptedError),
    },
}


@router.get("/models/{name}/openapi.json", summary="OpenAPI of a model", **_DOCUMENTED)
async def get_model_openapi(request: Request, wired: Wired, name: NameInPath) -> Response:
    """Describe exactly what a model's newest version takes and answers, with a row of its data set as the example."""
    return await _document(request, wired, Reference(name), f"/v1/models/{name}")


@router.get("/models/{name}/versions/{version}/openapi.json", summary="OpenAPI of a version", **_OF_A_VERSION)
async def get_version_openapi(request: Request, wired: Wired, name: NameInPath, version: VersionInPath) -> Response:
    """Describe exactly what a version takes and answers."""
    return await _document(request, wired, Reference(name, version), f"/v1/models/{name}/versions/{version}")


@router.get("/models/{name}/labels/{alias}/openapi.json", summary="OpenAPI of an alias", **_DOCUMENTED)
async def get_alias_openapi(request: Request, wired: Wired, name: NameInPath, alias: AliasInPath) -> Response:
    """Describe exactly what the version that an alias names now takes and answers."""
    return await _document(request, wired, Reference(name, alias=alias), f"/v1/models/{name}/labels/{alias}")


async def _document(request: Request, wired: Services, reference: Reference, path: str) -> Response:
    version = await find_version(wired, reference)
    return await run_in_threadpool(_describe, request, wired, version, path)


def _describe(request: Request, wired: Services, version: VersionRow, path: str) -> Response:
    told = Described(version, path, member_names(wired, version), _example_row(wired, version))
    return reply(describe_model(told, request.app.openapi()))


def _example_row(wired: Services, version: VersionRow) -> NDArray[Any] | None:
    """Return the first report row of the data set that the version was made from, where it fits."""
    manifest = version.manifest
    with reading(wired.sessions) as session:
        row = datasets.find_dataset(session, manifest.dataset)
    if row is None:
        return None
    known = DatasetManifest.model_validate(row.manifest)
    first: NDArray[Any] = wired.arrays.array(known.files["report_x"])[0]
    fits = first.shape == manifest.input.shape and first.size <= _MOST_NUMBERS
    return np.array(first, manifest.input.dtype) if fits else None
