"""What a trainer process is given: one JSON file with the job and the paths of everything that it may read."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.datasets import DatasetSchema, Statistics
from app.domain.models import VersionManifest
from app.domain.predict_specs import PredictSpec
from app.domain.specs import WorkSpec

ReferenceRole = Literal["parent", "teacher", "members"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetInput(_Part):
    """Name a data set's files by absolute path, as its manifest names them: `{train,selection,report}_{x,y,hash}`..."""

    name: str
    digest: str
    dataset_schema: DatasetSchema
    statistics: Statistics | None = None
    files: dict[str, Path]


class VersionInput(_Part):
    """Name a registered version and its files (`model.onnx`, `network.json`, ...) by absolute path.

    `training_recipe` is the normalised job spec that made it; a stack trains its fold models by it.
    """

    version_id: str
    name: str
    version: int
    digest: str
    manifest: VersionManifest
    files: dict[str, Path]
    training_recipe: dict[str, Any] | None = None


class LeftOut(_Part):
    """Name a member of an ensemble that could not be trained, its place in the spec, and why."""

    position: int
    name: str
    reason: str


class Limits(_Part):
    """Bound what the trainer may use."""

    checkpoint_seconds: float = Field(60.0, ge=0)
    parameters: int = Field(50_000_000, ge=1)
    threads: int | None = Field(None, ge=1)


class BatchAssignment(_Part):
    """Describe one attempt of a batch prediction: the rows, and the version that answers."""

    spec: PredictSpec
    dataset: DatasetInput
    version: VersionInput
    scratch: Path
    output: Path
    limits: Limits = Field(default_factory=Limits)


class Assignment(_Part):
    """Describe one attempt of one job. It holds no address of a database or broker and no credential.

    `references["members"]` is ordered as the spec's members, without those that are `left_out`;
    `unlabelled` is the data set that a transfer set names;
    `file` is the graph to import; `checkpoint` is the state to resume from.
    """

    job_id: str
    token: int
    spec: WorkSpec
    recipe_digest: str
    dataset: DatasetInput
    unlabelled: DatasetInput | None = None
    file: Path | None = None
    references: dict[ReferenceRole, tuple[VersionInput, ...]] = Field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    seed: int
    scratch: Path
    output: Path
    checkpoint: Path | None = None
    limits: Limits = Field(default_factory=Limits)
