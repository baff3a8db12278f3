"""What the parent process asks of the jailed child, and what the child answers."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from app.datasets.options import Builtin, IngestOptions, Limits
from app.datasets.sniff import FileFormat
from app.domain.datasets import DatasetSchema, Statistics
from app.domain.errors import LeanfuseError


class Request(BaseModel):
    """Tell the child what to read, and the folder it may write to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[Path, ...]
    formats: tuple[FileFormat, ...] = ()
    builtin: Builtin | None = None
    options: IngestOptions
    limits: Limits
    output: Path


class ErrorAnswer(BaseModel):
    """Carry an error of the tree from the child to its parent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: str
    detail: str
    hint: str = ""
    errors: tuple[tuple[str, str, str], ...] = ()


def carried(error: LeanfuseError) -> ErrorAnswer:
    """Return an error as the parent is told it."""
    return ErrorAnswer(slug=error.slug, detail=error.detail, hint=error.hint, errors=error.errors)


class Answer(BaseModel):
    """Say what was written, or why nothing was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_schema: DatasetSchema | None = None
    statistics: Statistics | None = None
    notes: tuple[str, ...] = ()
    unconfined: tuple[str, ...] = ()
    error: ErrorAnswer | None = None
