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
