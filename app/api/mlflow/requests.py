"""What MLflow's clients send. Fields that are not known here are ignored, as MLflow's own server does."""

import typing
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from app.api.bodies import check_text, read_json
from app.domain.errors import InvalidRequestError
from app.domain.names import Reference

Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Note = Annotated[str, StringConstraints(max_length=10_000)]
TagKey = Annotated[str, StringConstraints(min_length=1, max_length=250)]
TagValue = Annotated[str, StringConstraints(max_length=100_000)]
VersionText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
Count = Annotated[int, Field(ge=1)]


class Fields(BaseModel):
    """Hold the fields of one request, those of its query or of its JSON body."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Sent = TypeVar("Sent", bound=Fields)


class Tag(Fields):
    """One tag of many."""

    key: TagKey
    value: TagValue = ""


class ModelName(Fields):
    """Name a registered model."""

    name: Text


class NewModel(ModelName):
    """Make a registered model."""

    tags: list[Tag] = Field(default_factory=list, max_length=100)
    description: Note = ""


class NewName(ModelName):
    """Rename a registered model."""

    new_name: Text


class ModelDescription(ModelName):
    """Describe a registered model."""

    description: Note = ""


class ModelTagIn(ModelName):
    """Set a tag of a registered model."""

    key: TagKey
    value: TagValue = ""


class ModelTagKey(ModelName):
    """Remove a tag of a registered model."""

    key: TagKey


class Stages(ModelName):
    """Ask for the newest version of a model in each of some stages."""

    stages: list[Text] = Field(default_factory=list, max_length=20)


class ModelAlias(ModelName):
    """Name an alias of a registered model."""

    alias: Text


class NumberedVersion(ModelName):
    """Name a version, whose number is sent as text."""

    version: VersionText

    @property
    def number(self) -> int:
        """Return the number of the version."""
        return int(self.version)

    @property
    def reference(self) -> Reference:
        """Return the version as the registry names it."""
        return Reference(self.name, self.number)


class NewAlias(NumberedVersion):
    """Point an alias at a version."""

    alias: Text


class VersionDescription(NumberedVersion):
    """Describe a version."""

    description: Note = ""


class VersionTagIn(NumberedVersion):
    """Set a tag of a version."""

    key: TagKey
    value: TagValue = ""


class VersionTagKey(NumberedVersion):
    """Remove a tag of a version."""

    key: TagKey


class VersionStage(NumberedVersion):
    """Move a version to a stage."""

    stage: Text


class NewVersionIn(ModelName):
    """Register a version once more; `source` names it, the run is a label."""

    source: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    run_id: Annotated[str, StringConstraints(max_length=500)] = ""
    run_link: Annotated[str, StringConstraints(max_length=2000)] = ""
    tags: list[Tag] = Field(default_factory=list, max_length=100)
    description: Note = ""


class ModelSearch(Fields):
    """Search registered models."""

    filter: str = ""
    order_by: list[str] = Field(default_factory=list)
    max_results: Annotated[Count, Field(le=1000)] = 100
    page_token: Annotated[str, StringConstraints(max_length=2000)] = ""


class VersionSearch(ModelSearch):
    """Search versions."""

    max_results: Annotated[Count, Field(le=200_000)] = 10_000


class ArtifactPath(Fields):
    """Name a folder of artifacts."""

    path: Annotated[str, StringConstraints(max_length=500)] = ""


async def read_fields(request: Request, kind: type[Sent]) -> Sent:
    """Return what a request sent, in its query where it is a GET; raise InvalidRequestError that names the field."""
    sent = _query(request, kind) if request.method == "GET" else orjson.loads(await read_json(request))
    if not isinstance(sent, dict):
        raise InvalidRequestError("The body is no JSON object.", hint='Send `{"name": ...}`.')
    try:
        # What is null was not sent, as in every message of Protocol Buffers.
        return kind.model_validate({name: value for name, value in sent.items() if value is not None})
    except ValidationError as invalid:
        raise InvalidRequestError(_explain(invalid.errors(include_url=False)[0])) from None


def _query(request: Request, kind: type[Fields]) -> dict[str, Any]:
    sent: dict[str, Any] = {}
    for name, known in kind.model_fields.items():
        values = request.query_params.getlist(name)
        for value in values:
            check_text(value)
        if values:
            sent[name] = values if typing.get_origin(known.annotation) is list else values[-1]
    return sent


def _explain(wrong: ErrorDetails) -> str:
    place = ".".join(str(part) for part in wrong["loc"])
    empty = wrong["type"] == "string_too_short" and not wrong["input"]
    if wrong["type"] == "missing" or empty:
        return f"Missing value for required parameter '{place}'."
    if place == "version":
        return "Invalid value for parameter 'version': it is a number of a version, sent as text."
    return f"Invalid value for parameter '{place}': {wrong['msg']}."
