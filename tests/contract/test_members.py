"""Members of an ensemble in SQL: how many must succeed, and which version is whose."""

from app.db.jobs import Child, cancel, dependencies, submit
from app.db.registering import NewVersion
from app.db.session import Sessions, reading
from app.domain.jobs import TOGETHER
from tests.factories import (
    claim_job,
    ensemble_job,
    finish_job,
    get_row,
    new_job,
    sha256,
    version_manifest,
)


def submit_trio(sessions: Sessions, dataset_id: str, *, least: int | None) -> tuple[str, list[str]]:
    with sessions.begin() as session:
        parent = submit(session, ensemble_job(dataset_id, members=3, min_dependencies=least))
        return parent.id, [row.job_id for row in dependencies(session, parent.id)]


def cancel_job(sessions: Sessions, job_id: str) -> None:
    with sessions.begin() as session:
        cancel(session, job_id)


def test_an_ensemble_waits_for_every_member_and_does_without_one(sessions: Sessions, dataset_id: str) -> None:
    parent_id, children = submit_trio(sessions, dataset_id, least=2)
    cancel_job(sessions, children[1])
    assert get_row(sessions, parent_id).state == "queued"
    for place in (0, 2):
        claimed = claim_job(sessions)
        assert claimed.lease.job_id == children[place], "the ensemble is not due while a member is to be trained"
        finish_job(sessions, claimed.lease)
    claimed = claim_job(sessions)
    assert claimed.lease.job_id == parent_id
    assert [(need.position, need.state) for need in claimed.dependencies] == [
        (0, "succeeded"),
        (1, "cancelled"),
        (2, "succeeded"),
    ]
    assert [bool(need.version_id) for need in claimed.dependencies] == [True, False, True]


def test_an_ensemble_fails_as_soon_as_too_few_are_left(sessions: Sessions, dataset_id: str) -> None:
    parent_id, children = submit_trio(sessions, dataset_id, least=2)
    cancel_job(sessions, children[0])
    assert get_row(sessions, parent_id).state == "queued"
    cancel_job(sessions, children[1])
    parent = get_row(sessions, parent_id)
    assert (parent.state, parent.error and parent.error["type"]) == ("failed", "dependency-failed")
    assert get_row(sessions, children[2]).state == "cancelled"


def submit_group(sessions: Sessions, dataset_id: str) -> tuple[str, str]:
    """Submit an ensemble whose members 0 and 2 one job trains; return both ids."""
    group = new_job(dataset_id, "duo-members", kind=TOGETHER, recipe="both")
    with sessions.begin() as session:
        parent = submit(session, new_job(dataset_id, "duo", kind="ensemble", children=[Child(group, (0, 2))]))
        return parent.id, dependencies(session, parent.id)[0].job_id


def test_one_job_makes_the_versions_of_several_members(sessions: Sessions, dataset_id: str) -> None:
    parent_id, group_id = submit_group(sessions, dataset_id)
    claimed = claim_job(sessions)
    assert claimed.lease.job_id == group_id
    made = [NewVersion(f"duo-m{place}", version_manifest(f"seed {place}")) for place in (0, 2)]
    version_ids = finish_job(sessions, claimed.lease, *made).version_ids
    claimed = claim_job(sessions)
    assert claimed.lease.job_id == parent_id
    assert [(need.position, need.version_id) for need in claimed.dependencies] == list(
        zip((0, 2), version_ids, strict=True)
    )


def test_members_that_were_trained_together_are_taken_by_later_jobs(sessions: Sessions, dataset_id: str) -> None:
    submit_group(sessions, dataset_id)
    other_id, _ = submit_group(sessions, dataset_id)
    made = [NewVersion(f"duo-m{place}", version_manifest(f"seed {place}")) for place in (0, 2)]
    version_ids = finish_job(sessions, claim_job(sessions).lease, *made).version_ids
    with reading(sessions) as session:
        taken = dependencies(session, other_id)
    assert [(row.state, row.result_version_id) for row in taken] == [
        ("succeeded", version_id) for version_id in version_ids
    ]
    alone = new_job(dataset_id, "alone", recipe="seed 0")
    with sessions.begin() as session:
        assert submit(session, alone).state == "succeeded", "each member is what a train job of its own would make"
    assert alone.recipe_digest == sha256("seed 0")
