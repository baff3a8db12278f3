"""Models, versions, aliases and tags. Every write raises the registry's revision in the same transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, ScalarSelect, Select, Text, cast, delete, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from app.db.base import now
from app.db.pages import Page, PageRequest, cut_page
from app.db.tables import (
    Alias,
    AliasChange,
    AliasRollout,
    Job,
    Model,
    ModelVersion,
    RegistryRevision,
    VersionLink,
    VersionTag,
)
from app.domain.errors import ModelNotFoundError, PreconditionFailedError, VersionRejectedError
from app.domain.jobs import TOGETHER
from app.domain.models import LinkRole, VersionManifest
from app.domain.names import Reference, parse_reference
from app.domain.rollouts import Mode

# What a name without a number may lead to, and what else can be asked for by number.
SERVED_STATES = ("ready", "deprecated")
KNOWN_STATES = (*SERVED_STATES, "rejected")
# More new versions than these are read all at once, rather than named one by one in a statement.
_MOST_ADDED = 500


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
    manifest_json: str = field(repr=False)
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @cached_property
    def manifest(self) -> VersionManifest:
        """Return what the version is; read when first asked for, as it takes ten times the room of its JSON."""
        return VersionManifest.model_validate_json(self.manifest_json)


@dataclass(frozen=True)
class ModelRow:
    """A model with its newest version and its aliases (version numbers by alias)."""

    id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    newest: VersionRow
    aliases: Mapping[str, int]


@dataclass(frozen=True)
class LinkRow:
    """One step of a lineage: the other version, and what the older is to the younger."""

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
class OpenRollout:
    """A rollout that decides about requests now."""

    id: str
    version_id: str
    mode: Mode
    percent: int


@dataclass(frozen=True)
class Snapshot:
    """All versions that can be asked, every alias, and the rollouts that are open.

    `aliases[model name][alias]` is a version number, `rollouts[model name, alias]` what is rolled out there.
    """

    revision: int
    versions: Sequence[VersionRow]
    aliases: Mapping[str, Mapping[str, int]]
    rollouts: Mapping[tuple[str, str], OpenRollout]


def revision(session: Session) -> int:
    """Return the number of registry writes so far; equal numbers mean an unchanged registry."""
    return session.execute(select(RegistryRevision.revision)).scalar_one()


def begin_write(session: Session) -> None:
    """Raise the revision. It also makes registry writers wait for each other, so that none can lock another out."""
    session.execute(update(RegistryRevision).values(revision=RegistryRevision.revision + 1))


def snapshot(session: Session, *, before: Snapshot | None = None) -> Snapshot:
    """Return the whole registry, for a view that serves from memory.

    Of what the snapshot `before` holds only states, aliases and tags are read again: nothing else of a version changes.
    """
    # The revision is read first: a write in between makes the view reload once more, never miss it.
    number = revision(session)
    versions = _all_rows(session) if before is None else _changed_rows(session, before)
    aliases: dict[str, dict[str, int]] = defaultdict(dict)
    for row in versions:
        for alias in row.aliases:
            aliases[row.name][alias] = row.version
    return Snapshot(number, versions, aliases, _open_rollouts(session))


def _open_rollouts(session: Session) -> dict[tuple[str, str], OpenRollout]:
    chosen = select(AliasRollout, Model.name).join(Model, Model.id == AliasRollout.model_id)
    return {
        (name, row.alias): OpenRollout(row.id, row.version_id, row.mode, row.percent)
        for row, name in session.execute(chosen.where(AliasRollout.ended_at.is_(None)))
    }


def end_rollout(session: Session, model_id: str, alias: str, outcome: str) -> bool:
    """End what is rolled out at an alias, inside a registry write; tell whether there was anything."""
    open_now = (AliasRollout.model_id == model_id, AliasRollout.alias == alias, AliasRollout.ended_at.is_(None))
    ending = update(AliasRollout).where(*open_now).values(ended_at=now(), outcome=outcome)
    return session.execute(ending.returning(AliasRollout.id)).first() is not None


def _all_rows(session: Session) -> list[VersionRow]:
    return _rows(session, _versions().order_by(Model.name, ModelVersion.version))


def _changed_rows(session: Session, before: Snapshot) -> list[VersionRow]:
    states = dict(session.execute(_states()).all())
    known = {row.id: row for row in before.versions if row.id in states}
    added = [version_id for version_id in states if version_id not in known]
    if len(added) > _MOST_ADDED:
        return _all_rows(session)
    aliases, tags = _labels(session)
    rows = [_relabelled(row, states[row.id], aliases, tags) for row in known.values()]
    if added:
        rows += versions_by_id(session, added).values()
        rows.sort(key=lambda row: (row.name, row.version))
    return rows


def _relabelled(
    row: VersionRow, state: str, aliases: Mapping[str, list[str]], tags: Mapping[str, dict[str, str]]
) -> VersionRow:
    """Return the row as it is now: the same object where nothing changed, so that what it has read stays read."""
    now_aliases, now_tags = tuple(aliases.get(row.id, ())), tags.get(row.id, {})
    if (row.state, row.aliases, row.tags) == (state, now_aliases, now_tags):
        return row
    return replace(row, state=state, aliases=now_aliases, tags=now_tags)


def resolve(session: Session, reference: str | Reference) -> VersionRow:
    """Return the version that `name`, `name/3` or `name@alias` names.

    A name alone names its newest version that was not rejected; raise VersionRejectedError when it has no other, and
    ModelNotFoundError for what does not exist.
    """
    wanted = parse_reference(reference) if isinstance(reference, str) else reference
    rows = _named(session, wanted, KNOWN_STATES)
    is_exact = wanted.version is not None or wanted.alias is not None
    served = [row for row in rows if is_exact or row.state in SERVED_STATES]
    if served:
        return served[0]
    if rows:
        raise only_rejected(rows)
    raise ModelNotFoundError(f"There is no model {str(wanted)!r}.", hint="`leanfuse models ls` lists the models.")


def find_in_any_state(session: Session, reference: Reference) -> VersionRow | None:
    """Return the version that a reference with a number or an alias names, even one that was deleted or damaged."""
    return next(iter(_named(session, reference, None)), None)


def only_rejected(rows: Sequence[VersionRow]) -> VersionRejectedError:
    """Return the error that names a model's rejected versions, the newest first, when it has no others."""
    told = " ".join(f"{row.name}/{row.version}: {row.manifest.rejected}" for row in rows[:5])
    newest = f"{rows[0].name}/{rows[0].version}"
    return VersionRejectedError(
        f"Every version of {rows[0].name!r} was rejected. {told}",
        hint=f"Name one by its number, `{newest}`, or point an alias at it with `force`.",
    )


def versions_by_id(session: Session, ids: Sequence[str]) -> dict[str, VersionRow]:
    """Return versions by id, in three queries whatever their number."""
    chosen = _versions(None).where(ModelVersion.id.in_(ids))
    return {row.id: row for row in (_rows(session, chosen) if ids else ())}


def specs_by_version(session: Session, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return, by version id, the spec of the job that registered it."""
    chosen = select(ModelVersion.id, Job.spec).join(Job, Job.id == ModelVersion.job_id).where(ModelVersion.id.in_(ids))
    return {row[0]: row[1] for row in session.execute(chosen)}


def find_by_recipe(session: Session, recipe_digest: str) -> VersionRow | None:
    """Return the newest version that this recipe made, ready or rejected."""
    return find_by_recipes(session, [recipe_digest]).get(recipe_digest)


def find_by_recipes(session: Session, recipe_digests: Sequence[str]) -> dict[str, VersionRow]:
    """Return, by recipe, the newest version that it made, ready or rejected: doing it again would end the same.

    Of a job that trained several members together it is the last of them.
    """
    if not recipe_digests:
        return {}
    chosen = _versions(("ready", "rejected")).where(ModelVersion.recipe_digest.in_(recipe_digests))
    rows = _rows(session, chosen.order_by(ModelVersion.id))
    found = {row.recipe_digest: row for row in rows if row.recipe_digest is not None}
    return {**_made_together(session, recipe_digests), **found}


def _made_together(session: Session, recipe_digests: Sequence[str]) -> dict[str, VersionRow]:
    succeeded = select(Job.recipe_digest, Job.result_version_id).where(
        Job.kind == TOGETHER, Job.state == "succeeded", Job.recipe_digest.in_(recipe_digests)
    )
    results = {version_id: digest for digest, version_id in session.execute(succeeded.order_by(Job.id))}
    versions = versions_by_id(session, [version_id for version_id in results if version_id])
    return {results[row.id]: row for row in versions.values() if row.state in ("ready", "rejected")}


def versions_beside(session: Session, row: VersionRow) -> list[VersionRow]:
    """Return what a version's job registered under the same name, in order, up to the version itself."""
    chosen = _versions().where(ModelVersion.job_id == row.job_id, Model.name == row.name)
    chosen = chosen.where(ModelVersion.version <= row.version)
    return _rows(session, chosen.order_by(ModelVersion.ordinal))


def get_model(session: Session, name: str) -> ModelRow:
    """Return a model; raise ModelNotFoundError."""
    models = _model_rows(session, _newest_versions().where(Model.name == name))
    if not models:
        raise ModelNotFoundError(f"There is no model {name[:80]!r}.", hint="`leanfuse models ls` lists the models.")
    return models[0]


def list_models(
    session: Session, page: PageRequest, *, kind: Literal["single", "ensemble"] | None = None
) -> Page[ModelRow]:
    """Return models by name; `kind` is that of the newest version."""
    chosen = _newest_versions().order_by(Model.name).limit(page.size + 1)
    if kind is not None:
        chosen = chosen.where(ModelVersion.kind == kind)
    if page.after is not None:
        chosen = chosen.where(Model.name > page.after)
    return cut_page(_model_rows(session, chosen), page, lambda model: model.name)


def list_versions(session: Session, name: str, page: PageRequest) -> Page[VersionRow]:
    """Return a model's versions, the newest first; raise ModelNotFoundError."""
    chosen = _versions().where(Model.name == name).order_by(ModelVersion.version.desc()).limit(page.size + 1)
    if page.after is not None:
        chosen = chosen.where(ModelVersion.version < int(page.after))
    rows = _rows(session, chosen)
    if not rows and page.after is None:
        raise ModelNotFoundError(f"There is no model {name[:80]!r}.", hint="`leanfuse models ls` lists the models.")
    return cut_page(rows, page, lambda row: str(row.version))


def lineage(session: Session, version_id: str) -> Lineage:
    """Return the versions one step before and one step after."""
    made_from = _links(session, VersionLink.parent_id, VersionLink.child_id == version_id)
    return Lineage(made_from, _links(session, VersionLink.child_id, VersionLink.parent_id == version_id))


def set_alias(
    session: Session, name: str, alias: str, version: int, *, if_match: str | None = None, force: bool = False
) -> VersionRow:
    """Point an alias at a version. `if_match`: the digest that it must point at now, else PreconditionFailedError.

    Raise VersionRejectedError for a rejected version, unless forced.
    """
    begin_write(session)
    target = resolve(session, Reference(name, version))
    check_not_rejected(target, force=force)
    model_id = session.execute(select(Model.id).where(Model.name == name)).scalar_one()
    _check_match(_current_version(session, model_id, alias), if_match)
    point_alias(session, model_id, alias, target.id)
    return resolve(session, Reference(name, version))


def check_not_rejected(row: VersionRow, *, force: bool) -> None:
    """Raise VersionRejectedError, with the reason, unless forced."""
    if row.state == "rejected" and not force:
        raise VersionRejectedError(
            f"{row.name}/{row.version} was rejected: {row.manifest.rejected}",
            hint='Choose another version, or send `"force": true` to promote it all the same.',
        )


def check_match(present: VersionRow, if_match: str | None) -> None:
    """Raise PreconditionFailedError unless an alias' present version has the digest `if_match`, or none is given."""
    _check_match((present.id, present.digest), if_match)


def delete_alias(session: Session, name: str, alias: str, *, if_match: str | None = None) -> None:
    """Remove an alias; raise ModelNotFoundError or PreconditionFailedError."""
    begin_write(session)
    model_id = get_model(session, name).id
    current = _current_version(session, model_id, alias)
    if current is None:
        raise ModelNotFoundError(f"The model {name!r} has no alias {alias[:80]!r}.")
    _check_match(current, if_match)
    end_rollout(session, model_id, alias, "replaced")
    session.execute(delete(Alias).where(Alias.model_id == model_id, Alias.alias == alias))
    session.add(AliasChange(model_id=model_id, alias=alias, previous_version_id=current[0]))
    session.flush()


def point_alias(session: Session, model_id: str, alias: str, version_id: str, *, job_id: str | None = None) -> None:
    """Move an alias and note it in its history, inside a registry write; nothing happens when it points there."""
    current = _current_version(session, model_id, alias)
    if current is not None and current[0] == version_id:
        return
    if current is None:
        session.execute(insert(Alias).values(model_id=model_id, alias=alias, version_id=version_id))
    else:
        moved = update(Alias).where(Alias.model_id == model_id, Alias.alias == alias)
        session.execute(moved.values(version_id=version_id, updated_at=now()))
    # What was tried against the former version says nothing about this one.
    end_rollout(session, model_id, alias, "replaced")
    previous = current[0] if current else None
    change = AliasChange(
        model_id=model_id, alias=alias, version_id=version_id, previous_version_id=previous, job_id=job_id
    )
    session.add(change)
    session.flush()


def alias_history(session: Session, name: str, alias: str) -> list[AliasChange]:
    """Return where an alias pointed, the latest change first."""
    chosen = select(AliasChange).join(Model, Model.id == AliasChange.model_id).where(Model.name == name)
    return list(session.scalars(chosen.where(AliasChange.alias == alias).order_by(AliasChange.id.desc())))


def set_tags(session: Session, version_id: str, tags: Mapping[str, str]) -> None:
    """Replace a version's tags."""
    begin_write(session)
    session.execute(delete(VersionTag).where(VersionTag.version_id == version_id))
    if tags:
        rows = [{"version_id": version_id, "key": key, "value": value} for key, value in tags.items()]
        session.execute(insert(VersionTag).values(rows))


# In the order of VersionRow's fields.
_COLUMNS = (
    ModelVersion.id,
    Model.name,
    ModelVersion.version,
    ModelVersion.state,
    ModelVersion.digest,
    ModelVersion.recipe_digest,
    ModelVersion.job_id,
    ModelVersion.created_at,
    cast(ModelVersion.manifest, Text),
)


def _states() -> Select[str, str]:
    return select(ModelVersion.id, ModelVersion.state).where(ModelVersion.state.in_(KNOWN_STATES))


def _versions(states: Sequence[str] | None = KNOWN_STATES) -> Select[ModelVersion, Model]:
    chosen = select(ModelVersion, Model).join(Model, Model.id == ModelVersion.model_id)
    return chosen if states is None else chosen.where(ModelVersion.state.in_(states))


def _named(session: Session, wanted: Reference, states: Sequence[str] | None) -> list[VersionRow]:
    """Return the version that a number or alias names; for a name alone the one that it leads to, or the rejected."""
    chosen = _versions(states).where(Model.name == wanted.name).order_by(ModelVersion.version.desc())
    if wanted.version is not None:
        chosen = chosen.where(ModelVersion.version == wanted.version)
    elif wanted.alias is not None:
        chosen = chosen.join(Alias, Alias.version_id == ModelVersion.id).where(Alias.alias == wanted.alias)
    else:
        newest = _rows(session, _newest_versions().where(Model.name == wanted.name))
        return newest if [row for row in newest if row.state in SERVED_STATES] else _rows(session, chosen)
    return _rows(session, chosen.limit(1))


def _newest_versions() -> Select[ModelVersion, Model]:
    """Choose every model's newest version: the newest that serves, or the newest of one with rejected ones alone."""
    return _versions().where(ModelVersion.version == newest_number())


def newest_number() -> ColumnElement[int]:
    """Return, of the model of a query's row, the newest version's number: of those that serve, else of all."""
    return func.coalesce(_highest_number(SERVED_STATES), _highest_number(KNOWN_STATES))


def _highest_number(states: Sequence[str]) -> ScalarSelect[Any]:
    other = aliased(ModelVersion)
    numbers = select(func.max(other.version)).where(other.model_id == Model.id, other.state.in_(states))
    return numbers.correlate(Model).scalar_subquery()


def _rows(session: Session, chosen: Select[ModelVersion, Model]) -> list[VersionRow]:
    # Columns, not entities: a large registry is read three times as fast, and the manifest stays text until it is used.
    found = session.execute(chosen.with_only_columns(*_COLUMNS)).all()
    ids = chosen.with_only_columns(ModelVersion.id).correlate(None)
    aliases, tags = _labels(session, ids) if found else ({}, {})
    return [
        VersionRow(*columns, aliases=tuple(aliases.get(columns[0], ())), tags=tags.get(columns[0], {}))
        for columns in found
    ]


def _labels(
    session: Session, ids: Select[str] | None = None
) -> tuple[Mapping[str, list[str]], Mapping[str, dict[str, str]]]:
    """Return the aliases and the tags of versions, or of all, by version id, each in the order of the alphabet."""
    aliases: dict[str, list[str]] = defaultdict(list)
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    pointing = select(Alias.version_id, Alias.alias).order_by(Alias.alias)
    labelled = select(VersionTag.version_id, VersionTag.key, VersionTag.value).order_by(VersionTag.key)
    if ids is not None:
        pointing, labelled = pointing.where(Alias.version_id.in_(ids)), labelled.where(VersionTag.version_id.in_(ids))
    for version_id, alias in session.execute(pointing):
        aliases[version_id].append(alias)
    for version_id, key, value in session.execute(labelled):
        tags[version_id][key] = value
    return aliases, tags


def _model_rows(session: Session, chosen: Select[ModelVersion, Model]) -> list[ModelRow]:
    newest = {row.name: row for row in _rows(session, chosen)}
    models = session.scalars(select(Model).where(Model.name.in_(newest)).order_by(Model.name)).all() if newest else ()
    aliases: dict[str, dict[str, int]] = defaultdict(dict)
    pointing = select(Alias.model_id, Alias.alias, ModelVersion.version)
    pointing = pointing.join(ModelVersion, ModelVersion.id == Alias.version_id).order_by(Alias.alias)
    for model_id, alias, version in session.execute(pointing.where(Alias.model_id.in_([model.id for model in models]))):
        aliases[model_id][alias] = version
    return [
        ModelRow(
            id=model.id,
            name=model.name,
            description=model.description,
            created_at=model.created_at,
            updated_at=model.updated_at,
            newest=newest[model.name],
            aliases=aliases[model.id],
        )
        for model in models
    ]


def _links(session: Session, other_end: Any, condition: Any) -> list[LinkRow]:  # noqa: ANN401 - SQL expressions
    chosen = select(VersionLink, ModelVersion, Model.name).where(condition)
    chosen = chosen.join(ModelVersion, ModelVersion.id == other_end).join(Model, Model.id == ModelVersion.model_id)
    found = session.execute(chosen.order_by(VersionLink.role, VersionLink.position, ModelVersion.id))
    return [
        LinkRow(link.role, link.position, link.weight, version.id, name, version.version)
        for link, version, name in found
    ]


def _current_version(session: Session, model_id: str, alias: str) -> tuple[str, str] | None:
    chosen = select(ModelVersion.id, ModelVersion.digest).join(Alias, Alias.version_id == ModelVersion.id)
    found = session.execute(chosen.where(Alias.model_id == model_id, Alias.alias == alias)).one_or_none()
    return None if found is None else (found[0], found[1])


def _check_match(current: tuple[str, str] | None, if_match: str | None) -> None:
    if if_match is not None and (current is None or current[1] != if_match):
        detail = "The alias points nowhere." if current is None else f"The alias points at {current[1]}."
        raise PreconditionFailedError(detail, hint="Read the alias again and repeat with its present digest.")
