"""Register graphs as versions of a fresh home, through the store and the job protocol, without training them."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
from sqlalchemy import Engine

from app.db import migrate
from app.db.attempts import claim
from app.db.datasets import add_dataset
from app.db.endings import AttemptEnd
from app.db.finish import NewVersion, finish
from app.db.jobs import NewJob, submit
from app.db.session import Sessions, create_engine_for, make_sessions
from app.domain.datasets import DatasetManifest, DatasetSchema, FileRef, Statistics
from app.domain.jobs import Timing
from app.domain.models import InputSignature, Link, Metrics, VersionManifest
from app.store.local import LocalStore
from benchmarks.serving.graphs import CLASSES, SMALL

DATASET = "images"
_UNMEASURED = Metrics(
    parameters=0, macs=0, served_bytes=0, weights_bytes=0, latency_ms_batch_1=0.0, latency_ms_batch_32=0.0
)


def register_graphs(home: Path, graphs: Mapping[str, onnx.ModelProto]) -> None:
    """Make a home whose registry serves the graphs; `ens` is an ensemble of all `ens-m*` before it."""
    home.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{home / 'leanfuse.db'}"
    migrate.upgrade(url)
    engine = create_engine_for(url)
    store = LocalStore(home / "store")
    sessions = make_sessions(engine)
    dataset_id = add_images(sessions)
    ids: dict[str, str] = {}
    for name, graph in graphs.items():
        ids[name] = _register(sessions, store, dataset_id, name, graph, made=ids)
    _close(engine)


def add_images(sessions: Sessions) -> str:
    """Register a data set that versions can name; its rows exist by digest only."""
    schema = DatasetSchema(
        features="image",
        shape=SMALL,
        dtype="uint8",
        classes=tuple(str(label) for label in range(CLASSES)),
        rows={"train": 8, "selection": 4, "report": 4},
    )
    parts = [f"{rows}_{part}" for rows in schema.rows for part in ("x", "y", "hash")]
    files = {part: FileRef(sha256=hashlib.sha256(part.encode()).hexdigest(), size_bytes=1) for part in parts}
    statistics = Statistics(mean=(127.0,), deviation=(70.0,))
    manifest = DatasetManifest(dataset_schema=schema, files=files, statistics=statistics)
    with sessions.begin() as session:
        return add_dataset(session, DATASET, manifest)[0].id


def _register(
    sessions: Sessions,
    store: LocalStore,
    dataset_id: str,
    name: str,
    graph: onnx.ModelProto,
    *,
    made: Mapping[str, str],
) -> str:
    parts = [version_id for other, version_id in made.items() if other.startswith(f"{name}-m")]
    links = tuple(Link(role="member", version_id=part, position=place) for place, part in enumerate(parts))
    shape = tuple(axis.dim_value for axis in graph.graph.input[0].type.tensor_type.shape.dim[1:])
    recipe = hashlib.sha256(name.encode()).hexdigest()
    given = {"files": {"model.onnx": _put(store, graph)}, "links": links, "input": shape}
    with sessions.begin() as session:
        job = NewJob(kind="train", name=name, spec={"name": name}, recipe_digest=recipe, dataset_id=dataset_id)
        submit(session, job)
    claimed = claim(sessions, "benchmark", timing=Timing())
    if claimed is None:
        raise RuntimeError("The job that was just submitted is not there to be claimed.")
    version = NewVersion(name, manifest_of(recipe, **given))
    return finish(sessions, claimed.lease, [version], end=AttemptEnd(exit_code=0)).version_ids[0]


def manifest_of(
    recipe_digest: str,
    *,
    files: Mapping[str, FileRef],
    input: tuple[int, ...] = SMALL,  # noqa: A002 - the manifest's own word
    links: tuple[Link, ...] = (),
) -> VersionManifest:
    """Describe a version that nothing was measured on."""
    return VersionManifest(
        kind="ensemble" if links else "single",
        method="parallel" if links else "train",
        task="classification",
        classes=tuple(str(label) for label in range(CLASSES)),
        input=InputSignature(shape=input, dtype="float32"),
        files=dict(files),
        dataset=DATASET,
        dataset_digest="0" * 64,
        recipe_digest=recipe_digest,
        seed=0,
        protocol=1,
        links=links,
        metrics=_UNMEASURED,
    )


def _put(store: LocalStore, graph: onnx.ModelProto) -> FileRef:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph.SerializeToString())
        return store.put(path)


def _close(engine: Engine) -> None:
    engine.dispose()
