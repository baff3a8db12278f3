"""How networks are trained: optimizer, schedule, regularization, augmentation. Every number is bounded."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from app.domain.datasets import DatasetSchema, Features, Value
from app.domain.errors import FieldError, OutOfRangeError, ShapeMismatchError

Seed = Annotated[int, Field(ge=0, lt=2**31, description="The same seed, spec and data give the same weights on a CPU.")]
RowDraw = Literal["all", "bootstrap"]
ROW_DRAW = (
    "Learn from all train rows, or from as many drawn from them with replacement by the seed (bagging, Breiman 1996)."
)
Fraction = Annotated[float, Field(ge=0, le=1)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
WeightDecay = Annotated[float, Field(ge=0, le=1)]


class ConstantSchedule(Value):
    """Keep the learning rate."""

    type: Literal["constant"] = "constant"


class CosineSchedule(Value):
    """Let the learning rate fall to zero along half a cosine, after a linear warm-up (Loshchilov & Hutter 2017)."""

    type: Literal["cosine"] = "cosine"
    warmup_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class StepSchedule(Value):
    """Multiply the learning rate by `factor` after every `epochs` epochs."""

    type: Literal["step"] = "step"
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


class OneCycleSchedule(Value):
    """Rise from rate / `start_divisor` to the rate along a cosine, then fall to almost zero (Smith & Topin 2018)."""

    type: Literal["one_cycle"] = "one_cycle"
    warmup_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    start_divisor: Annotated[float, Field(ge=1, le=1e6)] = 25.0


Schedule: TypeAlias = Annotated[
    ConstantSchedule | CosineSchedule | StepSchedule | OneCycleSchedule, Field(discriminator="type")
]


class Adam(Value):
    """Kingma & Ba 2015."""

    type: Literal["adam"] = "adam"
    learning_rate: LearningRate = 0.001


class AdamW(Value):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    type: Literal["adamw"] = "adamw"
    learning_rate: LearningRate = 0.001
    weight_decay: WeightDecay = 0.01


class SGD(Value):
    """Stochastic gradient descent with momentum; `weight_decay` is decoupled from the gradient, as in AdamW."""

    type: Literal["sgd"] = "sgd"
    learning_rate: LearningRate = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: WeightDecay = 0.0


Optimizer: TypeAlias = Annotated[Adam | AdamW | SGD, Field(discriminator="type")]


class EarlyStopping(Value):
    """Stop when what is monitored has not improved by more than `minimum_delta` for `patience` epochs."""

    patience: Annotated[int, Field(ge=1, le=1000)] = 5
    minimum_delta: Annotated[float, Field(ge=0, le=100)] = 0.0


class Augmentation(Value):
    """Change train rows at random, anew in every epoch. Only what fits the kind of features may be set.

    Images: `flip` (left to right, half of the rows), `shift` (up to this share of each side), `zoom` (in or out by up
    to this share), `cutout` (a square of this share of the shorter side, DeVries & Taylor 2017). Signals: `shift`
    (along time, around the end), `scale` (each row's amplitude by up to this share), `noise` (normal, in units of the
    train rows' deviation; zeros that pad a row stay). Text: `byte_dropout` (bytes replaced by 0). `noise` also fits
    tables. `mixup` mixes pairs of rows and their targets by a Beta(mixup, mixup) share (Zhang et al. 2018); text cannot
    be mixed.
    """

    flip: bool = False
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    cutout: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    scale: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    byte_dropout: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0

    @property
    def used(self) -> tuple[str, ...]:
        """Name what is switched on."""
        return tuple(name for name, value in self if value)


FITTING_AUGMENTATIONS: dict[Features, frozenset[str]] = {
    "image": frozenset({"flip", "shift", "zoom", "cutout", "mixup"}),
    "signal": frozenset({"shift", "scale", "noise", "mixup"}),
    "text": frozenset({"byte_dropout"}),
    "table": frozenset({"noise", "mixup"}),
}


class TrainingSpec(Value):
    """Say how a network is trained. The weights of the best epoch on the selection rows are kept, or of the last one.

    Best by `monitor`. A network that grows sure of itself makes its few mistakes dearer: its loss on rows that it has
    not seen may rise for many epochs while ever more of them are right.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    optimizer: Optimizer = Field(default_factory=Adam)
    schedule: Schedule = Field(default_factory=CosineSchedule)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    global_clipnorm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    monitor: Literal["accuracy", "loss"] | None = Field(
        None,
        description="What of the selection rows tells the best epoch. Default: accuracy, equal ones by the loss; "
        "for a regression the loss.",
    )
    keep: Literal["best", "last"] = Field(
        default="best",
        description="The epoch whose weights are kept.",
        exclude_if=lambda given: given == "best",  # a spec without it has the digest that it had before
    )
    early_stopping: EarlyStopping | None = None
    augmentation: Augmentation = Field(default_factory=Augmentation)
    class_weights: Literal["balanced"] | None = Field(
        None, description="`balanced`: every class counts as much as any other, however few rows it has."
    )
    averaging: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Keep an exponential moving average of the weights with this decay per step; it is the model."
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"

    @model_validator(mode="after")
    def _check_mixing(self) -> "TrainingSpec":
        if self.augmentation.mixup and self.class_weights:
            raise ValueError("`mixup` blends rows of different classes, so it does not go with `class_weights`")
        return self


def check_training(training: TrainingSpec, schema: DatasetSchema, *, pointer: str = "/training") -> None:
    """Raise what of a training does not fit the data: augmentation by kind of features, classes of a regression.

    Mixed rows have no weight of their own: `mixup` would let rows of weight 0 teach their labels.
    """
    wrong = [name for name in training.augmentation.used if name not in FITTING_AUGMENTATIONS[schema.features]]
    if wrong:
        allowed = ", ".join(sorted(FITTING_AUGMENTATIONS[schema.features]))
        detail = f"`{wrong[0]}` does not fit {schema.features} rows."
        place = FieldError(f"{pointer}/augmentation/{wrong[0]}", detail, ShapeMismatchError.slug)
        raise ShapeMismatchError(detail, hint=f"For them: {allowed}.", errors=[place])
    only_classes = {
        "class_weights": training.class_weights,
        "label_smoothing": training.label_smoothing,
        "monitor": training.monitor == "accuracy",
    }
    for name, value in only_classes.items():
        if value and schema.task == "regression":
            detail = f"`{name}` needs classes, and the data set is a regression."
            place = FieldError(f"{pointer}/{name}", detail, OutOfRangeError.slug)
            raise OutOfRangeError(detail, hint="Leave it out.", errors=[place])
    if training.augmentation.mixup and schema.row_weights:
        detail = "`mixup` blends rows, and the rows of the data set have weights of their own."
        place = FieldError(f"{pointer}/augmentation/mixup", detail, OutOfRangeError.slug)
        raise OutOfRangeError(detail, hint="Leave it out, or register the data set without `weight`.", errors=[place])
