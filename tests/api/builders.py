"""Real data sets and real graphs, as small as they can be."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper
from pydantic import TypeAdapter
from sqlalchemy import func, select

from app.db.datasets import add_dataset, get_dataset
from app.db.finish import NewVersion
from app.db.session import Sessions, reading
from app.db.tables import Base
from app.domain.datasets import DatasetManifest, DatasetSchema, FileRef, Statistics, Task
from app.domain.error_tree import all_errors
from app.domain.models import InputSignature, Link
from app.domain.presets import Architecture, build_network
from app.serving.graph import WeightedMean, fuse
from app.store.base import Store
from tests import factories

ROOT = Path(__file__).parents[2]

architecture_adapter: TypeAdapter[Architecture] = TypeAdapter(Architecture)
SHAPE = (2, 2, 1)
CLASSES = ("cat", "dog", "owl")
ROWS = {"train": 12, "selection": 4, "report": 6}
ROW = [[[0.0], [1.0]], [[2.0], [3.0]]]


def single_graph(
    seed: int,
    *,
    shape: Sequence[int] = SHAPE,
    classes: int = len(CLASSES),
    task: Task = "classification",
    dtype: str = "float32",
) -> onnx.ModelProto:
    """Return softmax(x W + b), or x W + b for a regression, with the names that every graph of ours has."""
    generator = np.random.default_rng(seed)
    width = int(np.prod(shape))
    constants = {
        "width": np.array([-1, width], dtype=np.int64),
        "kernel": generator.normal(size=(width, classes)).astype(np.float32),
        "bias": generator.normal(size=classes).astype(np.float32),
    }
    names = ("probabilities", "logits") if task == "classification" else ("prediction",)
    nodes = [
        helper.make_node("Cast", ["x"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["numbers", "width"], ["flat"]),
        helper.make_node("Gemm", ["flat", "kernel", "bias"], [names[-1]]),
    ]
    if task == "classification":
        nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes]) for name in names]
    graph = helper.make_graph(
        nodes,
        "single",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["batch", *shape])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class Registry:
    """Register what the tests need, through the store and the job protocol."""

    def __init__(self, sessions: Sessions, store: Store) -> None:
        self.sessions = sessions
        self.store = store

    def add_dataset(
        self,
        name: str = "pets",
        *,
        shape: Sequence[int] = SHAPE,
        rows: int = ROWS["train"],
        classes: tuple[str, ...] = CLASSES,
        task: Task = "classification",
    ) -> str:
        """Register rows of random bytes and return the id."""
        counts = ROWS | {"train": rows}
        schema = DatasetSchema(
            features="image",
            shape=tuple(shape),
            dtype="uint8",
            task=task,
            classes=classes,
            rows=counts,  # type: ignore[arg-type]
        )
        generator = np.random.default_rng(0)
        files: dict[str, FileRef] = {}
        for row_set, count in counts.items():
            files[f"{row_set}_x"] = self.put_array(generator.integers(0, 255, (count, *shape), dtype=np.uint8))
            labels = np.arange(count, dtype=np.int64) % max(1, len(classes))
            targets = labels if classes else generator.normal(size=(count, 1)).astype(np.float32)
            files[f"{row_set}_y"] = self.put_array(targets)
            files[f"{row_set}_hash"] = self.put_array(generator.integers(0, 255, (count, 16), dtype=np.uint8))
        statistics = Statistics(mean=(127.0,), deviation=(70.0,))
        manifest = DatasetManifest(dataset_schema=schema, files=files, statistics=statistics)
        with self.sessions.begin() as session:
            return add_dataset(session, name, manifest)[0].id

    def add_model(self, name: str = "pets-cnn", *, seed: int = 0, dataset: str = "pets", **given: Any) -> str:
        """Register a single model of a data set and return the version's id."""
        with reading(self.sessions) as session:
            manifest = DatasetManifest.model_validate(get_dataset(session, dataset).manifest)
        schema = manifest.dataset_schema
        signature = InputSignature(shape=schema.shape, dtype=given.pop("dtype", "float32"))
        graph = single_graph(seed, shape=schema.shape, classes=schema.outputs, task=schema.task, dtype=signature.dtype)
        given["input"] = signature
        return self._register(name, graph, schema, dataset=dataset, seed=seed, **given)

    def add_network(self, name: str, architecture: dict[str, Any], *, dataset: str = "pets", **given: Any) -> str:
        """Register a version with layers of its own; its graph answers like any other's."""
        with reading(self.sessions) as session:
            manifest = DatasetManifest.model_validate(get_dataset(session, dataset).manifest)
        network = build_network(
            architecture_adapter.validate_python(architecture, strict=False), manifest.dataset_schema
        )
        file = self.put_bytes(network.model_dump_json().encode())
        return self.add_model(name, dataset=dataset, files={"network.json": file}, **given)

    def add_ensemble(self, name: str = "pets-duo", *, weights: Sequence[float] = (0.25, 0.75)) -> str:
        """Register two members and their weighted mean; return the version's id."""
        members = [self.add_model(f"{name}-m{index}", seed=index + 1) for index in range(len(weights))]
        with reading(self.sessions) as session:
            schema = DatasetManifest.model_validate(get_dataset(session, "pets").manifest).dataset_schema
        graphs = [single_graph(index + 1, shape=schema.shape) for index in range(len(weights))]
        fused = fuse(graphs, WeightedMean(tuple(weights)))
        links = tuple(
            Link(role="member", version_id=version_id, position=index, weight=weight)
            for index, (version_id, weight) in enumerate(zip(members, weights, strict=True))
        )
        given = {"kind": "ensemble", "method": "parallel", "links": links}
        return self._register(name, fused, schema, dataset="pets", seed=0, **given)

    def _register(self, name: str, graph: onnx.ModelProto, schema: DatasetSchema, **given: Any) -> str:
        baseline = {"against": "its best member", "difference": 0.02, "interval": [-0.01, 0.05], "p_value": 0.2}
        report = {"metrics": {}, "baseline": baseline | {"verdict": "no difference shown", "smallest_shown": 0.1}}
        files = {
            "model.onnx": self.put_bytes(graph.SerializeToString()),
            "report.json": self.put_bytes(orjson.dumps(report)),
        }
        given["files"] = files | given.get("files", {})
        manifest = factories.version_manifest(
            f"{name} {given['seed']}",
            task=schema.task,
            classes=schema.classes,
            **{"input": InputSignature(shape=schema.shape, dtype="float32"), **given},
        )
        with reading(self.sessions) as session:
            dataset_id = get_dataset(session, given["dataset"]).id
        factories.submit_job(self.sessions, dataset_id, name=name)
        claimed = factories.claim_job(self.sessions)
        return factories.finish_job(self.sessions, claimed.lease, NewVersion(name, manifest)).version_ids[0]

    def put_array(self, array: np.ndarray) -> FileRef:
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "array.npy", array)
            return self.store.put(Path(folder) / "array.npy")

    def put_bytes(self, content: bytes) -> FileRef:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "blob"
            path.write_bytes(content)
            return self.store.put(path)

    def counts(self) -> dict[str, int]:
        """Count the rows of every table: what a refused request must leave alone."""
        with reading(self.sessions) as session:
            return {
                name: session.scalar(select(func.count()).select_from(table)) or 0
                for name, table in Base.metadata.tables.items()
            }


def files_under(folder: Path) -> set[str]:
    """List every file: what a refused request must leave alone."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "-wal" not in path.name}


def assert_problem(answer: httpx.Response, code: int, slug: str) -> dict[str, Any]:
    """Check code and kind of a problem, and that it tells nothing of the inside; return it."""
    assert (answer.status_code, answer.json()["type"]) == (code, f"/problems/{slug}"), answer.text
    body: dict[str, Any] = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["status"] == code
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert slug in {kind.slug for kind in all_errors()}
    for leak in ("Traceback", "site-packages", "sqlalchemy", "SELECT ", "pydantic", str(ROOT), "/tmp"):
        assert leak not in answer.text
    return body
