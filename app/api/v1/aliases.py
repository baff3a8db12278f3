"""Aliases: movable names of versions. Promotion is: load, verify, then move."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from app.api.bodies import read_model
from app.api.deps import Services, Wired
from app.api.openapi import json_body
from app.api.problems import documented
from app.api.v1.lookup import AliasInPath, NameInPath, etag
from app.api.v1.schemas import VersionOut, version_out
from app.db import registry
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


class AliasHistory(BaseModel):
    """Where an alias pointed, the latest change first."""

    name: str
    alias: str
    changes: list[AliasChangeOut]


_alias: TypeAdapter[AliasIn] = TypeAdapter(AliasIn)


async def _read_alias(request: Request) -> AliasIn:
    return await read_model(request, _alias)


@router.put(
    "/models/{name}/aliases/{alias}",
    summary="Point an alias at a version",
    openapi_extra=json_body(
        {
            "type": "object",
            "properties": {"version": {"type": "integer", "minimum": 1}, "force": {"type": "boolean"}},
            "required": ["version"],
        },
        {"promote version 1": {"version": 1}, "promote a rejected version": {"version": 1, "force": True}},
    ),
    responses=documented(
        errors.ModelNotFoundError,
        errors.VersionRejectedError,
        errors.PreconditionFailedError,
        errors.InvalidRequestError,
        errors.UnsupportedMediaTypeError,
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
    row = promote(wired, name, alias, body.version, if_match=_digest(if_match), force=body.force)
    return _moved(wired, row, response)


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
        registry.delete_alias(session, name, alias, if_match=_digest(if_match))
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
        ids = {change.version_id for change in changes} | {change.previous_version_id for change in changes}
        rows = registry.versions_by_id(session, [known for known in ids if known is not None])
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
    )


@router.post(
    "/models/{name}/aliases/{alias}:rollback",
    summary="Point an alias where it pointed before",
    responses=documented(errors.ModelNotFoundError, errors.ConflictError, errors.PreconditionFailedError),
)
def rollback_alias(
    wired: Wired, name: NameInPath, alias: AliasInPath, response: Response, if_match: IfMatch = ""
) -> VersionOut:
    """Undo the latest change of an alias."""
    with wired.sessions.begin() as session:
        registry.resolve(session, Reference(name, alias=alias))
        latest = registry.alias_history(session, name, alias)[0]
        before = registry.versions_by_id(session, [latest.previous_version_id]) if latest.previous_version_id else {}
        if not before:
            raise errors.ConflictError(
                f"The alias {alias!r} has never pointed elsewhere.", hint="GET its /history shows every change."
            )
        target = next(iter(before.values()))
        # Whoever pointed it at a rejected version before had to insist on that.
        row = registry.set_alias(session, name, alias, target.version, if_match=_digest(if_match), force=True)
    return _moved(wired, row, response)


def _moved(wired: Services, row: VersionRow, response: Response) -> VersionOut:
    wired.view.refresh()
    response.headers["ETag"] = etag(row.digest)
    return version_out(wired.view.by_id(row.id) or row)


def _digest(if_match: str) -> str | None:
    tag = if_match.strip().strip('"')
    return tag if tag and tag != "*" else None
