"""What users say about models and versions: empty models, other names, tags, notes, and models that are given up."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from app.db import registry, retiring
from app.db.base import insert_missing, new_id, now
from app.db.tables import Model, ModelTag, ModelVersion, VersionNote, VersionTag
from app.domain.errors import AlreadyExistsError, ModelNotFoundError
from app.domain.names import Reference


class Notes(NamedTuple):
    """What is said about a new version; none of it is ever opened or followed."""

    description: str = ""
    source: str | None = None
    run_id: str = ""
    run_link: str = ""


def model_id_of(session: Session, name: str) -> str:
    """Return the id of a model, with or without versions; raise ModelNotFoundError."""
    found = session.scalar(select(Model.id).where(Model.name == name, Model.deleted_at.is_(None)))
    if found is None:
        raise ModelNotFoundError(f"There is no model {name[:80]!r}.", hint="`leanfuse models ls` lists the models.")
    return found


def create_model(session: Session, name: str, tags: Mapping[str, str], description: str) -> str:
    """Make a model without versions, or one that was deleted anew; raise AlreadyExistsError."""
    registry.begin_write(session)
    row = session.execute(select(Model.id, Model.deleted_at).where(Model.name == name)).one_or_none()
    if row is not None and row.deleted_at is None:
        raise AlreadyExistsError(f"There is a model {name!r} already.", hint="Choose another name, or add to that one.")
    if row is None:
        model_id = new_id()
        session.execute(insert(Model).values(id=model_id, name=name, description=description))
    else:
        model_id = row.id
        fresh = {"description": description, "created_at": now(), "updated_at": now(), "deleted_at": None}
        session.execute(update(Model).where(Model.id == model_id).values(fresh))
    for key, value in tags.items():
        session.add(ModelTag(model_id=model_id, key=key, value=value))
    session.flush()
    return model_id


def rename_model(session: Session, name: str, new_name: str) -> None:
    """Give a model another name; raise ModelNotFoundError or AlreadyExistsError. Every version counts as changed."""
    registry.begin_write(session)
    model_id = model_id_of(session, name)
    taken = session.execute(select(Model.deleted_at).where(Model.name == new_name)).one_or_none()
    if taken is not None:
        detail = "is taken" if taken.deleted_at is None else "belonged to a model that was deleted"
        raise AlreadyExistsError(f"The name {new_name!r} {detail}.", hint="Choose another name.")
    session.execute(update(Model).where(Model.id == model_id).values(name=new_name, updated_at=now()))
    versions = select(ModelVersion.id).where(ModelVersion.model_id == model_id)
    insert_missing(session, VersionNote, [_blank(version_id) for version_id in session.scalars(versions)])
    changed = update(VersionNote).where(VersionNote.version_id.in_(versions)).values(updated_at=now())
    session.execute(changed.execution_options(synchronize_session=False))


def describe_model(session: Session, name: str, description: str) -> None:
    """Replace a model's description, also where it has no versions; raise ModelNotFoundError."""
    registry.begin_write(session)
    changed = {"description": description, "updated_at": now()}
    session.execute(update(Model).where(Model.id == model_id_of(session, name)).values(changed))


def delete_model(session: Session, name: str) -> None:
    """Give up a model with all its versions; raise ModelNotFoundError, or StillReferencedError for one in use.

    Its name may be used again; the numbers of its versions are not.
    """
    registry.begin_write(session)
    model_id = model_id_of(session, name)
    known = ModelVersion.state.in_(registry.KNOWN_STATES)
    numbers = select(ModelVersion.version).where(ModelVersion.model_id == model_id, known)
    for number in session.scalars(numbers.order_by(ModelVersion.version.desc())).all():
        delete_version(session, name, number)
    session.execute(delete(ModelTag).where(ModelTag.model_id == model_id))
    session.execute(update(Model).where(Model.id == model_id).values(deleted_at=now(), description=""))


def delete_version(session: Session, name: str, version: int) -> None:
    """Take a version out of service together with its aliases.

    Raise ModelNotFoundError, or StillReferencedError while an ensemble or a job needs it.
    """
    registry.begin_write(session)
    for alias in registry.resolve(session, Reference(name, version)).aliases:
        registry.delete_alias(session, name, alias)
    retiring.delete_version(session, name, version)
    session.execute(update(Model).where(Model.name == name).values(updated_at=now()))


def set_model_tag(session: Session, name: str, key: str, value: str) -> None:
    """Set one tag of a model; raise ModelNotFoundError."""
    registry.begin_write(session)
    _set_tag(session, ModelTag, {"model_id": model_id_of(session, name), "key": key}, value)


def delete_model_tag(session: Session, name: str, key: str) -> None:
    """Remove one tag of a model, if it has it; raise ModelNotFoundError."""
    registry.begin_write(session)
    session.execute(delete(ModelTag).filter_by(model_id=model_id_of(session, name), key=key))


def set_version_tag(session: Session, version: Reference, key: str, value: str) -> None:
    """Set one tag of a version; raise ModelNotFoundError."""
    registry.begin_write(session)
    _set_tag(session, VersionTag, {"version_id": registry.resolve(session, version).id, "key": key}, value)


def delete_version_tag(session: Session, version: Reference, key: str) -> None:
    """Remove one tag of a version, if it has it; raise ModelNotFoundError."""
    registry.begin_write(session)
    session.execute(delete(VersionTag).filter_by(version_id=registry.resolve(session, version).id, key=key))


def note_version(session: Session, version_id: str, notes: Notes) -> None:
    """Note what is said about a version that was registered just now."""
    session.add(VersionNote(version_id=version_id, **notes._asdict()))
    session.flush()


def describe_version(session: Session, version: Reference, description: str) -> None:
    """Replace a version's description; raise ModelNotFoundError."""
    registry.begin_write(session)
    version_id = registry.resolve(session, version).id
    insert_missing(session, VersionNote, [_blank(version_id)])
    changed = {"description": description, "updated_at": now()}
    session.execute(update(VersionNote).where(VersionNote.version_id == version_id).values(changed))


def _blank(version_id: str) -> dict[str, Any]:
    return {"version_id": version_id, "description": "", "run_id": "", "run_link": "", "updated_at": now()}


def _set_tag(session: Session, table: type[ModelTag | VersionTag], place: dict[str, str], value: str) -> None:
    if not insert_missing(session, table, [{**place, "value": value}]):
        session.execute(update(table).filter_by(**place).values(value=value))
