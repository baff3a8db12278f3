"""A packed version predicts, downloads and is loaded for an alias as a plain one does."""

import numpy as np
import onnx
from starlette.testclient import TestClient

from app.db.datasets import get_dataset
from app.db.finish import NewVersion
from app.db.session import reading
from app.domain.models import InputSignature
from app.serving.packed import pack, unpack
from tests import factories
from tests.api.builders import CLASSES, ROW, SHAPE, Registry, single_graph


def add_packed(registry: Registry, name: str, graph: onnx.ModelProto) -> None:
    """Register a version whose only graph is a packed one."""
    manifest = factories.version_manifest(
        name,
        classes=CLASSES,
        input=InputSignature(shape=SHAPE, dtype="float32"),
        files={"model.packed": registry.put_bytes(pack(graph)), "report.json": registry.put_bytes(b"{}")},
    )
    with reading(registry.sessions) as session:
        dataset_id = get_dataset(session, "pets").id
    factories.submit_job(registry.sessions, dataset_id, name=name)
    lease = factories.claim_job(registry.sessions).lease
    factories.finish_job(registry.sessions, lease, NewVersion(name, manifest))


def test_a_packed_version_serves_like_a_plain_one(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("plain", seed=3)
    add_packed(registry, "packed", single_graph(3))
    body = {"instances": [ROW]}
    answers = [client.post(f"/v1/models/{name}:predict", json=body).json() for name in ("plain", "packed")]
    assert answers[0]["predictions"] == answers[1]["predictions"]
    alias = client.put("/v1/models/packed/aliases/champion", json={"version": 1})
    assert alias.status_code in (200, 201), alias.text


def test_a_packed_file_is_downloaded_and_unpacked(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    add_packed(registry, "packed", single_graph(3))
    answer = client.get("/v1/models/packed/versions/1/artifacts/model.packed")
    assert answer.status_code == 200
    assert unpack(answer.content) == single_graph(3)
    kernels = {tensor.name: np.array(tensor.dims) for tensor in unpack(answer.content).graph.initializer}
    assert set(kernels) == {"width", "kernel", "bias"}
