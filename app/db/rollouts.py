"""Rollouts of aliases: begin, change, promote, end, and add up what shadows have counted."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from app.db import registry
from app.db.base import now
from app.db.registry import VersionRow
from app.db.tables import AliasRollout, Model
from app.domain.errors import ConflictError, ModelNotFoundError, PreconditionFailedError, ShapeMismatchError
from app.domain.names import Reference
from app.domain.rollouts import RolloutIn, Tally, differences


def find_rollout(session: Session, name: str, alias: str) -> AliasRollout:
    """Return the open rollout of an alias; raise ModelNotFoundError."""
    registry.resolve(session, Reference(name, alias=alias))
    found = session.scalar(_of(name, alias).where(AliasRollout.ended_at.is_(None)))
    if found is None:
        raise ModelNotFoundError(
            f"Nothing is rolled out at {name}@{alias}.", hint=f"PUT /v1/models/{name}/aliases/{alias}/rollout begins."
        )
    return found


def past_rollouts(session: Session, name: str, alias: str) -> list[AliasRollout]:
    """Return all rollouts of an alias, the latest first."""
    return list(session.scalars(_of(name, alias).order_by(AliasRollout.id.desc())))


def put_rollout(
    session: Session, name: str, alias: str, wanted: RolloutIn, *, if_match: str | None = None
) -> AliasRollout:
    """Begin a rollout, or change the percentage of the one that has the same candidate and mode.

    Raise ModelNotFoundError, VersionRejectedError, ShapeMismatchError, ConflictError (the candidate has the alias), or
    PreconditionFailedError when the alias does not point at the version with the digest `if_match`.
    """
    registry.begin_write(session)
    stable, candidate = check_candidate(session, name, alias, wanted.version, force=wanted.force)
    registry.check_match(stable, if_match)
    model_id = registry.get_model(session, name).id
    chosen = _of(name, alias).where(AliasRollout.ended_at.is_(None))
    found = session.scalar(chosen)
    if found is None or (found.version_id, found.mode) != (candidate.id, wanted.mode):
        registry.end_rollout(session, model_id, alias, "replaced")
        found = AliasRollout(
            model_id=model_id, alias=alias, version_id=candidate.id, mode=wanted.mode, percent=wanted.percent, steps=[]
        )
        session.add(found)
    found.percent = wanted.percent
    found.steps = [*found.steps, {"percent": wanted.percent, "at": datetime.now(UTC).isoformat()}]
    session.flush()
    return found


def check_candidate(
    session: Session, name: str, alias: str, version: int, *, force: bool
) -> tuple[VersionRow, VersionRow]:
    """Return the alias' version and the candidate, which takes and answers the same; raise as `put_rollout`."""
    stable = registry.resolve(session, Reference(name, alias=alias))
    candidate = registry.resolve(session, Reference(name, version))
    registry.check_not_rejected(candidate, force=force)
    if candidate.id == stable.id:
        raise ConflictError(f"{name}@{alias} is version {version} already.", hint="Roll out another version.")
    told = differences(stable.manifest, candidate.manifest)
    if told:
        raise ShapeMismatchError(told, hint="Callers of an alias expect one signature: use another alias.")
    return stable, candidate


def end(session: Session, name: str, alias: str) -> None:
    """End the rollout of an alias, which stays where it is; raise ModelNotFoundError."""
    registry.begin_write(session)
    registry.end_rollout(session, find_rollout(session, name, alias).model_id, alias, "ended")


def promote(
    session: Session,
    name: str,
    alias: str,
    version: int,
    *,
    stable_digest: str,
    rollout_id: str | None = None,
    force: bool = False,
) -> VersionRow:
    """Give the alias to a candidate, and end what is rolled out.

    Raise PreconditionFailedError when the alias has moved on from the version that the conditions were checked against,
    or when the rollout whose counts were looked at, if any, is no longer open.
    """
    registry.begin_write(session)
    registry.check_match(registry.resolve(session, Reference(name, alias=alias)), stable_digest)
    if rollout_id is not None and not _end_promoted(session, rollout_id):
        raise PreconditionFailedError(
            "The rollout that was checked has ended.", hint="Look at the rollout again, and promote what is there."
        )
    return registry.set_alias(session, name, alias, version, force=force)


def _end_promoted(session: Session, rollout_id: str) -> bool:
    """End a rollout with its candidate's promotion; tell whether it was still open."""
    still_open = (AliasRollout.id == rollout_id, AliasRollout.ended_at.is_(None))
    ending = update(AliasRollout).where(*still_open).values(ended_at=now(), outcome="promoted")
    return session.execute(ending.returning(AliasRollout.id)).first() is not None


def add_tallies(session: Session, tallies: Mapping[str, Mapping[str, Any]]) -> None:
    """Add what a process has counted, by rollout id; what belongs to no rollout is forgotten."""
    for rollout_id, counted in sorted(tallies.items()):
        # The write comes first: it makes processes that count for one rollout wait for each other.
        mine = AliasRollout.id == rollout_id
        session.execute(update(AliasRollout).where(mine).values(tallied=AliasRollout.tallied + 1))
        known = session.scalar(select(AliasRollout.tally).where(mine))
        if known is not None:
            tally = Tally()
            tally.add(known)
            tally.add(counted)
            session.execute(update(AliasRollout).where(mine).values(tally=tally.as_json()))


def _of(name: str, alias: str) -> Select[AliasRollout]:
    return (
        select(AliasRollout)
        .join(Model, Model.id == AliasRollout.model_id)
        .where(Model.name == name, AliasRollout.alias == alias)
    )
