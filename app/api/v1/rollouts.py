"""Rollouts: try a candidate on a part of an alias' requests, and promote it when measured conditions hold."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from app.api.bodies import CHECKED_FIELDS, STRICT_JSON, read_model
from app.api.deps import Services, Wired
from app.api.openapi import json_body
from app.api.problems import documented
from app.api.v1.aliases import IfMatch, digest_in, moved
from app.api.v1.lookup import AliasInPath, NameInPath
from app.api.v1.schemas import VersionOut
from app.db import registry, rollouts
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain import errors
from app.domain.errors import FieldError
from app.domain.names import Reference
from app.domain.rollouts import Condition, PromoteIn, RolloutIn, Tally, check_gate

router = APIRouter(prefix="/v1", tags=["models"])
_rollout: TypeAdapter[RolloutIn] = TypeAdapter(RolloutIn)
_promote: TypeAdapter[PromoteIn] = TypeAdapter(PromoteIn)


class RolloutOut(BaseModel):
    """What is rolled out at an alias."""

    name: str
    alias: str
    stable: int = Field(description="The version that the alias names.")
    candidate: int
    mode: str
    percent: int
    started_at: datetime
    report: dict[str, Any] = Field(
        description="Of a shadow: agreement, differences, latencies; empty counts for a split."
    )


async def _read_rollout(request: Request) -> RolloutIn:
    return await read_model(request, _rollout)


async def _read_promotion(request: Request) -> PromoteIn:
    return await read_model(request, _promote)


@router.put(
    "/models/{name}/aliases/{alias}/rollout",
    summary="Roll a candidate out at an alias",
    openapi_extra=json_body(
        "RolloutIn",
        {
            "a tenth of the requests": {"version": 2, "mode": "split", "percent": 10},
            "all requests, unseen": {"version": 2, "mode": "shadow", "percent": 100},
        },
    ),
    responses=documented(
        *STRICT_JSON,
        *CHECKED_FIELDS,
        errors.UnknownComponentError,
        errors.ModelNotFoundError,
        errors.VersionRejectedError,
        errors.ConflictError,
        errors.ShapeMismatchError,
        errors.PreconditionFailedError,
        errors.ArtifactCorruptedError,
    ),
)
def put_rollout(
    wired: Wired,
    name: NameInPath,
    alias: AliasInPath,
    body: Annotated[RolloutIn, Depends(_read_rollout)],
    if_match: IfMatch = "",
) -> RolloutOut:
    """Load and verify the candidate, then let it answer a share of the requests, or run beside them unseen.

    The same candidate and mode again only change the share: who got the candidate keeps it while the share grows.
    """
    with reading(wired.sessions) as session:
        _, candidate = rollouts.check_candidate(session, name, alias, body.version, force=body.force)
    wired.predictor.load(candidate)
    with wired.sessions.begin() as session:
        rollouts.put_rollout(session, name, alias, body, if_match=digest_in(if_match))
    wired.view.refresh()
    return _shown(wired, name, alias)


@router.get(
    "/models/{name}/aliases/{alias}/rollout",
    summary="Look at a rollout",
    responses=documented(errors.ModelNotFoundError),
)
def get_rollout(wired: Wired, name: NameInPath, alias: AliasInPath) -> RolloutOut:
    """Return what is rolled out at an alias, and how a shadow compares so far."""
    return _shown(wired, name, alias)


@router.delete(
    "/models/{name}/aliases/{alias}/rollout",
    status_code=204,
    summary="End a rollout",
    responses=documented(errors.ModelNotFoundError),
)
def delete_rollout(wired: Wired, name: NameInPath, alias: AliasInPath) -> None:
    """End a rollout; the alias stays where it is."""
    wired.shadows.flush()
    with wired.sessions.begin() as session:
        rollouts.end(session, name, alias)
    wired.view.refresh()


@router.post(
    "/models/{name}/aliases/{alias}:promote",
    summary="Give an alias to a candidate, if conditions hold",
    openapi_extra=json_body(
        "PromoteIn",
        {
            "the rollout's candidate": {"require": {"max_drop": 0.01, "min_agreement": 0.95}},
            "a version": {"version": 2, "require": {"min_accuracy": 0.9}},
        },
    ),
    responses=documented(
        *STRICT_JSON,
        *CHECKED_FIELDS,
        errors.ModelNotFoundError,
        errors.VersionRejectedError,
        errors.GateNotMetError,
        errors.ShapeMismatchError,
        errors.PreconditionFailedError,
        errors.ArtifactCorruptedError,
    ),
)
def promote_alias(
    wired: Wired,
    name: NameInPath,
    alias: AliasInPath,
    body: Annotated[PromoteIn, Depends(_read_promotion)],
    response: Response,
    if_match: IfMatch = "",
) -> VersionOut:
    """Check the conditions against what was measured; move the alias and end the rollout only if all of them hold."""
    wired.shadows.flush()
    with reading(wired.sessions) as session:
        number, tally, rollout_id = _candidate(wired, name, alias, body.version)
        stable, candidate = rollouts.check_candidate(session, name, alias, number, force=body.force)
        registry.check_match(stable, digest_in(if_match))
    _check_conditions(body, stable, candidate, tally)
    wired.predictor.load(candidate)
    with wired.sessions.begin() as session:
        row = rollouts.promote(
            session, name, alias, number, stable_digest=stable.digest, rollout_id=rollout_id, force=body.force
        )
    return moved(wired, row, response)


def _candidate(wired: Services, name: str, alias: str, version: int | None) -> tuple[int, Tally, str | None]:
    """Return the number of the version to promote, what its shadow has counted, and the id of its rollout, if any."""
    tally = Tally()
    with reading(wired.sessions) as session:
        try:
            rollout = rollouts.find_rollout(session, name, alias)
        except errors.ModelNotFoundError:
            if version is None:
                raise
            return version, tally, None
        number = registry.versions_by_id(session, [rollout.version_id])[rollout.version_id].version
    if version in (None, number):
        tally.add(rollout.tally)
        return number, tally, rollout.id
    return version or number, tally, None


def _check_conditions(body: PromoteIn, stable: VersionRow, candidate: VersionRow, tally: Tally) -> None:
    conditions = check_gate(
        body.require, candidate=candidate.manifest.metrics, stable=stable.manifest.metrics, tally=tally
    )
    failed = [condition for condition in conditions if not condition.holds]
    if failed:
        raise errors.GateNotMetError(
            f"{candidate.name}/{candidate.version} does not meet {len(failed)} of {len(conditions)} conditions.",
            hint="Nothing was changed. Roll another version out, wait for more requests, or ask for less.",
            errors=[FieldError(f"/require/{item.name}", _told(item), errors.GateNotMetError.slug) for item in failed],
        )


def _told(condition: Condition) -> str:
    measured = "nothing was measured" if condition.measured is None else f"measured {condition.measured:.6g}"
    bound = "at least" if condition.name.startswith("min_") else "at most"
    return f"{bound} {condition.required:.6g} is asked for; {measured}."


def _shown(wired: Services, name: str, alias: str) -> RolloutOut:
    wired.shadows.flush()
    with reading(wired.sessions) as session:
        rollout = rollouts.find_rollout(session, name, alias)
        stable = registry.resolve(session, Reference(name, alias=alias))
        candidate = registry.versions_by_id(session, [rollout.version_id])[rollout.version_id]
    tally = Tally()
    tally.add(rollout.tally)
    return RolloutOut(
        name=name,
        alias=alias,
        stable=stable.version,
        candidate=candidate.version,
        mode=rollout.mode,
        percent=rollout.percent,
        started_at=rollout.started_at,
        report=tally.report(),
    )
