"""Data sets: add, list, look at rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile

from app.api.bodies import CHECKED_FIELDS, STRICT_JSON, Json, read_small_json
from app.api.deps import Services, Wired
from app.api.forms import copy_upload, form_options, opened_form, required_file, workspace
from app.api.pages import LISTING, Pages, refuse_unknown_filters
from app.api.problems import documented
from app.api.v1.schemas import DatasetList, DatasetOut, DatasetRow, DatasetRows, dataset_out
from app.datasets.ingest import Upload, ingest
from app.datasets.options import Builtin, IngestOptions
from app.db import datasets
from app.db.session import reading
from app.db.tables import Dataset
from app.domain import errors, upload_errors
from app.domain.datasets import DatasetManifest, RowSet
from app.domain.error_tree import all_errors
from app.domain.explain import explain_validation
from app.domain.store_errors import StoreUnavailableError

router = APIRouter(prefix="/v1", tags=["datasets"])
_MOST_NUMBERS = 2_000_000
_options: TypeAdapter[IngestOptions] = TypeAdapter(IngestOptions)
# These options are text; all others are JSON.
_TEXT_OPTIONS = frozenset(
    [
        *("name", "builtin", "features", "task", "target", "group", "weight", "order", "part"),
        *("report_pattern", "group_pattern"),
    ]
)
_BROKEN_UPLOADS = (
    *all_errors(errors.UnreadableFileError),
    upload_errors.DigestMismatchError,
    upload_errors.UnsupportedWavEncodingError,
    upload_errors.DecompressionBombError,
    upload_errors.ImageTooLargeError,
    upload_errors.AudioTooLongError,
)
_FILE = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["builtin"],
                    "properties": {
                        "builtin": {"enum": ["digits", "fashion_mnist", "mnist1d"]},
                        "name": {"type": "string", "description": "Default: the builtin's own name."},
                    },
                },
                "examples": {"digits": {"value": {"builtin": "digits"}}},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "name"],
                    "properties": {
                        "file": {**_FILE, "description": "NPZ, CSV, or a ZIP of images or WAVs in label folders."},
                        "report_file": {**_FILE, "description": "The official report part, if there is one."},
                        "name": {"type": "string"},
                        "options": {"type": "string", "description": "JSON object of options, or one form field each."},
                    },
                }
            },
        },
    }
}


@router.post(
    "/datasets",
    status_code=201,
    summary="Add a data set",
    openapi_extra=_BODY,
    responses={
        200: {"model": DatasetOut, "description": "The same data set was there already."},
        **documented(
            *STRICT_JSON,
            *CHECKED_FIELDS,
            *_BROKEN_UPLOADS,
            errors.MalformedRequestError,
            errors.UnknownComponentError,
            errors.InvalidNameError,
            errors.AlreadyExistsError,
            errors.DatasetUnavailableError,
            StoreUnavailableError,
        ),
    },
)
async def add_dataset(request: Request, wired: Wired, response: Response) -> DatasetOut:
    """Register a builtin, or read an uploaded file in a process that may do nothing else."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        document, is_new = await _add_upload(request, wired)
    else:
        document, is_new = await _add_builtin(request, wired)
    if not is_new:
        response.status_code = 200
    response.headers["Location"] = f"/v1/datasets/{document.name}"
    return document


async def _add_builtin(request: Request, wired: Services) -> tuple[DatasetOut, bool]:
    given = await read_small_json(request, wired.settings.limits.body_bytes)
    if isinstance(given, dict) and "builtin" in given:
        given.setdefault("name", given["builtin"])
    options = _read_options(given)
    if options.builtin is None:
        raise errors.InvalidRequestError("/builtin: Field required.", hint="Name a builtin, or upload a file.")
    return await run_in_threadpool(_keep, wired, options.builtin, options, {"builtin": options.builtin})


async def _add_upload(request: Request, wired: Services) -> tuple[DatasetOut, bool]:
    async with opened_form(request, most_files=2) as form:
        given = form_options(form, texts=_TEXT_OPTIONS)
        given.pop("builtin", None)
        return await run_in_threadpool(_keep_form, wired, form, _read_options(given))


def _read_options(given: Json) -> IngestOptions:
    try:
        return _options.validate_python(given)
    except ValidationError as invalid:
        raise explain_validation(invalid.errors(include_url=False), _options.json_schema()) from None


def _keep_form(wired: Services, form: FormData, options: IngestOptions) -> tuple[DatasetOut, bool]:
    file, report = required_file(form), form.get("report_file")
    with workspace(wired.settings.home) as folder:
        upload = Upload(
            path=copy_upload(file, folder / "file"),
            filename=file.filename or "",
            report_path=copy_upload(report, folder / "report_file") if isinstance(report, UploadFile) else None,
            report_filename=(report.filename or "") if isinstance(report, UploadFile) else "",
        )
        return _keep(wired, upload, options, {"filename": Path(upload.filename).name[:255]})


def _keep(
    wired: Services, source: Upload | Builtin, options: IngestOptions, origin: Mapping[str, Any]
) -> tuple[DatasetOut, bool]:
    read = ingest(source, options, workspace=wired.settings.home / "uploads", store=wired.store)
    with wired.sessions.begin() as session:
        row, is_new = datasets.add_dataset(session, options.name, read.manifest, source=dict(origin))
        return dataset_out(row, read.notes), is_new


@router.get("/datasets", summary="List data sets", responses=documented(*LISTING))
def list_datasets(request: Request, wired: Wired, page: Pages) -> DatasetList:
    """List the registered data sets by name."""
    refuse_unknown_filters(request, frozenset())
    with reading(wired.sessions) as session:
        found = datasets.list_datasets(session, page.request)
    return DatasetList(datasets=[dataset_out(row) for row in found.items], next_page_token=page.token(found.next))


@router.get("/datasets/{name}", summary="Look at a data set", responses=documented(errors.NotFoundError))
def get_dataset(wired: Wired, name: str) -> DatasetOut:
    """Return one data set: schema, digest, statistics."""
    with reading(wired.sessions) as session:
        return dataset_out(_find(datasets.find_dataset(session, name), name))


def _find(row: Dataset | None, name: str) -> Dataset:
    if row is None:
        raise errors.NotFoundError(f"There is no data set {name[:80]!r}.", hint="GET /v1/datasets lists them.")
    return row


@router.get(
    "/datasets/{name}/rows",
    summary="Look at rows",
    responses=documented(errors.NotFoundError, errors.ArtifactCorruptedError),
)
def get_dataset_rows(
    wired: Wired,
    name: str,
    row_set: Annotated[RowSet, Query(alias="set")] = "report",
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
) -> DatasetRows:
    """Return rows as models see them, with what they should answer."""
    with reading(wired.sessions) as session:
        manifest = DatasetManifest.model_validate(_find(datasets.find_dataset(session, name), name).manifest)
    schema = manifest.dataset_schema
    inputs, targets = (wired.arrays.array(manifest.files[f"{row_set}_{part}"]) for part in "xy")
    weights = wired.arrays.array(manifest.files[f"{row_set}_weight"]) if schema.row_weights else None
    chosen = slice(offset, offset + min(limit, max(1, _MOST_NUMBERS // max(1, inputs[:1].size))))
    is_class = schema.task == "classification"
    rows = [
        DatasetRow(
            row=offset + index,
            x=bytes(x).rstrip(b"\0").decode("utf-8", "replace") if schema.features == "text" else x.tolist(),
            y=int(y) if is_class else float(y[0]) if y.size else None,
            label=schema.classes[int(y)] if is_class else None,
            weight=None if weights is None else float(weights[offset + index]),
        )
        for index, (x, y) in enumerate(zip(inputs[chosen], targets[chosen], strict=True))
    ]
    return DatasetRows(dataset=name, set=row_set, offset=offset, total_rows=len(targets), rows=rows)
