"""Models of others: an uploaded ONNX graph becomes a job that registers it."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile

from app.api.bodies import CHECKED_FIELDS, STRICT_JSON
from app.api.deps import Services, Wired
from app.api.forms import copy_upload, form_options, opened_form, required_file, workspace
from app.api.idempotency import OptionalKey, fingerprint
from app.api.problems import documented
from app.api.v1 import submission
from app.api.v1.jobs import accepted, dump_job
from app.api.v1.schemas import JobOut
from app.db import idempotency
from app.db.idempotency import Answer
from app.db.registering import note_blobs
from app.db.session import reading
from app.domain import errors, import_errors, request_errors
from app.domain.datasets import FileRef, canonical_json
from app.domain.explain import explain_validation
from app.domain.names import ModelName, Name
from app.domain.specs import GraphOptions, ImportSpec, TagText
from app.importing.examine import examine
from app.importing.formats import check_format

router = APIRouter(prefix="/v1", tags=["models"])


class ImportOptions(GraphOptions):
    """Say what an uploaded graph is registered as, and what it answers."""

    name: ModelName
    dataset: Name = Field(description="The data set whose rows it takes, and on which it is measured.")
    alias: Name | None = None
    tags: dict[TagText, TagText] = Field(default_factory=dict, max_length=50)
    reuse: bool = True
    priority: Annotated[int, Field(ge=-10, le=10)] = 0


_options: TypeAdapter[ImportOptions] = TypeAdapter(ImportOptions)
# These options are text; all others are JSON.
_TEXT_OPTIONS = frozenset({"name", "dataset", "output", "answers", "alias"})
_PLACEHOLDER = FileRef(sha256="0" * 64, size_bytes=0)
_TEXT = {"type": "string"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "name", "dataset"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "An ONNX file, whole in itself."},
                        "name": _TEXT,
                        "dataset": _TEXT,
                        "classes": {**_TEXT, "description": "JSON list: the classes in the graph's own order."},
                        "output": {**_TEXT, "description": "The output that is taken, where several could be."},
                        "answers": {"enum": ["probabilities", "logits"]},
                        "alias": _TEXT,
                        "tags": {**_TEXT, "description": "JSON object."},
                        "options": {**_TEXT, "description": "JSON object of options, or one form field each."},
                    },
                }
            }
        },
    }
}


class _Upload(NamedTuple):
    """An uploaded file in a place of ours, and what its sender calls it."""

    path: Path
    filename: str


@router.post(
    "/models",
    status_code=202,
    summary="Import an ONNX model",
    response_model=JobOut,
    openapi_extra=_BODY,
    responses=documented(
        *STRICT_JSON,
        *CHECKED_FIELDS,
        errors.MalformedRequestError,
        errors.UnknownComponentError,
        errors.InvalidNameError,
        request_errors.InvalidIdempotencyKeyError,
        request_errors.IdempotencyInProgressError,
        import_errors.UnsupportedModelFormatError,
        import_errors.InvalidModelError,
        import_errors.UnsafeModelError,
        errors.ModelTooLargeError,
        errors.ShapeMismatchError,
        errors.DatasetNotFoundError,
        request_errors.IdempotencyKeyReusedError,
        errors.ArtifactCorruptedError,
    ),
)
async def import_model(request: Request, wired: Wired, key: OptionalKey) -> Response:
    """Look through an uploaded graph in a process that may do nothing else, then accept the job that registers it."""
    async with opened_form(request, most_files=1) as form:
        options = _read_options(form_options(form, texts=_TEXT_OPTIONS))
        return await run_in_threadpool(_accept, request, wired, key, options, required_file(form))


def _read_options(given: dict[str, Any]) -> ImportOptions:
    try:
        return _options.validate_python(given)
    except ValidationError as invalid:
        raise explain_validation(invalid.errors(include_url=False), _options.json_schema()) from None


def _accept(request: Request, wired: Services, key: str | None, options: ImportOptions, file: UploadFile) -> Response:
    with workspace(wired.settings.home) as folder:
        upload = _Upload(copy_upload(file, folder / "file"), file.filename or "")
        request_sha256 = _fingerprint(request, options, upload.path)
        spec = _examined(wired, options, upload)
        spec = spec.model_copy(update={"file": wired.store.put(upload.path)})
    return _submit(wired, spec, key, request_sha256)


def _fingerprint(request: Request, options: ImportOptions, path: Path) -> str:
    """Tell one import from another; the form's own bytes hold a boundary that differs every time."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").digest()
    return fingerprint(request, canonical_json(options.model_dump(mode="json")) + content)


def _examined(wired: Services, options: ImportOptions, upload: _Upload) -> ImportSpec:
    """Return the spec of the job, its file still to be named; raise what makes it impossible."""
    check_format(upload.path, upload.filename)
    spec = ImportSpec(kind="import", file=_PLACEHOLDER, **options.model_dump())
    with reading(wired.sessions) as session:
        checked = submission.check(session, spec, store=wired.store, limits=wired.settings.limits)
    found = examine(
        upload.path,
        checked.dataset.dataset_schema,
        GraphOptions(classes=options.classes, output=options.output, answers=options.answers),
        most_parameters=wired.settings.limits.parameters,
        workspace=wired.settings.home / "uploads",
    )
    return spec.model_copy(update=found.model_dump())


def _submit(wired: Services, spec: ImportSpec, key: str | None, request_sha256: str) -> Response:
    with wired.sessions.begin() as session:
        kept = idempotency.claim_key(session, key, request_sha256) if key else None
        if kept is not None:
            return accepted(kept.body, replayed=True)
        note_blobs(session, {"file": spec.file})
        checked = submission.check(session, spec, store=wired.store, limits=wired.settings.limits)
        document = dump_job(submission.submit(session, checked))
        if key:
            idempotency.keep_answer(session, key, Answer(202, document))
    wired.hinter.hint(document["id"])
    return accepted(document)
