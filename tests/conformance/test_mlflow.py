"""The stock MLflow client against a real server."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.db import registry as rows
from app.db.session import reading
from app.domain.jobs import Timing
from tests.api.builders import ROW, Registry, single_graph
from tests.api.test_packed import add_packed
from tests.conformance.mlflow_server import run_client
from tests.e2e.test_serving import predict, registry_of, serving
from tests.workers import worker_settings

GENERATED = {"MLmodel", "requirements.txt", "registered_model_meta"}
ROWS = [ROW, [[[-1.0], [0.5]], [[0.25], [7.0]]]]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> dict[str, Any]:
    """Let the client make every call once; give what it saw, what was registered and what we answer ourselves."""
    folder = tmp_path_factory.mktemp("mlflow")
    database = folder / "leanfuse.db"
    database.write_bytes(sqlite_template.read_bytes())
    settings = worker_settings(folder / "home", f"sqlite:///{database}", Timing())
    with registry_of(settings) as registry:
        add_models(registry)
        stored = {name: digests(registry, name) for name in ("pets-cnn/1", "pets-cnn/2", "pets-packed/1")}
    with serving(settings) as client:
        seen = run_client("mlflow_registry.py", str(client.base_url), folder, json.dumps(ROWS))
        seen["stored"] = stored
        for path in ("pets-cnn/labels/champion", "pets-packed/versions/1", "pets-duo/versions/1"):
            seen[path] = predict(client, f"models/{path}", ROWS).json()["predictions"]
    return seen


def add_models(registry: Registry) -> None:
    registry.add_model("pets-cnn", seed=1)
    registry.add_model("pets-cnn", seed=2)
    registry.add_model("pets-lost", seed=3, rejected="accuracy fell")
    registry.add_ensemble()
    add_packed(registry, "pets-packed", single_graph(4))


def digests(registry: Registry, name: str) -> dict[str, str]:
    with reading(registry.sessions) as session:
        files = rows.resolve(session, name).manifest.files
    return {file: found.sha256 for file, found in files.items()}


def registered(files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if name not in GENERATED}


def test_a_model_is_made_described_tagged_renamed_and_deleted(walk: dict[str, Any]) -> None:
    assert walk["made"] == ["fresh", {"team": "vision"}, "New.", [], {}]
    assert (walk["updated"], walk["renamed"]) == ("Newer.", "Newer.")
    assert walk["tags"] == {"stage": "live"}
    assert (walk["old_name"], walk["deleted"]) == ("RESOURCE_DOES_NOT_EXIST", "RESOURCE_DOES_NOT_EXIST")
    assert (walk["twice"], walk["bad_name"]) == ("RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE")


def test_versions_of_jobs_are_seen_described_and_tagged(walk: dict[str, Any]) -> None:
    assert walk["pets"] == ["pets-cnn", ["2"], {}]
    assert walk["version"] == ["1", "READY", "None", "mlflow-artifacts:/pets-cnn/1", ""]
    assert (walk["described"], walk["version_tags"], walk["latest"]) == ("The first.", {"seen": "yes"}, ["2"])
    assert (walk["no_version"], walk["stage"]) == ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    assert walk["no_stage"] == "1"


def test_aliases_move_and_refuse_what_was_rejected(walk: dict[str, Any]) -> None:
    assert walk["champion"] == "2"
    assert walk["aliases"] == {"champion": "2", "rival": "1"}
    assert walk["version_aliases"] == ["champion"]
    assert (walk["no_alias"], walk["rejected"]) == ("INVALID_PARAMETER_VALUE", "RESOURCE_CONFLICT")


def test_searches_filter_order_and_page(walk: dict[str, Any]) -> None:
    every = [f"row-{number}" for number in range(5)]
    assert walk["pages"] == [["row-4", "row-3"], ["row-2", "row-1"], ["row-0"]]
    assert walk["found"] == {
        "tags.place = '1'": ["row-1", "row-3"],
        "tags.place != '1'": ["row-0", "row-2", "row-4"],
        "name ILIKE 'ROW-%' AND tag.`team` LIKE 'Vis%'": every,
        "tags.team LIKE 'vis%'": [],
        "tags.team ILIKE 'vis%'": every,
        "name IN ('row-1', 'row-2')": ["row-1", "row-2"],
        "name = 'row-3'": ["row-3"],
        "name LIKE 'row_3'": ["row-3"],
    }
    assert {"pets-cnn", "pets-lost", *every} <= set(walk["all_models"])
    assert walk["bad_filter"] == "INVALID_PARAMETER_VALUE"
    assert walk["versions"] == {
        "name = 'pets-cnn'": [["pets-cnn", "1"], ["pets-cnn", "2"]],
        "name = 'pets-cnn' AND version_number > 1": [["pets-cnn", "2"]],
        "tags.seen = 'yes'": [["pets-cnn", "1"]],
        "run_id = 'nobody'": [],
    }


def test_a_version_is_registered_again_without_copying_a_byte(walk: dict[str, Any]) -> None:
    assert walk["copy"] == ["copied", "1", "READY"]
    assert walk["again"] == ["2", {"seen": "yes"}, "The first."]
    assert walk["registered"] == ["registered", "1", {"why": "test"}]
    assert (walk["by_uri"], walk["by_run"]) == ("3", ["3"])
    assert registered(walk["copied_files"]) == walk["stored"]["pets-cnn/2"]


def test_no_source_of_a_client_is_opened(walk: dict[str, Any]) -> None:
    assert (walk["foreign"], walk["runs"]) == ("INVALID_PARAMETER_VALUE", "ENDPOINT_NOT_FOUND")


def test_files_arrive_as_they_were_registered(walk: dict[str, Any]) -> None:
    assert registered(walk["files"]) == registered(walk["latest_files"]) == walk["stored"]["pets-cnn/2"]
    assert walk["one_file"] == "report.json"
    packed = registered(walk["packed"])
    assert packed.pop("model.onnx") == sha256_of(single_graph(4).SerializeToString())
    assert packed == walk["stored"]["pets-packed/1"]


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("pets-cnn@champion", "pets-cnn/labels/champion"),
        ("pets-packed/1", "pets-packed/versions/1"),
        ("pets-duo/1", "pets-duo/versions/1"),
    ],
)
def test_pyfunc_predicts_what_we_predict(walk: dict[str, Any], reference: str, path: str) -> None:
    theirs, ours = np.array(walk[f"predicted {reference}"]), np.array(walk[path])
    assert theirs.shape == (len(ROWS), 3)
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)


def test_the_signature_names_the_input(walk: dict[str, Any]) -> None:
    tensor = {"dtype": "float32", "shape": [-1, 2, 2, 1]}
    assert json.loads(walk["signature"]["inputs"]) == [{"type": "tensor", "name": "x", "tensor-spec": tensor}]


def test_a_deleted_version_takes_its_aliases_along_unless_it_is_in_use(walk: dict[str, Any]) -> None:
    assert (walk["gone"], walk["left"]) == ("RESOURCE_DOES_NOT_EXIST", {})
    assert walk["in_use"] == "RESOURCE_CONFLICT"
