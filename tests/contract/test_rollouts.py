"""Rollouts on both databases: one at a time, ended by whatever moves the alias, and promoted once."""

import threading
from typing import Any

import pytest

from app.db import registry, retiring, rollouts
from app.db.finish import NewVersion
from app.db.session import Sessions, reading
from app.domain.errors import (
    ConflictError,
    LeanfuseError,
    ModelNotFoundError,
    PreconditionFailedError,
    ShapeMismatchError,
    StillReferencedError,
    VersionRejectedError,
)
from app.domain.models import InputSignature
from app.domain.rollouts import RolloutIn, Tally
from tests.factories import claim_job, finish_job, submit_job, version_manifest


@pytest.fixture
def name(sessions: Sessions, dataset_id: str) -> str:
    """Register four versions of one model, the first of them named by an alias."""
    changes: list[dict[str, Any]] = [
        {},
        {},
        {"input": InputSignature(shape=(7,), dtype="float32")},
        {"rejected": "It lost."},
    ]
    for number, change in enumerate(changes):
        submit_job(sessions, dataset_id, recipe=str(number))
        finish_job(
            sessions, claim_job(sessions).lease, NewVersion("digits-cnn", version_manifest(str(number), **change))
        )
    with sessions.begin() as session:
        registry.set_alias(session, "digits-cnn", "champion", 1)
    return "digits-cnn"


def put(sessions: Sessions, name: str, *, if_match: str | None = None, **given: Any) -> str:
    with sessions.begin() as session:
        wanted = RolloutIn(**{"version": 2, **given})
        return rollouts.put_rollout(session, name, "champion", wanted, if_match=if_match).id


def opened(sessions: Sessions, name: str) -> tuple[int, int] | None:
    """Return the share and the number of changes of what is rolled out."""
    with reading(sessions) as session:
        found = registry.snapshot(session).rollouts.get((name, "champion"))
        return None if found is None else (found.percent, len(rollouts.find_rollout(session, name, "champion").steps))


def outcomes(sessions: Sessions, name: str) -> list[str | None]:
    with reading(sessions) as session:
        return [row.outcome for row in rollouts.past_rollouts(session, name, "champion")]


def digest(sessions: Sessions, reference: str) -> str:
    with reading(sessions) as session:
        return registry.resolve(session, reference).digest


def test_the_same_candidate_again_changes_the_share_alone(sessions: Sessions, name: str) -> None:
    first = put(sessions, name, percent=10)
    assert put(sessions, name, percent=30) == first
    assert opened(sessions, name) == (30, 2)
    assert put(sessions, name, mode="shadow", percent=100) != first
    assert outcomes(sessions, name) == [None, "replaced"]


def test_what_cannot_stand_in_is_no_candidate(sessions: Sessions, name: str) -> None:
    for version, kind in (
        (1, ConflictError),
        (3, ShapeMismatchError),
        (4, VersionRejectedError),
        (9, ModelNotFoundError),
    ):
        with pytest.raises(kind):
            put(sessions, name, version=version)
    with pytest.raises(PreconditionFailedError):
        put(sessions, name, if_match="0" * 64)
    put(sessions, name, version=4, force=True, if_match=digest(sessions, "digits-cnn/1"))
    assert opened(sessions, name) == (10, 1)


@pytest.mark.parametrize("move", ["set", "delete", "end"])
def test_whatever_moves_the_alias_ends_the_rollout(sessions: Sessions, name: str, move: str) -> None:
    put(sessions, name)
    with sessions.begin() as session:
        if move == "set":
            registry.set_alias(session, name, "champion", 4, force=True)
        elif move == "delete":
            registry.delete_alias(session, name, "champion")
        else:
            rollouts.end(session, name, "champion")
    assert opened(sessions, name) is None
    assert outcomes(sessions, name) == ["ended" if move == "end" else "replaced"]


def test_a_candidate_is_not_deleted(sessions: Sessions, name: str) -> None:
    put(sessions, name)
    with pytest.raises(StillReferencedError, match="rollout of alias 'champion'"), sessions.begin() as session:
        retiring.delete_version(session, name, 2)


def test_of_two_promotions_at_once_one_wins(sessions: Sessions, name: str) -> None:
    rollout_id = put(sessions, name)
    stable, ended = digest(sessions, "digits-cnn@champion"), list[str]()
    start = threading.Barrier(2)

    def promote() -> None:
        start.wait()
        try:
            with sessions.begin() as session:
                rollouts.promote(session, name, "champion", 2, stable_digest=stable, rollout_id=rollout_id)
        except LeanfuseError as refused:
            ended.append(refused.slug)
        else:
            ended.append("promoted")

    threads = [threading.Thread(target=promote) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["precondition-failed", "promoted"]
    assert outcomes(sessions, name) == ["promoted"]
    assert digest(sessions, "digits-cnn@champion") == digest(sessions, "digits-cnn/2")


def test_a_promotion_of_another_version_replaces_the_rollout(sessions: Sessions, name: str) -> None:
    put(sessions, name)
    with sessions.begin() as session:
        rollouts.promote(session, name, "champion", 4, stable_digest=digest(sessions, "digits-cnn/1"), force=True)
    assert outcomes(sessions, name) == ["replaced"]


def test_a_rollout_that_ended_meanwhile_promotes_nothing(sessions: Sessions, name: str) -> None:
    rollout_id = put(sessions, name)
    with sessions.begin() as session:
        rollouts.end(session, name, "champion")
    stable = digest(sessions, "digits-cnn@champion")
    with pytest.raises(PreconditionFailedError), sessions.begin() as session:
        rollouts.promote(session, name, "champion", 2, stable_digest=stable, rollout_id=rollout_id)
    assert digest(sessions, "digits-cnn@champion") == stable
    assert outcomes(sessions, name) == ["ended"]


def test_counts_of_processes_add_up(sessions: Sessions, name: str) -> None:
    rollout_id = put(sessions, name, mode="shadow")
    counted = Tally(requests=2, rows=5, agreeing_rows=4, difference_sum=0.5).as_json()

    def flush() -> None:
        for _ in range(5):
            with sessions.begin() as session:
                rollouts.add_tallies(session, {rollout_id: counted, "gone": counted})

    threads = [threading.Thread(target=flush) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(sessions) as session:
        tally = rollouts.find_rollout(session, name, "champion").tally
    assert (tally["requests"], tally["rows"], tally["difference_sum"]) == (30, 75, 7.5)
