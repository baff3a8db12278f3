"""The jobs that train an ensemble's new members, before and beside each other."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from app.domain.datasets import canonical_json
from app.domain.ensemble_specs import FineTunedMember, Member, NewMember, Serial, Snapshot, Soup
from app.domain.soup import fine_tunes_of
from app.domain.specs import EnsembleSpec, OptimizeSpec, TogetherMember, TrainSpec, TrainTogetherSpec


class MemberJob(NamedTuple):
    """A job that trains members; `positions` are their places in the ensemble, in the order of the job's versions."""

    spec: TrainSpec | OptimizeSpec | TrainTogetherSpec
    positions: tuple[int, ...]


def listed_members(spec: EnsembleSpec) -> Sequence[Member | FineTunedMember]:
    """Return the members that the spec lists; those of a snapshot ensemble are the cycles of one training."""
    return () if isinstance(spec.method, Snapshot) else spec.method.members


def count_of(spec: EnsembleSpec) -> int:
    """Count the members, those of which there are several by their `count`."""
    if isinstance(spec.method, Snapshot):
        return spec.method.cycles
    if isinstance(spec.method, Serial) and spec.method.rounds:
        return spec.method.rounds
    return sum(member.count if isinstance(member, NewMember) else 1 for member in spec.method.members)


def expand_members(spec: EnsembleSpec) -> EnsembleSpec:
    """Return the spec with every member of a `count` written out, each with a seed of its own."""
    members: list[Member | FineTunedMember] = []
    for member in listed_members(spec):
        members += _copies(member) if isinstance(member, NewMember) else [member]
    update = {"members": members} if members else {}
    return spec.model_copy(update={"method": spec.method.model_copy(update=update)})


def _copies(member: NewMember) -> list[NewMember]:
    return [member.model_copy(update={"seed": member.seed + number, "count": 1}) for number in range(member.count)]


def new_members(spec: EnsembleSpec) -> Iterator[tuple[int, TrainSpec | OptimizeSpec]]:
    """Yield the position and the job of every member that is trained on its own, before the ensemble is fused.

    Serial members and snapshots are not: each starts from the ones before it, within the ensemble's job.
    """
    if isinstance(spec.method, Serial):
        return
    if isinstance(spec.method, Soup):
        yield from fine_tunes_of(spec, spec.method)
    for index, member in enumerate(listed_members(spec)):
        if isinstance(member, NewMember):
            yield index, _member_spec(spec, index, member)


def _member_spec(spec: EnsembleSpec, index: int, member: NewMember) -> TrainSpec:
    return TrainSpec(
        kind="train",
        name=f"{spec.name}-m{index}",
        dataset=spec.dataset,
        architecture=member.architecture,
        rows=member.rows,
        training=member.training or spec.training,
        seed=member.seed,
        tags=spec.tags,
        priority=spec.priority,
        reuse=spec.reuse,
        max_runtime_seconds=spec.max_runtime_seconds,
    )


def group_members(
    spec: EnsembleSpec, members: Sequence[tuple[int, TrainSpec | OptimizeSpec]], *, slots: int
) -> list[MemberJob]:
    """Return the jobs of members that are to be trained: one each, or one for several that differ in the seed alone.

    Those that are alike are dealt out evenly, so that each of `slots` workers has its share.
    """
    from_scratch = [(index, member) for index, member in members if isinstance(member, TrainSpec)]
    if spec.members_at_once == 1 or len(from_scratch) < len(members):
        return [MemberJob(member, (index,)) for index, member in members]
    jobs: list[MemberJob] = []
    for _, alike in groupby(sorted(from_scratch, key=_kind_of), key=_kind_of):
        kind = list(alike)
        parts = min(len(kind), max(1, slots))
        jobs += [_together(spec, kind[part::parts]) for part in range(parts)]
    return jobs


def _kind_of(member: tuple[int, TrainSpec]) -> bytes:
    """Return everything about a member but its name and seed."""
    return canonical_json(member[1].model_dump(mode="json", exclude={"name", "seed"}))


def _together(spec: EnsembleSpec, members: Sequence[tuple[int, TrainSpec]]) -> MemberJob:
    positions = tuple(index for index, _ in members)
    first = members[0][1]
    if len(members) == 1:
        return MemberJob(first, positions)
    shared = first.model_dump(exclude={"kind", "name", "seed", "leak_check"})
    group = TrainTogetherSpec(
        **shared,
        kind="train_together",
        name=f"{spec.name}-members",
        seed=first.seed,
        members=[TogetherMember(name=member.name, seed=member.seed) for _, member in members],
        members_at_once=spec.members_at_once,
    )
    return MemberJob(group, positions)


def member_spec(group: TrainTogetherSpec, member: TogetherMember) -> TrainSpec:
    """Return the train job that makes the same network alone."""
    shared = group.model_dump(exclude={"kind", "name", "seed", "members", "members_at_once"})
    return TrainSpec(**shared, kind="train", name=member.name, seed=member.seed)
