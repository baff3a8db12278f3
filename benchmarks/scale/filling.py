"""Fill a database in bulk: versions and jobs that would take days to come about."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import Connection, insert, text, update

from app.db.base import Base, new_id, now
from app.db.session import Sessions
from app.db.tables import Alias, Job, Model, ModelVersion, RegistryRevision, VersionTag
from app.domain.datasets import FileRef
from app.domain.models import Metrics
from benchmarks.serving.registering import add_images, manifest_of

VERSIONS_OF_A_MODEL = 50
_ROWS_AT_ONCE = 2000
Row = dict[str, Any]


def add_versions(sessions: Sessions, count: int, **given: Any) -> None:  # noqa: ANN401 - parts of a manifest
    """Register `count` versions, 50 of each model, every model with an alias and every version with a tag.

    Their files exist by digest only; what else a manifest shall hold may be given.
    """
    dataset_id = add_images(sessions)
    models = [_model(place) for place in range(count // VERSIONS_OF_A_MODEL)]
    with sessions.begin() as session:
        connection = session.connection()
        _insert(connection, Model, models)
        for some in _batches(models, 40):
            numbers = range(1, VERSIONS_OF_A_MODEL + 1)
            versions = [_version(model, number, given) for model in some for number in numbers]
            jobs = [_job(version["job_id"], dataset_id, state="succeeded", name="filled") for version in versions]
            _insert(connection, Job, jobs)
            _insert(connection, ModelVersion, versions)
            tags = [{"version_id": version["id"], "key": "team", "value": "vision"} for version in versions]
            _insert(connection, VersionTag, tags)
            newest = versions[VERSIONS_OF_A_MODEL - 1 :: VERSIONS_OF_A_MODEL]
            _insert(connection, Alias, [_alias(version) for version in newest])
        connection.execute(update(RegistryRevision).values(revision=RegistryRevision.revision + 1))
    _gather_statistics(sessions)


def add_jobs(sessions: Sessions, count: int) -> None:
    """Queue `count` jobs, each of a recipe of its own."""
    dataset_id = add_images(sessions)
    with sessions.begin() as session:
        jobs = (_job(new_id(), dataset_id, state="queued", name="waiting") for _ in range(count))
        _insert(session.connection(), Job, jobs)
    _gather_statistics(sessions)


def model_name(place: int) -> str:
    """Return the name of a model."""
    return f"model-{place:05}"


def _model(place: int) -> Row:
    return {"id": new_id(), "name": model_name(place), "next_version": VERSIONS_OF_A_MODEL + 1}


def _version(model: Row, number: int, given: Mapping[str, Any]) -> Row:
    recipe = recipe_of(model["name"], number)
    files = {name: FileRef(sha256=_digest(f"{recipe} {name}"), size_bytes=1_700_000) for name in _FILES}
    more = {**given, "files": {**files, **given.get("files", {})}}
    manifest = manifest_of(recipe, files=files).model_copy(update=more | {"metrics": _metrics(number)})
    return {
        "id": new_id(),
        "model_id": model["id"],
        "version": number,
        "job_id": new_id(),
        "kind": manifest.kind,
        "method": manifest.method,
        "digest": manifest.digest,
        "recipe_digest": recipe,
        "dataset_digest": manifest.dataset_digest,
        "manifest": manifest.model_dump(mode="json"),
    }


def _metrics(number: int) -> Metrics:
    """Return figures that differ from version to version, as those of real ones do."""
    accuracy = 0.8 + 0.19 * (number * 37 % 50) / 50
    size = 20_000 + 3_000 * (number * 13 % 50)
    return Metrics(
        accuracy=accuracy,
        accuracy_interval=(accuracy - 0.02, accuracy + 0.01),
        nll=1.5 - accuracy,
        parameters=size // 4,
        macs=10 * size,
        served_bytes=size,
        weights_bytes=size,
        latency_ms_batch_1=size / 1e6,
        latency_ms_batch_32=size / 1e5,
    )


_FILES = ("model.onnx", "network.json", "report.json", "weights.safetensors")


def recipe_of(name: str, number: int) -> str:
    """Return the recipe of a version that was filled in."""
    return _digest(f"{name}/{number}")


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _job(job_id: str, dataset_id: str, *, state: str, name: str) -> Row:
    return {
        "id": job_id,
        "kind": "train",
        "name": name,
        "spec": {"kind": "train", "name": name},
        "recipe_digest": _digest(job_id),
        "dataset_id": dataset_id,
        "state": state,
    }


def _alias(version: Row) -> Row:
    return {"model_id": version["model_id"], "alias": "champion", "version_id": version["id"]}


def _insert(connection: Connection, table: type[Base], rows: Iterable[Row]) -> None:
    """Insert rows; what a row leaves open gets its default. SQL expressions cannot be bound to many rows at once."""
    clock = connection.scalar(now().select())
    times = {column.name: clock for column in table.__table__.columns if column.name in _TIMES}
    for some in _batches(rows, _ROWS_AT_ONCE):
        connection.execute(insert(table), [times | row for row in some])


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    left = iter(rows)
    while some := list(islice(left, size)):
        yield some


_TIMES = ("created_at", "updated_at", "not_before")


def _gather_statistics(sessions: Sessions) -> None:
    """Let PostgreSQL know what it holds, as its autovacuum would within minutes."""
    with sessions() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("ANALYZE"))
            session.commit()
