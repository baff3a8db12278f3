"""The ways to make a model smaller or faster, as a user writes them: each alone, or as a step of a chain.

`...Options` hold what a method is told, wherever it stands; the method itself adds the parent, a step its training.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.domain.datasets import Value
from app.domain.layer_base import LayerName
from app.domain.names import ModelReference, Name
from app.domain.presets import Architecture
from app.domain.training_specs import TrainingSpec

LearnFrom = Literal["labels", "parent"]
MaxDrop = Annotated[float, Field(ge=0, le=100)]
_LEARN_FROM = "Fine-tune on the labels, or on the labels and the parent's probabilities in equal parts."
_MAX_DROP = (
    "At most so many points of accuracy (regression: percent of RMSE) worse than the parent, 95 % sure on the report "
    "rows, else the version is registered as `rejected`; null lets everything pass."
)


class FromParent(Value):
    """Hold what every method that rewrites a registered model has."""

    parent: ModelReference
    max_drop: MaxDrop | None = Field(0.5, description=_MAX_DROP)


class AsStep(Value):
    """Hold what every step of a chain has; it starts from what the step before it made."""

    training: TrainingSpec | None = Field(None, description="Instead of the job's training.")


class ShareOptions(Value):
    """Let groups of equal layers use one variable each (ALBERT, Lan et al. 2020). Saves bytes, never time.

    `groups` is a number (layers of equal shape are split, in order, into that many groups), the groups by layer name,
    or `found`: layers of a trained parent whose `similarity` is at least `threshold` (cka: linear centred kernel
    alignment of their activations on selection rows, Kornblith et al. 2019; cosine: of their weights). A group starts
    at the `mean` of its members, or at the member with which the selection loss is `least_loss`.
    """

    method: Literal["share_weights"]
    groups: (
        Literal["found"]
        | Annotated[int, Field(ge=1, le=500)]
        | Annotated[list[Annotated[list[str], Field(min_length=2)]], Field(min_length=1)]
    ) = 1
    similarity: Literal["cka", "cosine"] = "cka"
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.9
    merge: Literal["mean", "least_loss"] = "mean"
    learn_from: LearnFrom = Field("labels", description=_LEARN_FROM)


class ShareWeights(ShareOptions):
    """Share weights within a registered parent, or within an architecture that is trained from scratch."""

    parent: ModelReference | None = None
    architecture: Architecture | None = None
    max_drop: MaxDrop | None = Field(0.5, description=_MAX_DROP)

    @model_validator(mode="after")
    def _check_source(self) -> "ShareWeights":
        if (self.parent is None) == (self.architecture is None):
            raise ValueError(
                "name either a `parent` to share the weights of, or an `architecture` to train with shared weights"
            )
        if self.architecture is not None and (self.groups == "found" or self.learn_from == "parent"):
            raise ValueError("similar layers are found in, and learned from, a trained `parent`, not an `architecture`")
        return self


class ConvolveOptions(Value):
    """Replace structure of the parent by cheaper convolution.

    `conv`: a dense front becomes convolution and pooling; `separable`: convolutions become depthwise-separable
    (Chollet 2017); `gap`: Flatten + Dense becomes global average pooling + Dense (Lin et al. 2014).
    """

    method: Literal["convolve"]
    to: Literal["conv", "separable", "gap"] = "separable"
    width: Annotated[float, Field(gt=0, le=8, description="Multiplies the number of new filters.")] = 1.0


class Convolve(ConvolveOptions, FromParent):
    """Convolve a registered parent."""


class Hints(Value):
    """Let a layer of the student follow a layer of the teacher through a learned projection (FitNets, Romero 2015)."""

    student_layer: LayerName
    teacher_layer: LayerName
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


class Transfer(Value):
    """Say on which rows the teacher teaches. Its answers are computed once and kept.

    The train rows always; `augmented_copies` of each, changed by the training's augmentation; the train rows of the
    data set `unlabelled`, whose labels are not looked at. `labels: out_of_fold` lets teachers that have not seen a row
    answer for it: the teacher is trained again on every fold, from its own recipe.
    """

    labels: Literal["teacher", "out_of_fold"] = "teacher"
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    augmented_copies: Annotated[int, Field(ge=0, le=20)] = 0
    unlabelled: Name | None = None


class DistillOptions(Value):
    """Train a small student on the outputs of a teacher (Hinton et al. 2015): L = (1-a) CE + a T^2 KL on logits.

    `loss: dkd` weighs what the teacher says of the right class (`alpha`) and of the others (`beta`) apart, beside the
    plain cross-entropy (Zhao et al. 2022). An ensemble teaches by the mean of its members' `probabilities`, weighted as
    fused, or of their `logits`.
    """

    method: Literal["distill"]
    student: Architecture
    loss: Literal["kd", "dkd"] = "kd"
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 4.0
    alpha: Annotated[float, Field(ge=0, le=100)] | None = Field(None, description="Default: 0.9 for kd, 1 for dkd.")
    beta: Annotated[float, Field(ge=0, le=100)] = 8.0
    teacher_mean: Literal["probabilities", "logits"] = "probabilities"
    transfer: Transfer = Field(default_factory=Transfer)
    hints: Hints | None = None
    control: bool = Field(
        default=True, description="Also train the same student on hard labels alone, with the same budget."
    )

    @field_validator("alpha")
    @classmethod
    def _check_alpha(cls, alpha: float | None, fields: ValidationInfo) -> float | None:
        if fields.data.get("loss") == "kd" and alpha is not None and alpha > 1:
            raise ValueError(f"`alpha` of the loss kd is a share, at most 1, not {alpha:g}; `loss: dkd` takes more")
        return alpha

    @property
    def soft_weight(self) -> float:
        """Return alpha, or its default for the loss."""
        return self.alpha if self.alpha is not None else {"kd": 0.9, "dkd": 1.0}[self.loss]


class Distill(DistillOptions):
    """Distill a registered model or ensemble."""

    teacher: ModelReference = Field(description="A model or an ensemble (its fused probabilities teach).")
    max_drop: MaxDrop | None = Field(None, description=_MAX_DROP.replace("the parent", "the teacher"))


class PruneOptions(Value):
    """Remove what contributes least.

    `structured` takes whole filters and units out of all layers that must agree on them (residual sums, concatenations,
    normalization, Flatten, shared layers), so that the model is smaller; `ratio` is the share of channels.
    `unstructured` sets single weights to zero along a polynomial schedule (Zhu & Gupta 2017), which saves only
    compressed bytes; `ratio` is the share of weights. Criteria of channels: norms of their weights (l1, Li et al. 2017;
    l2), the scale of their batch normalization (Liu et al. 2017), or the first-order change of the loss (taylor,
    Molchanov et al. 2019). After each of `rounds` the model is fine-tuned.
    """

    method: Literal["prune"]
    structure: Literal["structured", "unstructured"] = "structured"
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    criterion: Literal["l1", "l2", "bn_gamma", "taylor"] = "l2"
    rounds: Annotated[int, Field(ge=1, le=50)] = 4
    learn_from: LearnFrom = Field("labels", description=_LEARN_FROM)


class Prune(PruneOptions, FromParent):
    """Prune a registered parent."""


class QuantizeOptions(Value):
    """Store and compute with fewer bits per number, in the exported graph.

    `static_int8`: weights and activations, scaled by what calibration rows of the train set show; layers that lose most
    stay float until the selection rows lose at most `max_drop`. `dynamic_int8`: weights only, activations scaled as
    they come. `float16`: half the bytes.
    """

    method: Literal["quantize"]
    mode: Literal["static_int8", "dynamic_int8", "float16"] = "static_int8"
    calibration_rows: Annotated[int, Field(ge=1, le=100_000)] = 300
    fall_back: bool = True


class Quantize(QuantizeOptions, FromParent):
    """Quantize a registered parent, which may be an ensemble."""


class FactorizeOptions(Value):
    """Split dense layers and convolutions of one place into two of low rank by singular values (Denton et al. 2014).

    The rank is the smallest one that keeps the share `energy` of the squared singular values; a layer that would not
    become smaller stays as it is.
    """

    method: Literal["factorize"]
    energy: Annotated[float, Field(gt=0, le=1)] = 0.95
    learn_from: LearnFrom = Field("labels", description=_LEARN_FROM)


class Factorize(FactorizeOptions, FromParent):
    """Factorize a registered parent."""


class ClusterOptions(Value):
    """Let every layer's weights take few values (Deep Compression, Han et al. 2016).

    k-means finds a codebook of `clusters` values per layer, fine-tuning moves them; zeros stay zeros. What is stored is
    codebook and entropy-coded indices.
    """

    method: Literal["cluster"]
    clusters: Annotated[int, Field(ge=2, le=256)] = 16
    learn_from: LearnFrom = Field("labels", description=_LEARN_FROM)


class Cluster(ClusterOptions, FromParent):
    """Cluster a registered parent."""


class FineTuneOptions(Value):
    """Train the network on, as it is, from its own weights: on other rows, longer, or with other options."""

    method: Literal["fine_tune"]
    learn_from: LearnFrom = Field("labels", description=_LEARN_FROM)


class FineTune(FineTuneOptions, FromParent):
    """Fine-tune a registered parent."""

    # What costs as much as before has no drop to excuse, and members of a soup may be worse alone.
    max_drop: MaxDrop | None = Field(None, description=_MAX_DROP)


class ShareStep(ShareOptions, AsStep):
    """Share weights as a step."""


class ConvolveStep(ConvolveOptions, AsStep):
    """Convolve as a step."""


class DistillStep(DistillOptions, AsStep):
    """Distill as a step."""


class PruneStep(PruneOptions, AsStep):
    """Prune as a step."""


class QuantizeStep(QuantizeOptions, AsStep):
    """Quantize as a step."""


class FactorizeStep(FactorizeOptions, AsStep):
    """Factorize as a step."""


class ClusterStep(ClusterOptions, AsStep):
    """Cluster as a step."""


class FineTuneStep(FineTuneOptions, AsStep):
    """Fine-tune as a step."""


Step: TypeAlias = Annotated[
    ShareStep | ConvolveStep | DistillStep | PruneStep | FactorizeStep | ClusterStep | QuantizeStep | FineTuneStep,
    Field(discriminator="method"),
]


class Chain(FromParent):
    """Do several steps in one job, each on what the one before made; the last result is registered.

    What a step has gained is kept by the later ones: zeros of unstructured pruning stay zeros, a codebook stays one.
    So structure changes first, then single weights, then numbers: `quantize` comes last, `cluster` before it.
    """

    method: Literal["chain"]
    steps: Annotated[list[Step], Field(min_length=1, max_length=10)]


OptimizeMethod: TypeAlias = Annotated[
    ShareWeights | Convolve | Distill | Prune | Quantize | Factorize | Cluster | FineTune | Chain,
    Field(discriminator="method"),
]
