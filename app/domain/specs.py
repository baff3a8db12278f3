"""Job specs: what a user POSTs. Every number is bounded, every unknown field is refused."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, StringConstraints, Tag, TypeAdapter, model_validator

from app.domain.datasets import Value
from app.domain.names import ModelReference, Name
from app.domain.presets import Architecture

Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31, description="The same seed, spec and data give the same weights on a CPU.")]
TagText = Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=r"^[^\x00]*$")]


class ConstantSchedule(Value):
    """Keep the learning rate."""

    type: Literal["constant"] = "constant"


class CosineSchedule(Value):
    """Let the learning rate fall to zero along half a cosine, after a linear warm-up (Loshchilov & Hutter 2017)."""

    type: Literal["cosine"] = "cosine"
    warmup_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0


Schedule: TypeAlias = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="type")]
LearningRate = Annotated[float, Field(gt=0, le=10)]


class Adam(Value):
    """Kingma & Ba 2015."""

    type: Literal["adam"] = "adam"
    learning_rate: LearningRate = 0.001


class AdamW(Value):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    type: Literal["adamw"] = "adamw"
    learning_rate: LearningRate = 0.001
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01


class SGD(Value):
    """Stochastic gradient descent with momentum."""

    type: Literal["sgd"] = "sgd"
    learning_rate: LearningRate = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True


Optimizer: TypeAlias = Annotated[Adam | AdamW | SGD, Field(discriminator="type")]


class EarlyStopping(Value):
    """Stop when the selection loss has not improved for `patience` epochs; the best epoch's weights are kept."""

    patience: Annotated[int, Field(ge=1, le=1000)] = 5
    minimum_delta: Annotated[float, Field(ge=0, le=100)] = 0.0


class TrainingSpec(Value):
    """Say how a network is trained. The weights of the best epoch on the selection rows are kept."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    optimizer: Optimizer = Field(default_factory=Adam)
    schedule: Schedule = Field(default_factory=CosineSchedule)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    global_clipnorm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    early_stopping: EarlyStopping | None = None


class BaseSpec(Value):
    """Hold what every job spec has."""

    name: Name = Field(description="The model to register the result under; a new version if it exists already.")
    dataset: Name = Field(description="A registered data set.")
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    seed: Seed = 0
    alias: Name | None = Field(None, description="Point this alias at the new version when the job succeeds.")
    tags: dict[TagText, TagText] = Field(default_factory=dict, max_length=50)
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    reuse: bool = Field(default=True, description="Take an identical registered model instead of training it again.")
    max_runtime_seconds: Annotated[int, Field(ge=1, le=30 * 86_400)] = 7 * 86_400


class TrainSpec(BaseSpec):
    """Train one model from scratch."""

    kind: Literal["train"]
    architecture: Architecture


class ShareWeights(Value):
    """Let groups of equal layers use one variable each (ALBERT, Lan et al. 2020). Saves bytes, never time.

    `groups` is a number (layers of equal shape are split, in order, into that many groups) or the groups by layer name.
    """

    method: Literal["share_weights"]
    parent: ModelReference | None = None
    architecture: Architecture | None = None
    groups: (
        Annotated[int, Field(ge=1, le=500)]
        | Annotated[list[Annotated[list[str], Field(min_length=2)]], Field(min_length=1)]
    ) = 1

    @model_validator(mode="after")
    def _check_source(self) -> "ShareWeights":
        if (self.parent is None) == (self.architecture is None):
            raise ValueError(
                "name either a `parent` to share the weights of, or an `architecture` to train with shared weights"
            )
        return self


class Convolve(Value):
    """Replace structure of the parent by cheaper convolution.

    `conv`: a dense front becomes convolution and pooling; `separable`: convolutions become depthwise-separable
    (Chollet 2017); `gap`: Flatten + Dense becomes global average pooling + Dense (Lin et al. 2014).
    """

    method: Literal["convolve"]
    parent: ModelReference
    to: Literal["conv", "separable", "gap"] = "separable"
    width: Annotated[float, Field(gt=0, le=8, description="Multiplies the number of new filters.")] = 1.0


class Distill(Value):
    """Train a small student on the outputs of a teacher (Hinton et al. 2015): L = (1-a) CE + a T^2 KL on logits."""

    method: Literal["distill"]
    teacher: ModelReference = Field(description="A model or an ensemble (its fused probabilities teach).")
    student: Architecture
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 4.0
    alpha: Fraction = 0.9
    control: bool = Field(
        default=True, description="Also train the same student on hard labels alone, with the same budget."
    )


OptimizeMethod: TypeAlias = Annotated[ShareWeights | Convolve | Distill, Field(discriminator="method")]


class OptimizeSpec(BaseSpec):
    """Make a model smaller or faster."""

    kind: Literal["optimize"]
    method: OptimizeMethod


class NewMember(Value):
    """Train a member for this ensemble; it is registered as a version of its own."""

    architecture: Architecture
    seed: Seed = 0
    training: TrainingSpec | None = Field(None, description="Instead of the ensemble's training.")


class RegisteredMember(Value):
    """Take a registered version as a member."""

    model: ModelReference


def _member_tag(value: object) -> str:
    named = "model" in value if isinstance(value, dict) else isinstance(value, RegisteredMember)
    return "registered" if named else "new"


# Tagged by hand, so that a wrong member is told what is wrong with it, not what the other kind would need.
Member: TypeAlias = Annotated[
    Annotated[NewMember, Tag("new")] | Annotated[RegisteredMember, Tag("registered")], Discriminator(_member_tag)
]
Members = Annotated[list[Member], Field(min_length=1, max_length=100)]
MemberWeights = Annotated[list[Annotated[float, Field(ge=0, le=1e6)]], Field(min_length=1, max_length=100)]


class Parallel(Value):
    """Fuse independent members: p = sum of w_m p_m.

    `weights`: uniform, your own, or fitted on the selection rows (convex: likelihood of the mixture; greedy:
    selection with replacement, Caruana et al. 2004).
    """

    method: Literal["parallel"]
    members: Members
    weights: Literal["uniform", "convex", "greedy"] | MemberWeights = "convex"

    @model_validator(mode="after")
    def _check_weights(self) -> "Parallel":
        if isinstance(self.weights, list):
            if len(self.weights) != len(self.members):
                raise ValueError(f"{len(self.members)} members need as many weights, not {len(self.weights)}")
            if sum(self.weights) <= 0:
                raise ValueError("the weights must not all be zero")
        return self


class Serial(Value):
    """Train members one after another, each on what the sum so far gets wrong; the logits are summed."""

    method: Literal["serial"]
    type: Literal["residual"] = "residual"
    members: Annotated[list[NewMember], Field(min_length=1, max_length=100)]


class Stack(Value):
    """Train a meta-learner on the members' out-of-fold predictions (Wolpert 1992)."""

    method: Literal["stack"]
    members: Members
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    meta: Literal["logistic"] = "logistic"


EnsembleMethod: TypeAlias = Annotated[Parallel | Serial | Stack, Field(discriminator="method")]


class EnsembleSpec(BaseSpec):
    """Fuse several models into one more accurate one."""

    kind: Literal["ensemble"]
    method: EnsembleMethod
    require_gain: bool = Field(
        default=False, description="Fail unless the fusion is shown better than its best member."
    )


JobSpec: TypeAlias = Annotated[TrainSpec | OptimizeSpec | EnsembleSpec, Field(discriminator="kind")]
job_spec_adapter: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
