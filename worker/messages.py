"""The lines that supervisor and trainer exchange: one JSON object each, trainer to supervisor and back."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.domain.predict_specs import PredictionFile
from worker.context import StopReason

MANIFEST_NAME = "manifest.json"
# A longer line is a fault of the trainer; reading it whole would let one attempt exhaust its supervisor.
MAXIMUM_LINE_BYTES = 2**20


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="constants")


class Ready(_Message):
    """Say that Keras is imported and an assignment is awaited."""

    type: Literal["ready"] = "ready"


class Progress(_Message):
    """Say how many optimizer steps are done."""

    type: Literal["progress"] = "progress"
    step: int = Field(ge=0)
    total_steps: int = Field(ge=0)


class Metric(_Message):
    """Tell an epoch's figures."""

    type: Literal["metric"] = "metric"
    epoch: int = Field(ge=0)
    values: dict[str, float]


class Log(_Message):
    """Tell the job's reader one line."""

    type: Literal["log"] = "log"
    text: str


class CheckpointWritten(_Message):
    """Name a finished checkpoint directory; its manifest names every file by content."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int = Field(ge=0)
    path: Path


class ProductRef(_Message):
    """Name the directory of one product; its manifest is a `VersionManifest`."""

    name: str
    path: Path


class Result(_Message):
    """Hand over the products, the job's own version last."""

    type: Literal["result"] = "result"
    products: tuple[ProductRef, ...] = Field(min_length=1)


class Predicted(_Message):
    """Hand over the file of a batch prediction."""

    type: Literal["predicted"] = "predicted"
    path: Path
    result: PredictionFile


class Halted(_Message):
    """Confirm that a stop was obeyed."""

    type: Literal["stopped"] = "stopped"
    reason: StopReason
    step: int = Field(ge=0)


class WrongField(_Message):
    """Point at a field of the spec that the failure is about (RFC 6901)."""

    pointer: str
    detail: str
    type: str


class Failure(_Message):
    """Say why the job cannot be done, in the words of app.domain.errors."""

    type: Literal["error"] = "error"
    slug: str
    detail: str
    hint: str = ""
    errors: tuple[WrongField, ...] = ()
    retryable: bool = False


Message: TypeAlias = Annotated[
    Ready | Progress | Metric | Log | CheckpointWritten | Result | Predicted | Halted | Failure,
    Field(discriminator="type"),
]
_messages: TypeAdapter[Message] = TypeAdapter(Message)


class Start(_Message):
    """Hand a trainer its assignment: the path of the JSON file."""

    assignment: Path


class Stop(_Message):
    """Ask a trainer to stop."""

    stop: StopReason


def write_line(message: BaseModel) -> bytes:
    """Encode one message."""
    return message.model_dump_json().encode() + b"\n"


def read_message(line: bytes) -> Message:
    """Decode a trainer's line; raise ValueError when it is none."""
    return _messages.validate_json(line)


def read_command(line: bytes) -> Start | Stop | None:
    """Decode a supervisor's line; None when it is neither command."""
    for command in (Start, Stop):
        try:
            return command.model_validate_json(line)
        except ValidationError:
            continue
    return None
