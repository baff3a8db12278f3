"""Models, versions, aliases and tags. Every write raises the registry's revision in the same transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.db.pages import Page, PageRequest
from app.db.tables import AliasChange
from app.domain.models import LinkRole, VersionManifest
from app.domain.names import Reference


@dataclass(frozen=True)
class VersionRow:
    """A version with its model's name, and the aliases and tags that it carries now."""

    id: str
    name: str
    version: int
    state: str
    digest: str
    recipe_digest: str | None
    job_id: str
    created_at: datetime
    manifest: VersionManifest
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ModelRow:
    """A model with its newest version and its aliases."""

    id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    newest: VersionRow
    aliases: Mapping[str, int]


@dataclass(frozen=True)
class LinkRow:
    """One step of a lineage: the other version, and what it is to this one."""

    role: LinkRole
    position: int
    weight: float | None
    version_id: str
    name: str
    version: int


class Lineage(NamedTuple):
    """What a version was made from, and what was made from it."""

    made_from: Sequence[LinkRow]
    used_by: Sequence[LinkRow]


@dataclass(frozen=True)
class Snapshot:
    """All versions that can serve, and every alias: `aliases[model name][alias]` is a version number."""

    revision: int
    versions: Sequence[VersionRow]
    aliases: Mapping[str, Mapping[str, int]]


def revision(session: Session) -> int:
    """Return the number of registry writes so far; equal numbers mean an unchanged registry."""
    raise NotImplementedError


def snapshot(session: Session) -> Snapshot:
    """Return the whole registry, for a view that serves from memory."""
    raise NotImplementedError


def resolve(session: Session, reference: str | Reference) -> VersionRow:
    """Return the version that `name`, `name/3` or `name@alias` names; raise ModelNotFoundError."""
    raise NotImplementedError


def versions_by_id(session: Session, ids: Sequence[str]) -> dict[str, VersionRow]:
    """Return versions by id, in two queries whatever their number."""
    raise NotImplementedError


def find_by_recipe(session: Session, recipe_digest: str) -> VersionRow | None:
    """Return the newest ready version that this recipe made."""
    raise NotImplementedError


def get_model(session: Session, name: str) -> ModelRow:
    """Return a model; raise ModelNotFoundError."""
    raise NotImplementedError


def list_models(session: Session, page: PageRequest, *, kind: str | None = None) -> Page[ModelRow]:
    """Return models by name; `kind` (single or ensemble) is that of the newest version."""
    raise NotImplementedError


def list_versions(session: Session, name: str, page: PageRequest) -> Page[VersionRow]:
    """Return a model's versions, the newest first; raise ModelNotFoundError."""
    raise NotImplementedError


def lineage(session: Session, version_id: str) -> Lineage:
    """Return the versions one step before and one step after."""
    raise NotImplementedError


def set_alias(session: Session, name: str, alias: str, version: int, *, if_match: str | None = None) -> VersionRow:
    """Point an alias at a version. `if_match`: the digest that it must point at now, else PreconditionFailedError."""
    raise NotImplementedError


def delete_alias(session: Session, name: str, alias: str, *, if_match: str | None = None) -> None:
    """Remove an alias; raise ModelNotFoundError or PreconditionFailedError."""
    raise NotImplementedError


def alias_history(session: Session, name: str, alias: str) -> list[AliasChange]:
    """Return where an alias pointed, the latest change first."""
    raise NotImplementedError


def set_tags(session: Session, version_id: str, tags: Mapping[str, str]) -> None:
    """Replace a version's tags."""
    raise NotImplementedError
