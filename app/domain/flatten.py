"""Members that are parallel ensembles give way to their own members: a weighted mean of weighted means is one."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from app.domain.ensemble_specs import Member, Parallel, RegisteredMember
from app.domain.errors import InvalidEnsembleError
from app.domain.names import Reference, check_name, parse_reference
from app.domain.pointing import pointing_at
from app.domain.specs import EnsembleSpec, JobSpec

MOST_MEMBERS = 100


class InnerMember(NamedTuple):
    """A member of a registered parallel ensemble; the weights of all of them sum to 1."""

    model: str
    weight: float


class InnerMembers(Protocol):
    """Know what parallel ensembles are made of."""

    def inner_members(self, reference: Reference) -> Sequence[InnerMember]:
        """Return the members of a version that is a parallel ensemble, for any other none."""
        ...


class _Share(NamedTuple):
    member: Member
    weight: float


def flatten(spec: JobSpec, known: InnerMembers) -> JobSpec:
    """Return a pinned spec in which no member is a parallel ensemble and no version stands twice.

    Weights that are given, or equal, stay what they are: those of an ensemble are shared among its members by their
    normalised weights, and those of one version are added. Fitted weights are fitted over all members then. Any other
    spec is returned as it is. Raise InvalidEnsembleError when there are too many members.
    """
    if not isinstance(spec, EnsembleSpec) or not isinstance(spec.method, Parallel):
        return spec
    method = spec.method
    given = method.weights if isinstance(method.weights, list) else [1.0] * len(method.members)
    whole = [_Share(member, weight) for member, weight in zip(method.members, given, strict=True)]
    shares = _merge([inner for share in whole for inner in _expand(share, known)])
    if shares == whole:
        return spec
    _check_number(spec, len(shares))
    fitted = method.weights in ("convex", "greedy")
    weights = method.weights if fitted else [share.weight for share in shares]
    members = [share.member for share in shares]
    return spec.model_copy(update={"method": method.model_copy(update={"members": members, "weights": weights})})


def _expand(share: _Share, known: InnerMembers) -> list[_Share]:
    """Return the innermost members of a member, each with its part of the weight."""
    if not isinstance(share.member, RegisteredMember):
        return [share]
    inner = known.inner_members(parse_reference(share.member.model))
    if not inner:
        return [share]
    parts = [_Share(RegisteredMember(model=part.model), share.weight * part.weight) for part in inner]
    return [innermost for part in parts for innermost in _expand(part, known)]


def _merge(shares: Sequence[_Share]) -> list[_Share]:
    """Add the weights of equal versions, each in its first place; members to train are always different models."""
    merged: dict[object, _Share] = {}
    for place, share in enumerate(shares):
        key = share.member.model if isinstance(share.member, RegisteredMember) else place
        before = merged[key].weight if key in merged else 0.0
        merged[key] = _Share(share.member, before + share.weight)
    return list(merged.values())


def _check_number(spec: EnsembleSpec, members: int) -> None:
    with pointing_at("/method/members"):
        if members > MOST_MEMBERS:
            raise InvalidEnsembleError(
                f"With the members of its ensembles it has {members} members; at most {MOST_MEMBERS} are fused.",
                hint="Name fewer of them.",
            )
    with pointing_at("/name"):
        check_name(f"{spec.name}-m{members}")
