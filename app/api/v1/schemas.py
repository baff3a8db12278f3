"""What the API answers, and how rows become answers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from app.api.problems import Problem, WrongField
from app.db.jobs import DependencyRow, JobRow
from app.db.registry import KNOWN_STATES, LinkRow, ModelRow, VersionRow
from app.db.tables import Dataset, Job, JobEvent
from app.domain import errors
from app.domain.datasets import DatasetManifest, DatasetSchema, FileRef, Statistics
from app.domain.error_tree import all_errors
from app.domain.jobs import TERMINAL_STATES, Phase, State
from app.domain.models import LinkRole, Metrics, VersionKind
from app.domain.predict_specs import Format, PredictionFile
from app.domain.prediction_checks import PredictionEstimate
from app.domain.validation import Estimate


class DatasetOut(BaseModel):
    """A registered data set."""

    name: str
    digest: str
    dataset_schema: DatasetSchema = Field(alias="schema")
    statistics: Statistics | None
    size_bytes: int
    source: dict[str, Any] | None = None
    created_at: datetime
    notes: list[str] = Field(default_factory=list, description="What to know of how the file was read.")


class DatasetList(BaseModel):
    """One page of data sets."""

    datasets: list[DatasetOut]
    next_page_token: str = ""


class DatasetRow(BaseModel):
    """One row: what a model sees, and what it should answer."""

    row: int
    x: Any = Field(description="Numbers nested as the schema's shape, or text.")
    y: float | int | None = Field(None, description="null for a row without a label.")
    label: str | None = Field(None, description="Name of the class.")
    weight: float | None = Field(None, description="How much the row counts in training; null where all count alike.")


class DatasetRows(BaseModel):
    """Some rows of one set."""

    dataset: str
    set: str
    offset: int
    total_rows: int
    rows: list[DatasetRow]


class Progress(BaseModel):
    """How far a job is."""

    step: int
    total_steps: int | None
    fraction: float | None
    remaining_seconds: float | None = Field(
        description="Time left for the steps at the present pace; null while unknown and unless the job runs. "
        "Early stopping may end it sooner; what was trained is exported and measured after the last step."
    )


class VersionName(BaseModel):
    """Name a version, and say in which state it is: `rejected` when it failed its gate."""

    name: str
    version: int
    state: str
    url: str


class Reused(VersionName):
    """Name the version that was taken instead of made again, and the job that registered it."""

    job_id: str


class PredictionsOut(BaseModel):
    """Name the file that a batch prediction came to; `digest` is that of the version, `sha256` the file's."""

    format: Format
    rows: int
    size_bytes: int
    sha256: str
    name: str
    version: int
    digest: str
    dataset: str
    dataset_digest: str
    set: str
    url: str


class Waiting(BaseModel):
    """A job that must succeed first."""

    id: str
    name: str
    role: str
    position: int
    state: State


class JobOut(BaseModel):
    """A job. `done` tells whether its state is final."""

    id: str
    kind: str
    method: str | None
    name: str
    dataset: str
    state: State
    phase: Phase | None
    done: bool
    cancel_requested: bool
    progress: Progress
    result: VersionName | PredictionsOut | None = Field(
        description="The version that the job registered; of a batch prediction its file."
    )
    reused: Reused | None = Field(
        description="The version of the same recipe that was taken; null where the job did its work itself."
    )
    error: Problem | None
    attempts: int
    parent_id: str | None = Field(description="The ensemble's job that this one trains a member for.")
    waits_for: list[Waiting]
    spec: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobList(BaseModel):
    """One page of jobs, the newest first."""

    jobs: list[JobOut]
    next_page_token: str = ""


class ValidatedSpec(BaseModel):
    """A spec that would be accepted: normalised, its references pinned, its cost estimated."""

    spec: dict[str, Any]
    parameters: int
    estimate: Estimate | PredictionEstimate


class JobMetrics(BaseModel):
    """What a job reported per epoch."""

    job_id: str
    metrics: list[dict[str, Any]]


class TensorOut(BaseModel):
    """The tensor that a version takes."""

    name: str
    shape: list[int] = Field(description="-1 is the batch.")
    dtype: str


class FileOut(FileRef):
    """A file of a version."""

    url: str


class ServingState(BaseModel):
    """The state of a version in TensorFlow Serving's words."""

    version: str
    state: str
    status: dict[str, str]


class VersionOut(BaseModel):
    """An immutable version of a model; `digest` identifies it and is its ETag."""

    id: str
    name: str
    version: int
    state: str
    rejected: str | None = Field(description="Why it failed its gate; then no name without a number leads to it.")
    kind: VersionKind
    method: str
    task: str
    classes: list[str]
    input: TensorOut
    digest: str
    dataset: str
    dataset_digest: str
    seed: int
    metrics: Metrics
    files: dict[str, FileOut]
    aliases: list[str]
    tags: dict[str, str]
    job_id: str
    created_at: datetime
    model_version_status: list[ServingState]


class VersionList(BaseModel):
    """One page of versions, the newest first."""

    versions: list[VersionOut]
    next_page_token: str = ""


class ModelOut(BaseModel):
    """A model: a name, its newest version and its aliases."""

    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    aliases: dict[str, int]
    newest: VersionOut
    model_version_status: list[ServingState]


class ModelList(BaseModel):
    """One page of models, by name."""

    models: list[ModelOut]
    next_page_token: str = ""


class LinkOut(BaseModel):
    """One step of a lineage."""

    role: LinkRole
    position: int
    weight: float | None
    name: str
    version: int
    url: str


class LineageOut(BaseModel):
    """What a version was made from, and what was made from it."""

    name: str
    version: int
    made_from: list[LinkOut]
    used_by: list[LinkOut]


def dataset_out(row: Dataset, notes: Sequence[str] = ()) -> DatasetOut:
    """Describe a data set."""
    manifest = DatasetManifest.model_validate(row.manifest)
    return DatasetOut(
        name=row.name,
        digest=row.digest,
        schema=manifest.dataset_schema,
        statistics=manifest.statistics,
        size_bytes=sum(file.size_bytes for file in manifest.files.values()),
        source=row.source,
        created_at=row.created_at,
        notes=list(notes),
    )


def job_out(row: JobRow, waits_for: Sequence[DependencyRow] = ()) -> JobOut:
    """Describe a job."""
    job = row.job
    return JobOut(
        id=job.id,
        kind=job.kind,
        method=(job.spec.get("method") or {}).get("method"),
        name=job.name,
        dataset=row.dataset,
        state=job.state,
        phase=job.phase,
        done=job.state in TERMINAL_STATES,
        cancel_requested=job.cancel_requested_at is not None,
        progress=_progress(job, row.last_progress),
        result=_predictions(row) or _version_name(row.result_name, row.result_version, row.result_state),
        reused=_reused(row),
        error=job_problem(job.error, job.id) if job.error else None,
        attempts=job.attempts,
        parent_id=job.parent_id,
        waits_for=[
            Waiting(id=item.job_id, name=item.name, role=item.role, position=item.position, state=item.state)
            for item in waits_for
        ],
        spec=job.spec,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _progress(job: Job, told: JobEvent | None) -> Progress:
    fraction = min(1.0, job.step / job.total_steps) if job.total_steps else None
    return Progress(
        step=job.step,
        total_steps=job.total_steps,
        fraction=1.0 if job.state == "succeeded" else fraction,
        remaining_seconds=_remaining_seconds(told),
    )


def _remaining_seconds(told: JobEvent | None) -> float | None:
    left = told.data.get("remaining_seconds") if told else None
    if told is None or left is None:
        return None
    since_seconds = max(0.0, (datetime.now(UTC) - told.at).total_seconds())
    return round(max(0.0, float(left) - since_seconds), 1)


def _version_name(name: str | None, version: int | None, state: str | None) -> VersionName | None:
    if name is None or version is None or state is None:
        return None
    return VersionName(name=name, version=version, state=state, url=f"/v1/models/{name}/versions/{version}")


def _predictions(row: JobRow) -> PredictionsOut | None:
    if row.job.result_file is None:
        return None
    made = PredictionFile.model_validate(row.job.result_file)
    return PredictionsOut(
        **made.model_dump(exclude={"file", "model"}),
        name=made.model,
        size_bytes=made.file.size_bytes,
        sha256=made.file.sha256,
        url=f"/v1/jobs/{row.job.id}/result",
    )


def _reused(row: JobRow) -> Reused | None:
    taken = _version_name(row.reused_name, row.reused_version, row.reused_state)
    if taken is None or row.reused_job_id is None:
        return None
    return Reused(**taken.model_dump(), job_id=row.reused_job_id)


def job_problem(error: Mapping[str, Any], job_id: str) -> Problem:
    """Describe why a job failed, in the form of every other error."""
    slug = str(error.get("type", "job-failed")).rpartition("/")[2]
    kind = next((kind for kind in all_errors() if kind.slug == slug), errors.JobError)
    return Problem(
        type=f"/problems/{slug}",
        title=str(error.get("title") or kind.title),
        status=kind.code,
        detail=str(error.get("detail", "")),
        hint=str(error.get("hint") or ""),
        instance=f"urn:job:{job_id}",
        request_id="",
        errors=[WrongField.model_validate(field) for field in error.get("errors", ())],
    )


def version_out(row: VersionRow) -> VersionOut:
    """Describe a version."""
    manifest, url = row.manifest, f"/v1/models/{row.name}/versions/{row.version}"
    return VersionOut(
        id=row.id,
        name=row.name,
        version=row.version,
        state=row.state,
        rejected=manifest.rejected,
        kind=manifest.kind,
        method=manifest.method,
        task=manifest.task,
        classes=list(manifest.classes),
        input=TensorOut(name="x", shape=[-1, *manifest.input.shape], dtype=manifest.input.dtype),
        digest=row.digest,
        dataset=manifest.dataset,
        dataset_digest=manifest.dataset_digest,
        seed=manifest.seed,
        metrics=manifest.metrics,
        files={
            name: FileOut(sha256=file.sha256, size_bytes=file.size_bytes, url=f"{url}/artifacts/{name}")
            for name, file in sorted(manifest.files.items())
        },
        aliases=sorted(row.aliases),
        tags=dict(row.tags or {}),
        job_id=row.job_id,
        created_at=row.created_at,
        model_version_status=[serving_state(row)],
    )


def serving_state(row: VersionRow) -> ServingState:
    """Describe a version as TensorFlow Serving does."""
    available = row.state in KNOWN_STATES
    told = f"rejected: {row.manifest.rejected}" if row.state == "rejected" else "" if available else row.state
    return ServingState(
        version=str(row.version),
        state="AVAILABLE" if available else "END",
        status={"error_code": "OK" if available else "UNAVAILABLE", "error_message": told},
    )


def model_out(row: ModelRow, versions: Sequence[VersionRow] = ()) -> ModelOut:
    """Describe a model."""
    return ModelOut(
        name=row.name,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
        aliases=dict(row.aliases),
        newest=version_out(row.newest),
        model_version_status=[serving_state(version) for version in versions or [row.newest]],
    )


def link_out(row: LinkRow) -> LinkOut:
    """Describe one step of a lineage."""
    return LinkOut(
        role=row.role,
        position=row.position,
        weight=row.weight,
        name=row.name,
        version=row.version,
        url=f"/v1/models/{row.name}/versions/{row.version}",
    )
