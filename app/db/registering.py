"""How versions come into the registry: made by a job, or taken over from an earlier job with the same recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from app.db import registry
from app.db.base import insert_missing, new_id, now
from app.db.events import NewEvent, write_events
from app.db.registry import VersionRow
from app.db.tables import Blob, Job, Model, ModelVersion, VersionLink, VersionTag
from app.domain.jobs import TOGETHER
from app.domain.models import Link, VersionManifest


@dataclass(frozen=True)
class NewVersion:
    """A version to register. Its files are in the store; `name` is the model's.

    A link's `version_id` may be `#0`, `#1`...: the version with that place in the same list.
    """

    name: str
    manifest: VersionManifest


def register(session: Session, job: Job, versions: Sequence[NewVersion]) -> tuple[str, ...]:
    """Insert a job's versions, the job's own last, with blobs, links, alias and tags; return their ids."""
    registry.begin_write(session)
    ids: list[str] = []
    for ordinal, version in enumerate(versions):
        # A job that trains several members has no version of its own: each is what a train job would make.
        own = ordinal == len(versions) - 1 and job.kind != TOGETHER
        recipe = job.recipe_digest if own else _recipe_of_by_product(version.manifest, job)
        ids.append(_insert_version(session, job, version, ordinal=ordinal, recipe_digest=recipe, made=ids))
    _label(session, job, ids[-1])
    return tuple(ids)


def take_over(session: Session, job: Job, twin: VersionRow) -> str:
    """End a queued job with the version that its recipe made before; return the id of its result.

    A child takes that version. A job of its own registers it under its name, unless the newest one there is equal.
    """
    result_id = twin.id if job.parent_id is not None else _adopt(session, job, twin)
    ended = update(Job).where(Job.id == job.id, Job.state == "queued", Job.token == job.token)
    ended = ended.values(state="succeeded", phase=None, result_version_id=result_id)
    ended = ended.values(reused_version_id=twin.id, finished_at=now())
    session.execute(ended.execution_options(synchronize_session=False))
    session.refresh(job)
    told = {"state": "succeeded", "reason": "reused", "version_id": result_id, "reused": f"{twin.name}/{twin.version}"}
    write_events(session, job.id, [NewEvent("state", told), NewEvent("done", told)], token=job.token)
    return result_id


def register_copy(session: Session, name: str, twin: VersionRow) -> str:
    """Register a version once more, under a name of the user's choice; return the new version's id.

    It has the same manifest and files. It is one more version of the job that made the first, after all others of it,
    and has no recipe: a job of the same recipe takes the first.
    """
    registry.begin_write(session)
    job = session.get_one(Job, twin.job_id)
    last = session.scalars(select(func.max(ModelVersion.ordinal)).where(ModelVersion.job_id == job.id)).one()
    copy = NewVersion(name, twin.manifest)
    return _insert_version(session, job, copy, ordinal=last + 1, recipe_digest=None, made=(), twin=twin)


def note_blobs(session: Session, manifest_files: Mapping[str, Any]) -> None:
    """Note that rows refer to these stored files."""
    files = {file.sha256: file.size_bytes for file in manifest_files.values()}
    rows = [{"sha256": sha256, "size_bytes": size, "created_at": now()} for sha256, size in sorted(files.items())]
    insert_missing(session, Blob, rows)


def _adopt(session: Session, job: Job, twin: VersionRow) -> str:
    registry.begin_write(session)
    newest = session.execute(
        select(ModelVersion.id, ModelVersion.digest)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(Model.name == job.name, ModelVersion.state.in_(registry.KNOWN_STATES))
        .order_by(ModelVersion.version.desc())
        .limit(1)
    ).one_or_none()
    equal = newest is not None and newest.digest == twin.digest
    result_id: str = newest.id if newest is not None and equal else _copy_all(session, job, twin)
    _label(session, job, result_id)
    return result_id


def _copy_all(session: Session, job: Job, twin: VersionRow) -> str:
    """Register the version under the job's name, of a search the whole front; return the id of the job's result."""
    made: list[str] = []
    # The same version may stand for a train job too, which is about that point alone.
    front = registry.versions_beside(session, twin) if job.kind == "search" else [twin]
    for ordinal, version in enumerate(front):
        own = version.id == twin.id
        recipe = job.recipe_digest if own else _recipe_of_by_product(version.manifest, job)
        copy = NewVersion(job.name, version.manifest)
        made.append(_insert_version(session, job, copy, ordinal=ordinal, recipe_digest=recipe, made=(), twin=version))
    return made[-1]


def _insert_version(
    session: Session,
    job: Job,
    new: NewVersion,
    *,
    ordinal: int,
    recipe_digest: str | None,
    made: Sequence[str],
    twin: VersionRow | None = None,
) -> str:
    note_blobs(session, new.manifest.files)
    model_id, number = _next_version(session, new.name)
    version = ModelVersion(
        id=new_id(),
        model_id=model_id,
        version=number,
        job_id=job.id,
        ordinal=ordinal,
        token=job.token,
        state="ready" if new.manifest.rejected is None else "rejected",
        kind=new.manifest.kind,
        method=new.manifest.method,
        digest=new.manifest.digest,
        recipe_digest=recipe_digest,
        dataset_digest=new.manifest.dataset_digest,
        manifest=new.manifest.model_dump(mode="json"),
    )
    session.add(version)
    session.flush()
    links = _resolved(new.manifest.links, made) if twin is None else _links_of(session, twin.id)
    if links:
        session.execute(insert(VersionLink).values([{"child_id": version.id, **link} for link in links]))
    return version.id


def _next_version(session: Session, name: str) -> tuple[str, int]:
    numbered = update(Model).where(Model.name == name).values(next_version=Model.next_version + 1, updated_at=now())
    numbered = numbered.values(deleted_at=None).execution_options(synchronize_session=False)
    found = session.execute(numbered.returning(Model.id, Model.next_version)).one_or_none()
    if found is not None:
        return found[0], found[1] - 1
    model_id = new_id()
    session.execute(insert(Model).values(id=model_id, name=name, next_version=2))
    return model_id, 1


def _resolved(links: Sequence[Link], made: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "parent_id": made[int(link.version_id[1:])] if link.version_id.startswith("#") else link.version_id,
            "role": link.role,
            "position": link.position,
            "weight": link.weight,
        }
        for link in links
    ]


def _links_of(session: Session, version_id: str) -> list[dict[str, Any]]:
    columns = (VersionLink.parent_id, VersionLink.role, VersionLink.position, VersionLink.weight)
    return [dict(row) for row in session.execute(select(*columns).where(VersionLink.child_id == version_id)).mappings()]


def _label(session: Session, job: Job, version_id: str) -> None:
    tags: dict[str, str] = job.spec.get("tags") or {}
    rows = [{"version_id": version_id, "key": key, "value": value} for key, value in tags.items()]
    insert_missing(session, VersionTag, rows)
    if alias := job.spec.get("alias"):
        _point_own_alias(session, job, alias, version_id)


def _point_own_alias(session: Session, job: Job, alias: str, version_id: str) -> None:
    """Let the job's alias name its version, unless that was rejected: the job then only says so."""
    version = session.get_one(ModelVersion, version_id)
    if version.state != "rejected":
        registry.point_alias(session, version.model_id, alias, version_id, job_id=job.id)
        return
    reason = VersionManifest.model_validate(version.manifest).rejected
    text = f"The alias {alias!r} was not moved, because the version was rejected: {reason}"
    write_events(session, job.id, [NewEvent("log", {"text": text})], token=job.token)


def _recipe_of_by_product(manifest: VersionManifest, job: Job) -> str | None:
    return None if manifest.recipe_digest == job.recipe_digest else manifest.recipe_digest
