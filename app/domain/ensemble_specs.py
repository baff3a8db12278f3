"""Ways to fuse models, as a user writes them: what the members are, and how their answers become one."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from app.domain.datasets import Value
from app.domain.names import ModelReference
from app.domain.presets import Architecture
from app.domain.training_specs import ROW_DRAW, RowDraw, Seed, TrainingSpec


class NewMember(Value):
    """Train a member for this ensemble; it is registered as a version of its own."""

    architecture: Architecture
    seed: Seed = 0
    training: TrainingSpec | None = Field(None, description="Instead of the ensemble's training.")
    rows: RowDraw = Field("all", description=ROW_DRAW, exclude_if=lambda given: given == "all")
    count: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="So many of this kind, with seeds from `seed` on.", exclude_if=lambda given: given == 1
    )


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
MOST_MEMBERS = 100
Members = Annotated[list[Member], Field(min_length=1, max_length=MOST_MEMBERS)]


def count_members(members: Sequence[Member]) -> int:
    """Count members, those of which there are several by their `count`."""
    return sum(member.count if isinstance(member, NewMember) else 1 for member in members)


DEFAULT_SHRINKAGE = 0.3
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
            if len(self.weights) != count_members(self.members):
                raise ValueError(f"{count_members(self.members)} members need as many weights, not {len(self.weights)}")
            if sum(self.weights) <= 0:
                raise ValueError("the weights must not all be zero")
        return self


class Serial(Value):
    """Train members one after another, each on what the ones before it get wrong; the logits are summed.

    `type`: residual (on top of the frozen logits of the sum), samme (on rows that weigh more where the members before
    are wrong, Zhu et al. 2009) or gradient (the negative gradient of the loss at the sum, Friedman 2001).
    """

    method: Literal["serial"]
    type: Literal["residual", "samme", "gradient"] = "residual"
    members: Annotated[list[NewMember], Field(min_length=1, max_length=100)]
    rounds: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None,
        description="Train the one member so often, each time with the next seed.",
        exclude_if=lambda rounds: rounds is None,
    )
    shrinkage: Annotated[float, Field(ge=0.1, le=1)] = Field(
        DEFAULT_SHRINKAGE,
        description="The share of its step that a member takes; for the type `gradient`.",
        exclude_if=lambda share: share == DEFAULT_SHRINKAGE,
    )

    @model_validator(mode="after")
    def _check_rounds(self) -> "Serial":
        members = count_members(self.members)
        if self.rounds is not None and members != 1:
            raise ValueError(f"`rounds` repeat one member, not {members}; name one, or leave `rounds` out")
        if self.shrinkage != DEFAULT_SHRINKAGE and self.type != "gradient":
            raise ValueError(f"`shrinkage` is for the type `gradient`, not for `{self.type}`")
        return self

    @property
    def planned(self) -> list[NewMember]:
        """Return the member of every round that is planned."""
        if self.rounds is None:
            return self.members
        only = self.members[0]
        return [only.model_copy(update={"seed": only.seed + number}) for number in range(self.rounds)]


class Stack(Value):
    """Train a meta-learner on the members' out-of-fold predictions (Wolpert 1992).

    `split`: stratified, grouped (no group in two folds), time (no member is trained on later rows than it answers for),
    or auto: by time or groups where the data set has them.
    """

    method: Literal["stack"]
    members: Members
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    meta: Literal["logistic", "mlp"] = "logistic"
    split: Literal["auto", "stratified", "grouped", "time"] = Field("auto", exclude_if=lambda split: split == "auto")
    passthrough: bool = Field(
        default=False,
        description="Let the meta-learner see the rows' own numbers beside the members' answers.",
        exclude_if=lambda given: not given,
    )


class FineTunedMember(Value):
    """Fine-tune the ancestor for this soup; it is registered as a version of its own."""

    seed: Seed = 0
    training: TrainingSpec | None = Field(None, description="Instead of the soup's training.")


def _ingredient_tag(value: object) -> str:
    return "registered" if _member_tag(value) == "registered" else "fine_tuned"


Ingredient: TypeAlias = Annotated[
    Annotated[FineTunedMember, Tag("fine_tuned")] | Annotated[RegisteredMember, Tag("registered")],
    Discriminator(_ingredient_tag),
]


class Soup(Value):
    """Average the weights of fine-tunes of one ancestor into one network (model soups, Wortsman et al. 2022).

    `uniform`: the mean of all. `greedy`: from the best member of the selection rows on, each joins the mean unless it
    makes it worse there. A registered member must descend from the ancestor, be it through several fine-tunings, and
    have its layers: means of networks that were trained from different starts answer at random.
    """

    method: Literal["soup"]
    ancestor: ModelReference
    recipe: Literal["uniform", "greedy"] = "greedy"
    members: Annotated[list[Ingredient], Field(min_length=2, max_length=100)]


class Snapshot(Value):
    """Take a member at the end of every cycle of one training with warm restarts (snapshots, Huang et al. 2017).

    Each cycle has the epochs of the job's training, its cosine schedule from the top and the last weights of the cycle
    before to start from; its own seed is `seed` + its number. The members are fused as in `parallel`.
    """

    method: Literal["snapshot"]
    architecture: Architecture
    seed: Seed = 0
    cycles: Annotated[int, Field(ge=2, le=20)] = 5
    weights: Literal["uniform", "convex", "greedy"] = "convex"


Threshold = Annotated[float, Field(gt=0, le=1)]


class Cascade(Value):
    """Ask the members in order, the cheapest first: each answers the rows of which it is sure, the last one the rest.

    Sure means that its largest probability, calibrated, is at least the threshold. `auto` chooses the thresholds on the
    selection rows: of least cost per row (multiply-accumulates), at most `max_loss` points of accuracy below always
    asking the last member.
    """

    method: Literal["cascade"]
    members: Annotated[list[Member], Field(min_length=2, max_length=8)]
    thresholds: Literal["auto"] | Annotated[list[Threshold], Field(min_length=1, max_length=7)] = "auto"
    max_loss: Annotated[float, Field(ge=0, le=100)] = 0.0

    @model_validator(mode="after")
    def _check_thresholds(self) -> "Cascade":
        gates = count_members(self.members) - 1
        if isinstance(self.thresholds, list) and len(self.thresholds) != gates:
            raise ValueError(f"{gates + 1} members need {gates} thresholds, not {len(self.thresholds)}")
        return self


EnsembleMethod: TypeAlias = Annotated[
    Parallel | Serial | Stack | Soup | Snapshot | Cascade, Field(discriminator="method")
]
