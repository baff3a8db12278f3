"""Batch prediction, as a user writes it, and the file that it comes to."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from app.domain.datasets import FileRef, RowSet, Value
from app.domain.names import ModelReference, Name

PREDICT = "predict"
Format: TypeAlias = Literal["npz", "csv", "parquet"]
ChosenRows: TypeAlias = RowSet | Literal["all"]
MEDIA_TYPES: dict[Format, str] = {
    "npz": "application/octet-stream",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


class PredictSpec(Value):
    """Predict every row of a data set with one version, and keep the answers as a file."""

    kind: Literal["predict"]
    name: Name = Field(description="What the job and its file are called; no model is registered.")
    model: ModelReference = Field(description="`name`, `name/3` or `name@champion`: the version of this moment.")
    dataset: Name = Field(description="A registered data set.")
    set: ChosenRows = Field("report", description="Which of its sets; `all` is train, selection and report in turn.")
    format: Format = "npz"
    members: bool = Field(default=False, description="Write each member's prediction too.")
    uncertainty: bool = Field(default=False, description="Write entropy, disagreement and the like too.")
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    reuse: bool = Field(default=True, description="Take the file of an equal job that succeeded.")
    max_runtime_seconds: Annotated[int, Field(ge=1, le=30 * 86_400)] = 7 * 86_400


class PredictionFile(Value):
    """Name the file of a batch prediction, and what it was made from."""

    format: Format
    rows: int
    file: FileRef
    model: str
    version: int
    digest: str
    dataset: str
    dataset_digest: str
    set: ChosenRows
