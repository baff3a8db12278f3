"""GET predictions: of rows of a registered data set, or of small inputs in the query."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from app.api.deps import Services, Wired
from app.api.pages import PageSize, PageToken, Paging, scope_of
from app.api.problems import documented
from app.api.tensorflow import Served
from app.api.v1.answers import Wanted, ask_along, describe_rows, reply
from app.api.v1.lookup import NameInPath, etag, matches, route_version
from app.db import datasets
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain import errors, prediction_errors, request_errors
from app.domain.datasets import DatasetManifest, RowSet
from app.domain.explain import suggest
from app.domain.models import VersionManifest
from app.domain.names import NAME_PATTERN, Reference
from app.serving.inputs import texts_to_rows
from app.serving.view import Route

router = APIRouter(prefix="/v1", tags=["predictions"])
_MOST_ROWS = 1000
_DEFAULT_LIMIT = 100
_PAGING = frozenset({"page_size", "page_token"})
_PLACES = frozenset({"offset", "limit"})


class MemberPrediction(BaseModel):
    """What one member says of a row."""

    label: str | None = Field(None, description="Of a classification: the most probable class.")
    probabilities: list[float] = Field([], description="Of a classification: one number per class.")
    logits: list[float] = Field([], description="Of a serial ensemble's member, which only adds to those before it.")
    prediction: float | None = Field(None, description="Of a regression.")


class RowPrediction(BaseModel):
    """What the model says of a row, and what is known of it."""

    label: str | None = Field(None, description="Of a classification: the most probable class.")
    probabilities: list[float] = Field([], description="Of a classification: one number per class.")
    prediction: float | None = Field(None, description="Of a regression.")
    members: list[MemberPrediction] = []
    uncertainty: dict[str, float] = {}
    set: list[str] = Field([], description="The classes of the prediction set.")
    answered_by: int | None = Field(None, description="Of a cascade: the place of the member that answered.")
    row: int | None = Field(None, description="Of a data set's row: its place in the set.")
    actual: str | float | None = Field(None, description="Of a data set's row: the right answer.")


class Predictions(Served):
    """One prediction per row; what was not asked for is left out."""

    dataset: str = ""
    set: str = ""
    offset: int = 0
    total_rows: int = 0
    next_page_token: str = Field("", description="Send it as `page_token` for the rows after these; empty at the end.")
    predictions: list[RowPrediction]


_DOCUMENTED: dict[str, Any] = {
    "responses": {
        200: {
            "description": "One prediction per row.",
            "model": Predictions,
        },
        304: {"description": "Nothing has changed since the given ETag."},
        **documented(
            request_errors.InvalidPageTokenError,
            errors.ModelNotFoundError,
            errors.ModelDeletedError,
            errors.ModelNotReadyError,
            errors.VersionRejectedError,
            errors.DatasetNotFoundError,
            prediction_errors.InputShapeMismatchError,
            prediction_errors.InvalidInputValueError,
            errors.OutOfRangeError,
            errors.ArtifactCorruptedError,
            errors.OverloadedError,
            prediction_errors.PredictionTimeoutError,
        ),
    },
    "response_model": None,
}


class Asked(NamedTuple):
    """Hold the query of a prediction. `pinned` is the version that the pages before came from."""

    dataset: str | None
    row_set: RowSet
    offset: int
    limit: int
    x: list[str]
    version: int | None
    alias: str | None
    members: bool
    uncertainty: bool
    sets: bool
    page: Paging
    pinned: int | None

    def reference(self, name: str) -> Reference:
        """Return the version to ask: all pages of a walk come from one, wherever an alias moves."""
        return Reference(name, self.version, self.alias) if self.pinned is None else Reference(name, self.pinned)


def asked(
    request: Request,
    wired: Wired,
    dataset: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Predict rows of this data set.")] = None,
    row_set: Annotated[RowSet, Query(alias="set", description="Which of its sets.")] = "report",
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = _DEFAULT_LIMIT,
    x: Annotated[
        list[str] | None,
        Query(max_length=100, description="One row: numbers split by commas, or text for a model of text. Repeatable."),
    ] = None,
    version: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    alias: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    members: Annotated[bool, Query(description="Answer each member's prediction too.")] = False,
    uncertainty: Annotated[bool, Query(description="Answer entropy, disagreement and the like too.")] = False,
    sets: Annotated[bool, Query(description="Answer sets of classes too, of an ensemble with `conformal`.")] = False,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Asked:
    """Read the query; refuse combinations that would leave a part of it without effect."""
    if (dataset is None) == (not x):
        raise errors.InvalidRequestError(
            "Either `dataset` or `x` says what to predict.", hint="Send `?dataset=digits` or `?x=5.1,3.5,1.4,0.2`."
        )
    if version is not None and alias is not None:
        raise errors.InvalidRequestError("Both `version` and `alias` are there.", hint="Send one of them.")
    page, pinned = _page(request, wired, page_size, page_token), None
    # Generated clients send the defaults too: they ask for nothing.
    if page_size or page_token:
        _check_paging(request, has_place=(offset, limit) != (0, _DEFAULT_LIMIT))
        limit = page.request.size
    if page.request.after is not None:
        pinned, offset = (int(number) for number in page.request.after.split(":"))
    return Asked(dataset, row_set, offset, limit, x or [], version, alias, members, uncertainty, sets, page, pinned)


def _page(request: Request, wired: Services, page_size: int, page_token: str) -> Paging:
    ignored = _PAGING | _PLACES
    filters = {name: value for name, value in request.query_params.items() if name not in ignored}
    return Paging(wired.page_key, scope_of(request.url.path, filters), page_size, page_token)


def _check_paging(request: Request, *, has_place: bool) -> None:
    """Refuse pages of inputs in the query, and pages that begin elsewhere than their token says."""
    if "dataset" not in request.query_params:
        raise errors.InvalidRequestError("Only rows of a data set come in pages.", hint="Send `dataset`, or no page.")
    if has_place:
        raise errors.InvalidRequestError(
            "`page_size` and `page_token` say which rows, and so do `offset` and `limit`.", hint="Send one of the two."
        )


Query_ = Annotated[Asked, Depends(asked)]
IfNoneMatch = Annotated[str, Header(description="ETag of an answer that you have.")]


@router.get("/ensembles/{name}/predictions", summary="GET predictions of a fused ensemble", **_DOCUMENTED)
async def get_ensemble_predictions(
    request: Request, wired: Wired, name: NameInPath, query: Query_, if_none_match: IfNoneMatch = ""
) -> Response:
    """Return what the fused ensemble predicts for rows of a data set, or for small inputs in the query."""
    route = await route_version(wired, query.reference(name), request.headers, kind="ensemble")
    return await _predictions(request, wired, route, query, if_none_match)


@router.get("/models/{name}/predictions", summary="GET predictions of a model", **_DOCUMENTED)
async def get_model_predictions(
    request: Request, wired: Wired, name: NameInPath, query: Query_, if_none_match: IfNoneMatch = ""
) -> Response:
    """Return what a model predicts for rows of a data set, or for small inputs in the query."""
    route = await route_version(wired, query.reference(name), request.headers)
    return await _predictions(request, wired, route, query, if_none_match)


async def _predictions(request: Request, wired: Services, route: Route, query: Asked, if_none_match: str) -> Response:
    version = route.version
    if query.dataset is None:
        rows, about = texts_to_rows(query.x, version.manifest.input), _About("", {}, [])
    else:
        rows, about = await run_in_threadpool(_dataset_rows, wired, version, query)
    digest = hashlib.sha256(f"{version.digest} {about.digest} {request.url.query}".encode()).hexdigest()
    headers = {"ETag": etag(digest), "Cache-Control": "no-cache"}
    if matches(if_none_match, digest):
        return Response(status_code=304, headers=headers)
    answers = await ask_along(wired, route, rows, Wanted(query.members, query.uncertainty, query.sets))
    predictions = describe_rows(version.manifest, answers)
    for prediction, known in zip(predictions, about.known, strict=False):
        prediction.update(known)
    served = {"model": version.name, "version": version.version, "digest": version.digest}
    return reply({**served, **about.head, "predictions": predictions}, headers)


class _About(NamedTuple):
    digest: str
    head: dict[str, Any]
    known: list[dict[str, Any]]


def _dataset_rows(wired: Services, version: VersionRow, query: Asked) -> tuple[NDArray[Any], _About]:
    """Return the rows as the model takes them, and what the data set knows of each."""
    name, model = str(query.dataset), version.manifest
    with reading(wired.sessions) as session:
        row = datasets.find_dataset(session, name)
        names: Sequence[str] = () if row else datasets.dataset_names(session)
    if row is None:
        raise errors.DatasetNotFoundError(f"There is no data set {name!r}.", hint=suggest(name, names))
    manifest = DatasetManifest.model_validate(row.manifest)
    _check_fit(name, manifest, model)
    total = manifest.dataset_schema.rows[query.row_set]
    if query.offset >= total:
        raise errors.OutOfRangeError(
            f"/query/offset: {query.offset:,} is out of range.", hint=f"The set has {total:,} rows, from 0 on."
        )
    chosen = slice(query.offset, query.offset + query.limit)
    inputs, targets = (wired.arrays.array(manifest.files[f"{query.row_set}_{part}"])[chosen] for part in "xy")
    next_page = f"{version.version}:{chosen.stop}" if chosen.stop < total else None
    head = {"dataset": name, "set": query.row_set, "offset": query.offset, "total_rows": total}
    head["next_page_token"] = query.page.token(next_page)
    known = [{"row": query.offset + index, "actual": actual} for index, actual in enumerate(_actual(manifest, targets))]
    return np.ascontiguousarray(inputs, dtype=model.input.dtype), _About(row.digest, head, known)


def _actual(manifest: DatasetManifest, targets: NDArray[Any]) -> list[str | float]:
    classes = manifest.dataset_schema.classes
    return [classes[int(target)] if classes else float(target[0]) for target in targets]


def _check_fit(name: str, manifest: DatasetManifest, model: VersionManifest) -> None:
    shape = manifest.dataset_schema.shape
    if shape != model.input.shape:
        raise prediction_errors.InputShapeMismatchError(
            f"The model takes {list(model.input.shape)}; rows of {name!r} have {list(shape)}.",
            hint=f"Name a data set like {model.dataset!r}, which it was trained on.",
        )
