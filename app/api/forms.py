"""Uploads: a form with files, and options as fields of their own or as one JSON object."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from app.api.bodies import Json, check_json, check_media_type
from app.domain import errors
from app.domain.errors import FieldError

_MULTIPART = re.compile(r"multipart/form-data\s*;.*", re.IGNORECASE)


@contextlib.asynccontextmanager
async def opened_form(request: Request, *, most_files: int) -> AsyncIterator[FormData]:
    """Read a form, and close its files at the end; raise MalformedRequestError or UnsupportedMediaTypeError."""
    check_media_type(request, _MULTIPART, "multipart/form-data")
    try:
        form = await request.form(max_files=most_files, max_fields=100, max_part_size=2**20)
    except HTTPException as broken:
        raise errors.MalformedRequestError("The form could not be read.", hint=f"{str(broken.detail)[:200]}") from None
    try:
        yield form
    finally:
        await form.close()


def form_options(form: FormData, *, texts: Collection[str]) -> dict[str, Any]:
    """Return the options of a form; fields named in `texts` are text, all others JSON."""
    given: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            continue
        if name == "options":
            options = check_json(value.encode())
            given |= options if isinstance(options, dict) else {"options": options}
        else:
            given[name] = value if name in texts else _loose(value)
    return given


def _loose(text: str) -> Json:
    """Read a form field as JSON; a client that sends plain text gets the message of the field it meant."""
    try:
        return check_json(text.encode())
    except errors.MalformedJsonError:
        return text


def required_file(form: FormData) -> UploadFile:
    """Return the field `file`, or raise InvalidRequestError."""
    file = form.get("file")
    if isinstance(file, UploadFile):
        return file
    field = FieldError("/file", "Field required.", errors.InvalidRequestError.slug)
    raise errors.InvalidRequestError("/file: Field required.", hint="Send the file as `file`.", errors=[field])


@contextlib.contextmanager
def workspace(home: Path) -> Iterator[Path]:
    """Make a folder for what is under way, and remove it at the end."""
    parent = home / "uploads"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def copy_upload(upload: UploadFile, place: Path) -> Path:
    """Write an uploaded file to a place of ours."""
    with place.open("wb") as target:
        shutil.copyfileobj(upload.file, target)
    return place
