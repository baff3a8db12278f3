from typing import Any

from app.domain.member_jobs import expand_members, group_members, member_spec, new_members
from app.domain.specs import EnsembleSpec, TrainSpec, TrainTogetherSpec, job_spec_adapter

MLP = {"type": "mlp", "hidden": [4]}


def ensemble(*members: dict[str, Any], **spec: Any) -> EnsembleSpec:
    method = {"method": "parallel", "members": list(members)}
    found = job_spec_adapter.validate_python(
        {"kind": "ensemble", "name": "team", "dataset": "digits", "method": method, **spec}
    )
    assert isinstance(found, EnsembleSpec)
    return expand_members(found)


def jobs_of(spec: EnsembleSpec, *, slots: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(job.spec.kind, job.positions) for job in group_members(spec, list(new_members(spec)), slots=slots)]


def test_a_count_stands_for_members_with_seeds_of_their_own() -> None:
    spec = ensemble({"architecture": MLP, "seed": 3, "count": 3}, {"model": "cnn/1"})
    assert [(place, member.seed, member.name) for place, member in new_members(spec)] == [
        (0, 3, "team-m0"),
        (1, 4, "team-m1"),
        (2, 5, "team-m2"),
    ]
    assert len(spec.method.members) == 4


def test_every_member_has_a_job_unless_they_are_to_be_trained_together() -> None:
    assert jobs_of(ensemble({"architecture": MLP, "count": 3}), slots=2) == [("train", (place,)) for place in range(3)]


def test_members_that_differ_in_the_seed_alone_are_dealt_out_to_the_workers() -> None:
    spec = ensemble(
        {"architecture": MLP, "count": 5},
        {"architecture": MLP, "rows": "bootstrap", "count": 2},
        {"architecture": {"type": "cnn"}},
        members_at_once="auto",
    )
    found = jobs_of(spec, slots=2)
    assert sorted(found) == [
        ("train", (5,)),
        ("train", (6,)),
        ("train", (7,)),
        ("train_together", (0, 2, 4)),
        ("train_together", (1, 3)),
    ]
    assert max(jobs_of(spec, slots=0)) == ("train_together", (5, 6))


def test_a_group_holds_what_every_member_would_be_alone() -> None:
    spec = ensemble({"architecture": MLP, "rows": "bootstrap", "count": 3}, members_at_once=3, tags={"team": "a"})
    alone = [member for _, member in new_members(spec)]
    ((group, _),) = group_members(spec, list(new_members(spec)), slots=1)
    assert isinstance(group, TrainTogetherSpec)
    again = [member_spec(group, member) for member in group.members]
    assert again == alone
    assert all(isinstance(member, TrainSpec) and member.rows == "bootstrap" for member in again)


def test_a_spec_without_the_new_fields_is_written_as_before() -> None:
    body = ensemble({"architecture": MLP}).model_dump(mode="json")
    assert not {"min_members", "members_at_once", "then"} & set(body)
    assert set(body["method"]["members"][0]) == {"architecture", "seed", "training"}
