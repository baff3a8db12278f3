"""The registry as MLflow's clients see it: registered models and model versions, searched by filters."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, String, cast, func, literal, or_, select
from sqlalchemy.orm import Session

from app.db import registry
from app.db.base import Instant
from app.db.pages import Page
from app.db.tables import Alias, Model, ModelTag, ModelVersion, VersionNote, VersionTag
from app.domain.errors import ModelNotFoundError

SOURCE_PREFIX = "mlflow-artifacts:/"
# What MLflow's clients exclude from every search of models; rows without the tag are no prompts.
PROMPT_TAG = "mlflow.prompt.is_prompt"
Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE", "IN", "NOT IN"]


class Condition(NamedTuple):
    """One condition of a filter: on a tag, or on the attribute `key`."""

    on_tag: bool
    key: str
    operator: Operator
    value: str | int | tuple[str, ...]


class Order(NamedTuple):
    """One term of an order."""

    key: str
    descending: bool = False


@dataclass(frozen=True)
class VersionEntry:
    """A version without its manifest, with what users say about it."""

    id: str
    name: str
    version: int
    state: str
    rejected: str | None
    created_at: datetime
    updated_at: datetime
    description: str
    source: str
    run_id: str
    run_link: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ModelEntry:
    """A model, also one without versions, with its newest version and its aliases (numbers by alias)."""

    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    newest: VersionEntry | None = None


_updated_at: ColumnElement[datetime] = func.coalesce(VersionNote.updated_at, ModelVersion.created_at, type_=Instant())
_own_source = literal(SOURCE_PREFIX).concat(Model.name).concat("/").concat(cast(ModelVersion.version, String))
_source: ColumnElement[str] = func.coalesce(VersionNote.source, _own_source)
_run_id: ColumnElement[str] = func.coalesce(VersionNote.run_id, "")
_MODEL_COLUMNS: Mapping[str, SQLColumnExpression[Any]] = {
    "name": Model.name,
    "creation_timestamp": Model.created_at,
    "last_updated_timestamp": Model.updated_at,
}
_VERSION_COLUMNS: Mapping[str, SQLColumnExpression[Any]] = {
    "name": Model.name,
    "version_number": ModelVersion.version,
    "run_id": _run_id,
    "source_path": _source,
    "creation_timestamp": ModelVersion.created_at,
    "last_updated_timestamp": _updated_at,
}
# A database takes no more than some ten thousand values of one statement.
_MOST_LISTED = 1000


def get_model(session: Session, name: str) -> ModelEntry:
    """Return a model, also one without versions; raise ModelNotFoundError."""
    found = _model_entries(session, _models().where(Model.name == name))
    if not found:
        raise ModelNotFoundError(f"There is no registered model {name[:80]!r}.")
    return found[0]


def get_version(session: Session, name: str, version: int) -> VersionEntry:
    """Return a version; raise ModelNotFoundError."""
    found = _entries(session, _versions().where(Model.name == name, ModelVersion.version == version))
    if not found:
        raise ModelNotFoundError(f"There is no version {version} of a registered model {name[:80]!r}.")
    return found[0]


def search_models(
    session: Session, conditions: Sequence[Condition], order: Sequence[Order], *, size: int, after: int
) -> Page[ModelEntry]:
    """Return the models that meet all conditions, by name unless ordered otherwise, after so many of them."""
    chosen = _models()
    for condition in conditions:
        chosen = chosen.where(_meets(session, condition, _MODEL_COLUMNS, ModelTag))
    chosen = chosen.order_by(*_ordered(order, _MODEL_COLUMNS), Model.name)
    return _cut(_model_entries(session, chosen.limit(size + 1).offset(after)), size, after)


def search_versions(
    session: Session, conditions: Sequence[Condition], order: Sequence[Order], *, size: int, after: int
) -> Page[VersionEntry]:
    """Return the versions that meet all conditions, the latest changed first unless ordered otherwise."""
    chosen = _versions()
    for condition in conditions:
        chosen = chosen.where(_meets(session, condition, _VERSION_COLUMNS, VersionTag))
    terms = order or [Order("last_updated_timestamp", descending=True)]
    chosen = chosen.order_by(*_ordered(terms, _VERSION_COLUMNS), Model.name, ModelVersion.version.desc())
    return _cut(_entries(session, chosen.limit(size + 1).offset(after)), size, after)


def _cut(rows: Sequence[Any], size: int, after: int) -> Page[Any]:
    return Page(rows[:size], str(after + size) if len(rows) > size else None)


# Writing these statements anew would take longer than the database does.
@cache
def _models() -> Select[Any]:
    return select(Model).where(Model.deleted_at.is_(None))


@cache
def _versions() -> Select[Any]:
    chosen = select(
        ModelVersion.id,
        Model.name,
        ModelVersion.version,
        ModelVersion.state,
        ModelVersion.manifest["rejected"].as_string().label("rejected"),
        ModelVersion.created_at,
        _updated_at.label("updated_at"),
        func.coalesce(VersionNote.description, "").label("description"),
        _source.label("source"),
        _run_id.label("run_id"),
        func.coalesce(VersionNote.run_link, "").label("run_link"),
    )
    chosen = chosen.select_from(ModelVersion).join(Model, Model.id == ModelVersion.model_id)
    chosen = chosen.outerjoin(VersionNote, VersionNote.version_id == ModelVersion.id)
    return chosen.where(ModelVersion.state.in_(registry.KNOWN_STATES))


@cache
def _newest_versions() -> Select[Any]:
    return _versions().where(ModelVersion.version == registry.newest_number())


def _entries(session: Session, chosen: Select[Any]) -> list[VersionEntry]:
    found = session.execute(chosen).mappings().all()
    if not found:
        return []
    ids: Any = [row["id"] for row in found]
    if len(ids) > _MOST_LISTED:
        ids = chosen.with_only_columns(ModelVersion.id).correlate(None)
    aliases: dict[str, list[str]] = defaultdict(list)
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for alias in session.scalars(select(Alias).where(Alias.version_id.in_(ids)).order_by(Alias.alias)):
        aliases[alias.version_id].append(alias.alias)
    for tag in session.scalars(select(VersionTag).where(VersionTag.version_id.in_(ids)).order_by(VersionTag.key)):
        tags[tag.version_id][tag.key] = tag.value
    return [VersionEntry(**row, aliases=tuple(aliases[row["id"]]), tags=tags[row["id"]]) for row in found]


def _model_entries(session: Session, chosen: Select[Any]) -> list[ModelEntry]:
    models = session.scalars(chosen).all()
    if not models:
        return []
    ids = [model.id for model in models]
    newest = {entry.name: entry for entry in _entries(session, _newest_versions().where(Model.id.in_(ids)))}
    aliases, tags = _aliases_of(session, ids), _tags_of(session, ids)
    return [
        ModelEntry(
            name=model.name,
            description=model.description,
            created_at=model.created_at,
            updated_at=model.updated_at,
            tags=tags[model.id],
            aliases=aliases[model.id],
            newest=newest.get(model.name),
        )
        for model in models
    ]


def _aliases_of(session: Session, model_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    pointing = select(Alias.model_id, Alias.alias, ModelVersion.version)
    pointing = pointing.join(ModelVersion, ModelVersion.id == Alias.version_id).order_by(Alias.alias)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for model_id, alias, version in session.execute(pointing.where(Alias.model_id.in_(model_ids))):
        found[model_id][alias] = version
    return found


def _tags_of(session: Session, model_ids: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for tag in session.scalars(select(ModelTag).where(ModelTag.model_id.in_(model_ids)).order_by(ModelTag.key)):
        found[tag.model_id][tag.key] = tag.value
    return found


def _ordered(order: Sequence[Order], columns: Mapping[str, SQLColumnExpression[Any]]) -> list[ColumnElement[Any]]:
    return [columns[term.key].desc() if term.descending else columns[term.key].asc() for term in order]


def _meets(
    session: Session,
    condition: Condition,
    columns: Mapping[str, SQLColumnExpression[Any]],
    tags: type[ModelTag | VersionTag],
) -> ColumnElement[bool]:
    if not condition.on_tag:
        return _compared(session, columns[condition.key], condition)
    owned = ModelTag.model_id == Model.id if tags is ModelTag else VersionTag.version_id == ModelVersion.id
    tagged = select(literal(1)).where(owned, tags.key == condition.key)
    met = tagged.where(_compared(session, tags.value, condition)).exists()
    says_no_prompt = condition[1:] in ((PROMPT_TAG, "!=", "true"), (PROMPT_TAG, "=", "false"))
    return or_(met, ~tagged.exists()) if says_no_prompt else met


def _compared(session: Session, column: SQLColumnExpression[Any], condition: Condition) -> ColumnElement[bool]:
    value: Any = condition.value
    match condition.operator:
        case "IN":
            return column.in_(value)
        case "NOT IN":
            return column.not_in(value)
        case "LIKE":
            return _like(session, column, value)
        case "ILIKE":
            return column.ilike(_literal_backslashes(value), escape="\\")
        case operator:
            return column.bool_op(operator)(value)


def _like(session: Session, column: SQLColumnExpression[Any], pattern: str) -> ColumnElement[bool]:
    """Compare with regard to case; SQLite does that by GLOB alone."""
    if session.get_bind().dialect.name == "postgresql":
        return column.like(_literal_backslashes(pattern), escape="\\")
    wild = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return column.bool_op("GLOB")("".join(wild.get(letter, letter) for letter in pattern))


def _literal_backslashes(pattern: str) -> str:
    return pattern.replace("\\", "\\\\")
