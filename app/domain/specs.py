"""Job specs: what a user POSTs. Every number is bounded, every unknown field is refused."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, StringConstraints, Tag, TypeAdapter, model_validator

from app.domain.datasets import FileRef, Value
from app.domain.ensemble_specs import EnsembleMethod
from app.domain.names import ModelName, Name
from app.domain.optimize_specs import DistillStep, OptimizeMethod
from app.domain.predict_specs import PredictSpec
from app.domain.presets import Architecture
from app.domain.training_specs import ROW_DRAW, RowDraw, Seed, TrainingSpec

TagText = Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=r"^[^\x00]*$")]


class BaseSpec(Value):
    """Hold what every job spec has."""

    name: ModelName = Field(description="The model to register the result under; a new version if it exists already.")
    dataset: Name = Field(description="A registered data set.")
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    seed: Seed = 0
    seeds: Annotated[int, Field(ge=1, le=50)] = Field(
        1, description="Do the whole job so often, from `seed` on; the report gives mean and interval over all of them."
    )
    alias: Name | None = Field(None, description="Point this alias at the new version when the job succeeds.")
    tags: dict[TagText, TagText] = Field(default_factory=dict, max_length=50)
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    reuse: bool = Field(default=True, description="Take an identical registered model instead of training it again.")
    max_runtime_seconds: Annotated[int, Field(ge=1, le=30 * 86_400)] = 7 * 86_400


class TrainSpec(BaseSpec):
    """Train one model from scratch."""

    kind: Literal["train"]
    architecture: Architecture
    rows: RowDraw = Field("all", description=ROW_DRAW, exclude_if=lambda given: given == "all")
    leak_check: bool = Field(
        default=False, description="Also train on permuted labels: such a model must score chance on the report rows."
    )


class OptimizeSpec(BaseSpec):
    """Make a model smaller or faster."""

    kind: Literal["optimize"]
    method: OptimizeMethod


class ThenDistill(DistillStep):
    """Distill the ensemble that the job makes; `training` stands for the student alone."""

    name: ModelName | None = Field(None, description="The student's model. Default: the ensemble's with `-student`.")


class EnsembleSpec(BaseSpec):
    """Fuse several models into one more accurate one."""

    kind: Literal["ensemble"]
    method: EnsembleMethod
    require_gain: bool = Field(
        default=False, description="Fail unless the fusion is shown better than its best member."
    )
    calibrate: bool = Field(
        default=True,
        description="Fit temperatures on the selection rows: for each member whose probabilities are averaged, and for "
        "the fusion. No answer becomes another class, only more or less sure.",
    )
    conformal: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Answer sets of classes too, which miss the right one for at most this share of new rows (split "
        "conformal prediction).",
        exclude_if=lambda given: given is None,
    )
    min_members: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None,
        description="Fuse as soon as every member's training has ended and at least so many succeeded; the others are "
        "left out, and the report says so. Default: one that fails fails the ensemble.",
        exclude_if=lambda given: given is None,
    )
    members_at_once: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="Train so many new members of one architecture and training as one graph; `auto` measures which "
        "number is fastest. They are spread over the workers that live when the job is submitted.",
        exclude_if=lambda given: given == 1,
    )
    then: ThenDistill | None = Field(
        None,
        description="Distill the fused ensemble into one small student, in the same job: the student is its result.",
        exclude_if=lambda given: given is None,
    )


class TogetherMember(Value):
    """Name a network that is trained together with others, and its seed."""

    name: Name
    seed: Seed


class TrainTogetherSpec(BaseSpec):
    """Train several networks of one architecture as one graph; each becomes a version of its own."""

    kind: Literal["train_together"]
    architecture: Architecture
    rows: RowDraw = Field("all", description=ROW_DRAW, exclude_if=lambda given: given == "all")
    members: Annotated[list[TogetherMember], Field(min_length=1, max_length=100)]
    members_at_once: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"


class Range(Value):
    """Search numbers from `low` to `high`; whole ones when both are whole, evenly in their logarithm with `log`."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _check_order(self) -> "Range":
        if not self.low < self.high:
            raise ValueError("`low` must be less than `high`")
        if self.log and self.low <= 0:
            raise ValueError("only positive numbers have a logarithm")
        return self


class Choices(Value):
    """Search a list of values of any kind, such as `[[16, 32], [32, 64]]` for a list of filters."""

    choices: Annotated[list[Any], Field(min_length=2, max_length=100)]


def _dimension_tag(value: object) -> str:
    listed = "choices" in value if isinstance(value, dict) else isinstance(value, Choices)
    return "choices" if listed else "range"


# Tagged by hand, as members are.
Dimension: TypeAlias = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_dimension_tag)
]
Space: TypeAlias = dict[
    Annotated[str, StringConstraints(pattern=r"^/(architecture|training)(/[A-Za-z0-9_]+)+$")], Dimension
]
Objective: TypeAlias = Literal["accuracy", "latency", "bytes", "macs", "parameters"]


class SearchSpec(BaseSpec):
    """Search architectures and trainings; every point of the front of the objectives becomes a version.

    `space` names, by JSON pointer into this spec, what is varied: `/architecture/filters`,
    `/training/optimizer/learning_rate`. Points are judged on the selection rows; only the front sees the report rows.
    """

    kind: Literal["search"]
    architecture: Architecture
    space: Annotated[Space, Field(min_length=1, max_length=30)]
    objectives: Annotated[
        list[Objective], Field(min_length=1, max_length=4, default_factory=lambda: ["accuracy", "latency", "bytes"])
    ]
    trials: Annotated[int, Field(ge=1, le=1000)] = 20


class GraphOptions(Value):
    """Say what a foreign graph answers, where the graph itself does not."""

    classes: Annotated[list[TagText], Field(min_length=2, max_length=1000)] | None = Field(
        None, description="The data set's classes in the order in which the graph answers them. Default: as they are."
    )
    output: TagText | None = Field(None, description="The output that is taken. Default: the only one that fits.")
    answers: Literal["probabilities", "logits"] | None = Field(
        None, description="What that output holds. Default: what it is called or made by, else what its rows look like."
    )


class ImportSpec(BaseSpec, GraphOptions):
    """Register a stored ONNX graph. `POST /v1/models` makes such jobs, of uploads that it has looked through."""

    kind: Literal["import"]
    file: FileRef


# What may be posted as a job, and what a stored job may be.
PostedSpec: TypeAlias = Annotated[
    TrainSpec | OptimizeSpec | EnsembleSpec | SearchSpec | PredictSpec, Field(discriminator="kind")
]
posted_spec_adapter: TypeAdapter[PostedSpec] = TypeAdapter(PostedSpec)
JobSpec: TypeAlias = Annotated[
    TrainSpec | OptimizeSpec | EnsembleSpec | SearchSpec | ImportSpec, Field(discriminator="kind")
]
# What a user's job may be: one that makes a version, or one that makes a file of predictions.
SubmittedSpec: TypeAlias = Annotated[
    TrainSpec | OptimizeSpec | EnsembleSpec | SearchSpec | ImportSpec | PredictSpec, Field(discriminator="kind")
]
submitted_spec_adapter: TypeAdapter[SubmittedSpec] = TypeAdapter(SubmittedSpec)
# What workers do to make versions: also the jobs that the service makes of an ensemble.
WorkSpec: TypeAlias = Annotated[
    TrainSpec | OptimizeSpec | EnsembleSpec | SearchSpec | ImportSpec | TrainTogetherSpec, Field(discriminator="kind")
]
work_spec_adapter: TypeAdapter[WorkSpec] = TypeAdapter(WorkSpec)
job_spec_adapter: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
