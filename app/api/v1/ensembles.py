"""Ensembles: models that fuse others."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from app.api.deps import Services, Wired
from app.api.pages import LISTING, Pages, refuse_unknown_filters
from app.api.problems import documented
from app.api.v1.lookup import NameInPath, VersionInPath, check_kind, find_version
from app.api.v1.models import REPORT, read_json_artifact
from app.api.v1.schemas import VersionOut, version_out
from app.db import registry
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain import errors
from app.domain.names import Reference

router = APIRouter(prefix="/v1", tags=["ensembles"])
_RECIPE = "recipe.json"


class MemberOut(BaseModel):
    """One member, in the order of the graph's outputs."""

    position: int
    name: str
    version: int
    digest: str
    weight: float | None = Field(description="Its weight in the sum; none when a meta-learner fuses.")
    accuracy: float | None
    url: str


class GainOut(BaseModel):
    """How the fusion compares with its best member, on the report rows."""

    against: str
    difference: float
    interval: tuple[float, float]
    p_value: float | None = None
    verdict: str


class EnsembleOut(BaseModel):
    """A version that fuses others."""

    name: str
    version: int
    method: str
    aliases: list[str]
    members: list[MemberOut]
    meta_learner: dict[str, Any] | None = None
    gain: GainOut | None = Field(description="Over the best member, with its interval.")
    newest: VersionOut = Field(description="This version in full; for an ensemble's name, its newest one.")


class EnsembleList(BaseModel):
    """One page of ensembles, by name."""

    ensembles: list[EnsembleOut]
    next_page_token: str = ""


@router.get("/ensembles", summary="List ensembles", responses=documented(*LISTING, errors.ArtifactCorruptedError))
def list_ensembles(request: Request, wired: Wired, page: Pages) -> EnsembleList:
    """List the models whose newest version fuses others."""
    refuse_unknown_filters(request, frozenset())
    with reading(wired.sessions) as session:
        found = registry.list_models(session, page.request, kind="ensemble")
    wired.view.refresh()
    described = [_ensemble(wired, row.newest) for row in found.items]
    return EnsembleList(ensembles=described, next_page_token=page.token(found.next))


@router.get(
    "/ensembles/{name}",
    summary="Look at an ensemble",
    responses=documented(errors.ModelNotFoundError, errors.VersionRejectedError, errors.ArtifactCorruptedError),
)
def get_ensemble(wired: Wired, name: NameInPath) -> EnsembleOut:
    """Return the newest version of an ensemble: members, weights, gain."""
    wired.view.refresh()
    return _ensemble(wired, check_kind(wired.view.resolve(Reference(name)), "ensemble"))


@router.get(
    "/ensembles/{name}/versions/{version}",
    summary="Look at a version of an ensemble",
    responses=documented(errors.ModelNotFoundError, errors.ModelDeletedError, errors.ArtifactCorruptedError),
)
async def get_ensemble_version(wired: Wired, name: NameInPath, version: VersionInPath) -> EnsembleOut:
    """Return one version of an ensemble: members, weights, gain."""
    return _ensemble(wired, await find_version(wired, Reference(name, version), kind="ensemble"))


def _ensemble(wired: Services, row: VersionRow) -> EnsembleOut:
    return EnsembleOut(
        name=row.name,
        version=row.version,
        method=row.manifest.method,
        aliases=sorted(row.aliases),
        members=list(_members(wired, row)),
        meta_learner=read_json_artifact(wired, row, _RECIPE).get("meta_learner"),
        gain=_gain(read_json_artifact(wired, row, REPORT)),
        newest=version_out(row),
    )


def _members(wired: Services, row: VersionRow) -> list[MemberOut]:
    links = sorted((link for link in row.manifest.links if link.role == "member"), key=lambda link: link.position)
    members = [(link, wired.view.by_id(link.version_id)) for link in links]
    return [
        MemberOut(
            position=link.position,
            name=member.name,
            version=member.version,
            digest=member.digest,
            weight=link.weight,
            accuracy=member.manifest.metrics.accuracy,
            url=f"/v1/models/{member.name}/versions/{member.version}",
        )
        for link, member in members
        if member is not None
    ]


def _gain(report: dict[str, Any]) -> GainOut | None:
    baseline = report.get("baseline")
    if not baseline or "difference" not in baseline:
        return None
    return GainOut.model_validate({name: baseline.get(name) for name in GainOut.model_fields})
