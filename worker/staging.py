"""Files of one attempt: what the trainer may read is laid out for it, what it made is checked and kept."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from app.db.attempts import ClaimedJob, SavedState
from app.db.datasets import dataset_by_id, get_dataset
from app.db.jobs import get_job
from app.db.registering import NewVersion
from app.db.registry import VersionRow, resolve, versions_by_id
from app.db.session import Sessions, reading
from app.domain.datasets import DatasetManifest, FileRef, canonical_json, digest_of
from app.domain.ensemble_specs import RegisteredMember, Serial, Snapshot, Soup
from app.domain.errors import ArtifactCorruptedError, InvalidInputError, JobError, LeanfuseError
from app.domain.job_errors import BrokenProductError, DependencyFailedError
from app.domain.models import TRAIN_SPEC, VersionManifest
from app.domain.optimize_specs import Distill
from app.domain.specs import (
    ImportSpec,
    OptimizeSpec,
    SearchSpec,
    TrainSpec,
    TrainTogetherSpec,
    WorkSpec,
    work_spec_adapter,
)
from app.domain.transfer import unlabelled_of
from app.logging import get_logger
from app.settings import Settings
from app.store import hold
from app.store.base import Store
from worker.assignment import Assignment, DatasetInput, LeftOut, Limits, ReferenceRole, VersionInput
from worker.messages import MANIFEST_NAME, ProductRef

log = get_logger(__name__)


class DirectoryManifest(BaseModel):
    """Name every file of a checkpoint by its relative path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, FileRef]


@dataclass(frozen=True)
class Source:
    """A registered version and the spec of the job that made it."""

    row: VersionRow
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Sources:
    """What the database says about a job's inputs."""

    dataset: str
    manifest: DatasetManifest
    references: dict[ReferenceRole, tuple[Source, ...]]
    left_out: tuple[LeftOut, ...] = ()
    unlabelled: tuple[str, DatasetManifest] | None = None


def find_sources(sessions: Sessions, job: ClaimedJob) -> Sources:
    """Look up the job's data set and every version that its spec names or that its dependencies made."""
    spec = _spec_of(job)
    with reading(sessions) as session:
        dataset = dataset_by_id(session, job.dataset_id)
        return Sources(
            dataset=dataset.name,
            manifest=DatasetManifest.model_validate(dataset.manifest),
            references=_references(session, spec, job),
            left_out=left_out(job),
            unlabelled=_unlabelled(session, spec),
        )


def lay_out(job: ClaimedJob, sources: Sources, *, directory: Path, store: Store, settings: Settings) -> Path:
    """Fetch what the trainer may read, make its directories and return the path of its assignment."""
    for name in ("scratch", "output", "checkpoints"):
        (directory / name).mkdir(mode=0o700, parents=True)
    store = hold(store, directory / "inputs")
    spec = _spec_of(job)
    assignment = Assignment(
        job_id=job.lease.job_id,
        token=job.lease.token,
        spec=spec,
        recipe_digest=job.recipe_digest,
        dataset=dataset_input(sources.dataset, sources.manifest, store),
        unlabelled=dataset_input(*sources.unlabelled, store) if sources.unlabelled else None,
        file=store.fetch(spec.file.sha256) if isinstance(spec, ImportSpec) else None,
        references={
            role: tuple(version_input(source, store) for source in found) for role, found in sources.references.items()
        },
        left_out=sources.left_out,
        seed=spec.seed,
        scratch=directory / "scratch",
        output=directory / "output",
        checkpoint=_restore(job.checkpoints, directory / "resume", store),
        limits=Limits(
            checkpoint_seconds=settings.timing.checkpoint_seconds,
            parameters=settings.limits.parameters,
            threads=settings.worker.threads_of_a_slot,
        ),
    )
    path = directory / "assignment.json"
    path.write_text(assignment.model_dump_json())
    return path


def keep_checkpoint(path: Path, *, directory: Path, store: Store) -> tuple[dict[str, Any], str]:
    """Verify a checkpoint and put its files into the store; return its manifest and the manifest's digest."""
    path = _within(path, directory / "checkpoints")
    manifest = DirectoryManifest.model_validate_json((path / MANIFEST_NAME).read_bytes())
    for name, reference in manifest.files.items():
        _keep(path, name, reference, store)
    content = manifest.model_dump(mode="json")
    return content, digest_of(content)


def keep_product(product: ProductRef, *, directory: Path, store: Store) -> NewVersion:
    """Verify a product's files against its manifest and put them, and the manifest, into the store."""
    path = _within(product.path, directory / "output")
    manifest = VersionManifest.model_validate_json((path / MANIFEST_NAME).read_bytes())
    for name, reference in manifest.files.items():
        _keep(path, name, reference, store)
    store.put(path / MANIFEST_NAME)
    return NewVersion(product.name, manifest)


def keep_file(path: Path, reference: FileRef, *, directory: Path, store: Store) -> None:
    """Verify a file against what it is said to hold and put it into the store."""
    output = directory / "output"
    _keep(output, str(_within(path, output).relative_to(output.resolve())), reference, store)


def _spec_of(job: ClaimedJob) -> WorkSpec:
    # Strict models take a list for a tuple only when it comes as JSON.
    return work_spec_adapter.validate_json(canonical_json(job.spec))


def left_out(job: ClaimedJob) -> tuple[LeftOut, ...]:
    """Return the members that an ensemble has to do without; raise DependencyFailedError when too few are left."""
    failed = [item for item in job.dependencies if item.state != "succeeded"]
    least = job.min_dependencies
    if failed and (least is None or len(job.dependencies) - len(failed) < least):
        raise DependencyFailedError(f"{len(failed)} of the {len(job.dependencies)} members could not be trained.")
    reasons = [(item.error or {}).get("detail") or item.state for item in failed]
    return tuple(
        LeftOut(position=item.position, name=item.name, reason=reason)
        for item, reason in zip(failed, reasons, strict=True)
    )


def _references(session: Session, spec: WorkSpec, job: ClaimedJob) -> dict[ReferenceRole, tuple[Source, ...]]:
    made = versions_by_id(session, [dependency.version_id for dependency in job.dependencies])
    by_position = {item.position: made[item.version_id] for item in job.dependencies if item.version_id in made}
    return {
        role: tuple(_source(session, row) for row in rows)
        for role, rows in _rows_by_role(session, spec, by_position).items()
    }


def _rows_by_role(
    session: Session, spec: WorkSpec, made: dict[int, VersionRow]
) -> dict[ReferenceRole, list[VersionRow]]:
    if isinstance(spec, TrainSpec | TrainTogetherSpec | SearchSpec | ImportSpec):
        return {}
    if isinstance(spec, OptimizeSpec):
        if isinstance(spec.method, Distill):
            teacher = resolve(session, spec.method.teacher)
            return {"teacher": [teacher], **_members_to_retrain(session, spec.method, teacher)}
        return {"parent": [resolve(session, spec.method.parent)]} if spec.method.parent else {}
    method = spec.method
    if isinstance(method, Serial | Snapshot):
        return {}  # its members are trained one after another, inside the job
    found: dict[ReferenceRole, list[VersionRow]] = {
        "members": [
            resolve(session, member.model) if isinstance(member, RegisteredMember) else made[position]
            for position, member in enumerate(method.members)
            if isinstance(member, RegisteredMember) or position in made
        ]
    }
    if isinstance(method, Soup):
        found["parent"] = [resolve(session, method.ancestor)]
    return found


def _members_to_retrain(
    session: Session, method: Distill, teacher: VersionRow
) -> dict[ReferenceRole, list[VersionRow]]:
    """Return the members of an ensemble that is to be trained again without each fold: their recipes are needed."""
    if method.transfer.labels == "teacher" or teacher.manifest.kind != "ensemble":
        return {}
    links = sorted((link for link in teacher.manifest.links if link.role == "member"), key=lambda link: link.position)
    found = versions_by_id(session, [link.version_id for link in links])
    return {"members": [found[link.version_id] for link in links if link.version_id in found]}


def _source(session: Session, row: VersionRow) -> Source:
    return Source(row, get_job(session, row.job_id).job.spec)


def _unlabelled(session: Session, spec: WorkSpec) -> tuple[str, DatasetManifest] | None:
    """Look up the data set whose rows are used without labels; raise DatasetNotFoundError when it is gone."""
    for name in unlabelled_of(spec).values():
        return name, DatasetManifest.model_validate(get_dataset(session, name).manifest)
    return None


def dataset_input(name: str, manifest: DatasetManifest, store: Store) -> DatasetInput:
    """Fetch a data set's files."""
    return DatasetInput(
        name=name,
        digest=manifest.digest,
        dataset_schema=manifest.dataset_schema,
        statistics=manifest.statistics,
        files={name: store.fetch(reference.sha256) for name, reference in manifest.files.items()},
    )


def version_input(source: Source, store: Store) -> VersionInput:
    """Fetch a version's files."""
    row = source.row
    files = {name: store.fetch(reference.sha256) for name, reference in row.manifest.files.items()}
    return VersionInput(
        version_id=row.id,
        name=row.name,
        version=row.version,
        digest=row.digest,
        manifest=row.manifest,
        files=files,
        training_recipe=json.loads(files[TRAIN_SPEC].read_bytes()) if TRAIN_SPEC in files else source.recipe,
    )


def _restore(checkpoints: tuple[SavedState, ...], directory: Path, store: Store) -> Path | None:
    """Lay out the newest checkpoint that is whole; a damaged one gives way to the one before."""
    for saved in checkpoints:
        try:
            _link_files(DirectoryManifest.model_validate(saved.manifest), directory, store)
        except ArtifactCorruptedError as error:
            log.warning("checkpoint_damaged", step=saved.step, detail=error.detail)
            shutil.rmtree(directory, ignore_errors=True)
        else:
            return directory
    return None


def _link_files(manifest: DirectoryManifest, directory: Path, store: Store) -> None:
    directory.mkdir(parents=True)
    for name, reference in manifest.files.items():
        place = _within(directory / name, directory)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(store.fetch(reference.sha256))


def _keep(directory: Path, name: str, reference: FileRef, store: Store) -> None:
    path = _within(directory / name, directory)
    found = store.put(path)
    if found != reference:
        raise BrokenProductError(
            f"{name} has not the content that its manifest names.", hint="Look at the worker's disk."
        )


def _within(path: Path, directory: Path) -> Path:
    """Return the path if it lies in the directory; links and `..` must not lead a trainer out of its own files."""
    resolved = path.resolve()
    if not resolved.is_relative_to(directory.resolve()):
        raise BrokenProductError(f"{path} lies outside of the trainer's directory.")
    return resolved


def is_retryable(error: Exception) -> bool:
    """Tell whether another attempt may succeed where this one failed outside of the trainer."""
    if isinstance(error, JobError):
        return error.retryable
    return isinstance(error, LeanfuseError | OSError) and not isinstance(error, InvalidInputError)
