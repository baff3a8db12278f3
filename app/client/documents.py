"""The service's documents as types: what each field is called, and what it holds.

They are plain dicts at run time, so every document prints, compares and saves as JSON does.
"""

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

State: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
RowSet: TypeAlias = Literal["train", "selection", "report"]
PlotForm: TypeAlias = Literal["svg", "png"]
Theme: TypeAlias = Literal["light", "dark"]
Interval: TypeAlias = list[float]


class Statistics(TypedDict):
    """The mean and deviation of the features, over the train rows."""

    mean: list[float]
    deviation: list[float]


class Schema(TypedDict):
    """What the rows of a data set are."""

    features: Literal["image", "signal", "text", "table"]
    shape: list[int]
    dtype: str
    task: Literal["classification", "regression", "unlabelled"]
    classes: list[str]
    rows: dict[str, int]
    sample_rate: int | None
    columns: list[str]
    row_weights: bool
    train_groups: int
    train_times: int


class Dataset(TypedDict):
    """A registered data set."""

    name: str
    digest: str
    schema: Schema
    statistics: Statistics | None
    size_bytes: int
    source: dict[str, Any] | None
    created_at: str
    notes: list[str]


class DatasetRow(TypedDict):
    """One row: what a model sees, and what it should answer."""

    row: int
    x: Any
    y: float | None
    label: str | None
    weight: float | None


class DatasetRows(TypedDict):
    """Some rows of one set."""

    dataset: str
    set: str
    offset: int
    total_rows: int
    rows: list[DatasetRow]


class WrongField(TypedDict):
    """One wrong field: a JSON pointer, what is wrong, and the kind of error."""

    pointer: str
    detail: str
    type: str


class Problem(TypedDict):
    """An error as the service writes it (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    hint: str
    instance: str
    request_id: str
    errors: list[WrongField]


class ProblemKind(TypedDict):
    """A kind of problem, explained."""

    slug: str
    title: str
    status: int
    meaning: str


class Progress(TypedDict):
    """How far a job is."""

    step: int
    total_steps: int | None
    fraction: float | None
    remaining_seconds: NotRequired[float | None]


class Result(TypedDict):
    """What a job made: a version, or the file of a batch prediction, which has more than these."""

    name: str
    version: int
    url: str
    state: NotRequired[str]


class JobMetrics(TypedDict):
    """What a job reported per epoch."""

    job_id: str
    metrics: list[dict[str, Any]]


class ValidatedSpec(TypedDict):
    """A spec that would be accepted, and what it would cost."""

    spec: dict[str, Any]
    parameters: int
    estimate: dict[str, Any]


class Metrics(TypedDict):
    """What was measured on the exported file of a version."""

    accuracy: float | None
    accuracy_interval: Interval | None
    nll: float | None
    brier: float | None
    ece: float | None
    rmse: float | None
    parameters: int
    macs: int
    served_bytes: int
    gzip_bytes: int | None
    weights_bytes: int
    latency_ms_batch_1: float
    latency_ms_batch_1_p95: float | None
    latency_ms_batch_32: float
    latency_ms_batch_32_p95: float | None
    rows_per_second: float | None
    peak_memory_bytes: int | None


class Tensor(TypedDict):
    """The tensor that a version takes; -1 is the batch."""

    name: str
    shape: list[int]
    dtype: str


class File(TypedDict):
    """A file of a version."""

    sha256: str
    size_bytes: int
    url: str


class ServingState(TypedDict):
    """The state of a version in TensorFlow Serving's words."""

    version: str
    state: str
    status: dict[str, str]


class Version(TypedDict):
    """An immutable version of a model; `digest` identifies it."""

    id: str
    name: str
    version: int
    state: str
    rejected: str | None
    kind: Literal["single", "ensemble"]
    method: str
    task: str
    classes: list[str]
    input: Tensor
    digest: str
    dataset: str
    dataset_digest: str
    seed: int
    metrics: Metrics
    files: dict[str, File]
    aliases: list[str]
    tags: dict[str, str]
    job_id: str
    created_at: str
    model_version_status: list[ServingState]


class Model(TypedDict):
    """A model: a name, its newest version and its aliases."""

    name: str
    description: str
    created_at: str
    updated_at: str
    aliases: dict[str, int]
    newest: Version
    model_version_status: list[ServingState]


class Report(TypedDict, total=False):
    """Everything that was measured on a version (docs/reports.md); a report may lack what its method has not."""

    metrics: Metrics
    quality: dict[str, Any]
    baseline: dict[str, Any] | None
    comparisons: list[dict[str, Any]]
    verdict: dict[str, Any]
    gate: dict[str, Any] | None
    speed: dict[str, Any] | None
    memory: dict[str, Any]
    graph: dict[str, Any]
    repeats: dict[str, Any] | None
    leak_check: dict[str, Any] | None
    parity: dict[str, Any]
    row_hashes: dict[str, Any]
    row_weights: dict[str, Any] | None
    model: dict[str, Any]
    method: dict[str, Any]
    environment: dict[str, Any]
    history: list[dict[str, Any]]
    report_rows: int


class Link(TypedDict):
    """One step of a lineage."""

    role: Literal["parent", "teacher", "member"]
    position: int
    weight: float | None
    name: str
    version: int
    url: str


class Lineage(TypedDict):
    """What a version was made from, and what was made from it."""

    name: str
    version: int
    made_from: list[Link]
    used_by: list[Link]


class Plot(TypedDict):
    """A plot of a version's report, as the service draws it."""

    name: str
    title: str
    svg: str
    png: str


class AliasChange(TypedDict):
    """Where an alias was moved, and from where."""

    version: int | None
    previous_version: int | None
    job_id: str | None
    changed_at: str


class AliasHistory(TypedDict):
    """Where an alias pointed, and what was rolled out at it."""

    name: str
    alias: str
    changes: list[AliasChange]
    rollouts: list[dict[str, Any]]


class Rollout(TypedDict):
    """What is rolled out at an alias."""

    name: str
    alias: str
    stable: int
    candidate: int
    mode: str
    percent: int
    started_at: str
    report: dict[str, Any]


class Entry(TypedDict):
    """One version on the leaderboard."""

    name: str
    version: int
    state: str
    rejected: str | None
    kind: str
    method: str
    dataset: str
    accuracy: float | None
    accuracy_interval: Interval | None
    nll: float | None
    rmse: float | None
    brier: float | None
    ece: float | None
    parameters: int
    macs: int
    bytes: int
    gzip_bytes: int | None
    weights_bytes: int
    latency_ms: float
    latency_ms_batch_32: float
    memory_bytes: int | None
    pareto: bool
    indistinguishable_from: list[str]


class Leaderboard(TypedDict):
    """Versions side by side: which no other beats, and the best within limits."""

    x: list[str]
    y: str
    versions: str
    dataset: str | None
    limits: dict[str, float]
    best: Entry | None
    nearest_miss: dict[str, Any] | None
    models: list[Entry]
    left_out: int


class Predictions(TypedDict):
    """The answers of one version, in the order of the rows; what was not asked for is left out."""

    model: str
    version: int
    digest: str
    predictions: list[list[float]]
    members: NotRequired[list[list[list[float]]]]
    weights: NotRequired[list[float] | None]
    uncertainty: NotRequired[dict[str, list[float]]]
    sets: NotRequired[list[list[str]]]
    answered_by: NotRequired[list[int]]


class MemberPrediction(TypedDict, total=False):
    """What one member says of a row."""

    label: str | None
    probabilities: list[float]
    logits: list[float]
    prediction: float | None


class RowPrediction(TypedDict, total=False):
    """What a model says of a row, and what is known of it."""

    label: str | None
    probabilities: list[float]
    prediction: float | None
    members: list[MemberPrediction]
    uncertainty: dict[str, float]
    set: list[str]
    answered_by: int | None
    row: int | None
    actual: str | float | None


class PredictedRows(TypedDict, total=False):
    """One page of predictions for rows of a data set, or for small inputs."""

    model: str
    version: int
    digest: str
    dataset: str
    set: str
    offset: int
    total_rows: int
    next_page_token: str
    predictions: list[RowPrediction]


class Member(TypedDict):
    """One member of an ensemble, in the order of the graph's outputs."""

    position: int
    name: str
    version: int
    digest: str
    weight: float | None
    accuracy: float | None
    url: str


class Gain(TypedDict):
    """How a fusion compares with its best member, on the report rows."""

    against: str
    difference: float
    interval: Interval
    p_value: float | None
    verdict: str


class Ensemble(TypedDict):
    """A version that fuses others."""

    name: str
    version: int
    method: str
    aliases: list[str]
    members: list[Member]
    meta_learner: dict[str, Any] | None
    gain: Gain | None
    newest: Version


class Classified(TypedDict):
    """The probability of every class, of each example, in the model's order."""

    model: str
    version: int
    digest: str
    results: list[list[tuple[str, float]]]


class Regressed(TypedDict):
    """The value of each example."""

    model: str
    version: int
    digest: str
    results: list[float]


class Service(TypedDict):
    """What runs: the service's version and those of its parts."""

    name: str
    version: str
    protocol: int
    parts: dict[str, str]
