"""What the API asks of the jailed child that looks through an uploaded graph, and what the child answers."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.datasets.messages import ErrorAnswer
from app.datasets.options import Limits
from app.domain.datasets import DatasetSchema
from app.domain.specs import GraphOptions


class Request(BaseModel):
    """Name the file, the data set that it has to fit, and what the user says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path
    dataset_schema: DatasetSchema
    options: GraphOptions
    most_parameters: int
    limits: Limits


class Answer(BaseModel):
    """Say which output is taken, what it holds and of which classes, as far as is known; or why it is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str | None = None
    answers: Literal["probabilities", "logits", "prediction"] | None = None
    classes: list[str] | None = None
    error: ErrorAnswer | None = None
