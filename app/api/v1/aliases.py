"""Aliases: movable names of versions. Promotion is: load, verify, then move."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy.orm import Session

from app.api.bodies import CHECKED_FIELDS, STRICT_JSON, read_model
from app.api.deps import Services, Wired
from app.api.openapi import json_body
from app.api.problems import documented
from app.api.v1.lookup import AliasInPath, NameInPath, etag
from app.api.v1.schemas import VersionOut, version_out
from app.db import registry, rollouts
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain import errors
from app.domain.datasets import Value
from app.domain.names import Reference

router = APIRouter(prefix="/v1", tags=["models"])
IfMatch = Annotated[str, Header(max_length=200, description="Digest of the version that the alias must name now.")]


class AliasIn(Value):
    """Where an alias shall point."""

    version: Annotated[int, Field(ge=1, lt=2**31)]
    force: bool = Field(default=False, description="Also a version that was rejected.")


class AliasChangeOut(BaseModel):
    """Where an alias pointed from then on; none: it was removed."""

    version: int | None
    previous_version: int | None
    job_id: str | None
    changed_at: datetime


class PastRolloutOut(BaseModel):
    """A candidate that was tried at an alias, or still is."""

    version: int | None
    mode: str
    steps: list[dict[str, Any]] = Field(description="Every share that it had, in percent, with its time.")
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(description="promoted, ended, or replaced by another rollout or a move of the alias.")


class AliasHistory(BaseModel):
    """Where an alias pointed and what was tried there, the latest first."""

    name: str
    alias: str
    changes: list[AliasChangeOut]
    rollouts: list[PastRolloutOut]


_alias: TypeAdapter[AliasIn] = TypeAdapter(AliasIn)


# A body is read only where the path names something, so this asks for the path too.
async def _read_alias(request: Request, name: NameInPath, alias: AliasInPath) -> AliasIn:  # noqa: ARG001
    return await read_model(request, _alias)


@router.put(
    "/models/{name}/aliases/{alias}",
    summary="Point an alias at a version",
    openapi_extra=json_body(
        _alias.json_schema(),
        {"promote version 1": {"version": 1}, "promote a rejected version": {"version": 1, "force": True}},
    ),
    responses=documented(
        *STRICT_JSON,
        *CHECKED_FIELDS,
        errors.ModelNotFoundError,
        errors.VersionRejectedError,
        errors.PreconditionFailedError,
        errors.ArtifactCorruptedError,
    ),
)
def set_alias(
    wired: Wired,
    name: NameInPath,
    alias: AliasInPath,
    body: Annotated[AliasIn, Depends(_read_alias)],
    response: Response,
    if_match: IfMatch = "",
) -> VersionOut:
    """Load and verify the version, then let the alias name it: whoever predicts by the alias waits for nothing."""
    row = promote(wired, name, alias, body.version, if_match=digest_in(if_match), force=body.force)
    return moved(wired, row, response)


def promote(
    wired: Services, name: str, alias: str, version: int, *, if_match: str | None = None, force: bool = False
) -> VersionRow:
    """Load and verify a version, then let the alias name it; refresh the view before it is used again."""
    with reading(wired.sessions) as session:
        target = registry.resolve(session, Reference(name, version))
    registry.check_not_rejected(target, force=force)
    wired.predictor.load(target)
    with wired.sessions.begin() as session:
        return registry.set_alias(session, name, alias, version, if_match=if_match, force=force)


@router.delete(
    "/models/{name}/aliases/{alias}",
    status_code=204,
    summary="Remove an alias",
    responses=documented(errors.ModelNotFoundError, errors.PreconditionFailedError),
)
def delete_alias(wired: Wired, name: NameInPath, alias: AliasInPath, if_match: IfMatch = "") -> None:
    """Remove an alias; the version stays."""
    with wired.sessions.begin() as session:
        registry.delete_alias(session, name, alias, if_match=digest_in(if_match))
    wired.view.refresh()


@router.get(
    "/models/{name}/aliases/{alias}/history",
    summary="Where an alias pointed",
    responses=documented(errors.ModelNotFoundError),
)
def get_alias_history(wired: Wired, name: NameInPath, alias: AliasInPath) -> AliasHistory:
    """Return where an alias pointed, the latest change first."""
    with reading(wired.sessions) as session:
        registry.get_model(session, name)
        changes = registry.alias_history(session, name, alias)
        tried = rollouts.past_rollouts(session, name, alias)
        pointed = {number for change in changes for number in (change.version_id, change.previous_version_id) if number}
        ids = [*pointed, *(rollout.version_id for rollout in tried)]
        rows = registry.versions_by_id(session, ids)
    numbers = {version_id: row.version for version_id, row in rows.items()}
    return AliasHistory(
        name=name,
        alias=alias,
        changes=[
            AliasChangeOut(
                version=numbers.get(change.version_id or ""),
                previous_version=numbers.get(change.previous_version_id or ""),
                job_id=change.job_id,
                changed_at=change.changed_at,
            )
            for change in changes
        ],
        rollouts=[
            PastRolloutOut(
                version=numbers.get(rollout.version_id),
                mode=rollout.mode,
                steps=rollout.steps,
                started_at=rollout.started_at,
                ended_at=rollout.ended_at,
                outcome=rollout.outcome,
            )
            for rollout in tried
        ],
    )


@router.post(
    "/models/{name}/aliases/{alias}:rollback",
    summary="Point an alias where it pointed before",
    responses=documented(errors.ModelNotFoundError, errors.ConflictError, errors.PreconditionFailedError),
)
def rollback_alias(
    wired: Wired, name: NameInPath, alias: AliasInPath, response: Response, if_match: IfMatch = ""
) -> VersionOut:
    """Undo the latest change of an alias: end what is rolled out there, or else let it point where it did before."""
    with wired.sessions.begin() as session:
        row = _rolled_back(session, name, alias, digest_in(if_match))
    return moved(wired, row, response)


def _rolled_back(session: Session, name: str, alias: str, if_match: str | None) -> VersionRow:
    registry.begin_write(session)
    present = registry.resolve(session, Reference(name, alias=alias))
    registry.check_match(present, if_match)
    if registry.end_rollout(session, registry.get_model(session, name).id, alias, "ended"):
        return present
    latest = registry.alias_history(session, name, alias)[0]
    before = registry.versions_by_id(session, [latest.previous_version_id]) if latest.previous_version_id else {}
    if not before:
        raise errors.ConflictError(
            f"The alias {alias!r} has never pointed elsewhere.", hint="GET its /history shows every change."
        )
    # Whoever pointed it at a rejected version before had to insist on that.
    return registry.set_alias(session, name, alias, next(iter(before.values())).version, force=True)


def moved(wired: Services, row: VersionRow, response: Response) -> VersionOut:
    """Show the version that an alias names now."""
    wired.view.refresh()
    response.headers["ETag"] = etag(row.digest)
    return version_out(wired.view.by_id(row.id) or row)


def digest_in(if_match: str) -> str | None:
    """Return the digest that an If-Match header names, or None."""
    tag = if_match.strip().strip('"')
    return tag if tag and tag != "*" else None
