"""The OpenAPI document is complete, and its examples work when they are sent."""

import json
import re
import typing
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from app.api.v1.examples import JOB_SPECS
from app.domain.ensemble_specs import EnsembleMethod
from app.domain.specs import OptimizeMethod
from tests.api.builders import ROOT, Registry
from tests.api.conftest import Refusing

METHODS = {"get", "post", "put", "patch", "delete"}


def methods_of(union: Any) -> list[str]:
    kinds = typing.get_args(typing.get_args(union)[0])
    return [typing.get_args(kind.model_fields["method"].annotation)[0] for kind in kinds]


@pytest.fixture(scope="module")
def document(shared: Refusing) -> dict[str, Any]:
    found: dict[str, Any] = shared.client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, found) for path, item in document["paths"].items() for method, found in item.items()]


def test_every_operation_has_its_own_id_a_summary_a_tag_and_a_description(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for path, method, operation in operations(document):
        assert method in METHODS
        for member in ("summary", "tags", "description"):
            assert operation[member], f"{method} {path} has no {member}"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                target: Any = document
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


def test_every_problem_is_described_as_one(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for code, response in operation["responses"].items():
            if int(code) >= 400 and path != "/readyz" and "content" in response:
                media_type = "application/json" if path.startswith(("/v2", "/api/")) else "application/problem+json"
                assert set(response["content"]) == {media_type}, f"{method} {path} {code}"


def test_every_operation_of_a_version_tells_when_it_was_deleted(document: dict[str, Any]) -> None:
    found = {
        path: operation["responses"]
        for path, _, operation in operations(document)
        if "{version}" in path and not path.startswith("/v2")
    }
    assert [path for path, responses in found.items() if "410" not in responses] == []


def test_no_parameter_has_an_empty_default_that_a_client_would_send(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter["schema"].get("default") != "", f"{method} {path} {parameter['name']}"


def test_every_prediction_is_described(document: dict[str, Any]) -> None:
    verbs = [path for path in document["paths"] if path.endswith((":predict", ":classify", ":regress"))]
    assert len(verbs) == 12
    for path in verbs:
        operation = document["paths"][path]["post"]
        for content in (operation["requestBody"]["content"], operation["responses"]["200"]["content"]):
            schema = content["application/json"]["schema"]
            assert "$ref" in schema or all("$ref" in choice for choice in schema["oneOf"])


def test_every_body_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        for media_type, described in content.items():
            if media_type != "application/json":
                continue
            assert described["examples"], f"{method} {path}"
            schema = {**described["schema"], "components": document["components"]}
            for example in described["examples"].values():
                jsonschema.validate(example["value"], schema)


@pytest.mark.parametrize("name", JOB_SPECS)
def test_an_example_is_accepted_when_it_is_sent(client: TestClient, registry: Any, name: str) -> None:
    registry.add_dataset("digits", shape=(8, 8, 1), rows=200)
    registry.add_network("digits-cnn", {"type": "cnn"}, dataset="digits")
    answer = client.post("/v1/jobs", json=JOB_SPECS[name])
    assert answer.status_code == 202, answer.text


def test_whatever_reads_artifacts_may_find_the_store_away(document: dict[str, Any]) -> None:
    told = {
        f"{method} {path}": " ".join(answer["description"] for answer in operation["responses"].values())
        for path, method, operation in operations(document)
    }
    reading = {name for name, text in told.items() if "artifact-corrupted" in text}
    assert {"get /v1/datasets/{name}/rows", "get /v1/ensembles", "post /v1/models/{name}:predict"} <= reading
    assert {name for name in reading if "store-unavailable" not in told[name]} == set()


def test_every_way_to_optimize_and_fuse_has_an_example() -> None:
    methods = {name for union in (OptimizeMethod, EnsembleMethod) for name in methods_of(union)}
    shown = {spec["method"]["method"] for spec in JOB_SPECS.values() if "method" in spec}
    assert shown == methods
    assert {spec["kind"] for spec in JOB_SPECS.values()} == {"train", "optimize", "ensemble", "search", "predict"}


# Those that stand in a page; what a page takes in from docs/jobs is run by tests/docs/test_job_files.py.
EXAMPLES = [
    block
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for block in re.findall(r"```json\n(\{.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
]


@pytest.fixture
def digits(client: TestClient, registry: Registry) -> TestClient:
    """Register what the examples of the pages start from."""
    registry.add_dataset("digits", shape=(8, 8, 1), rows=200)
    registry.add_dataset("more-digits", shape=(8, 8, 1), rows=100)
    architectures = {"cnn": {"type": "cnn"}, "mlp": {"type": "mlp"}, "resnet": {"type": "resnet", "blocks": 3}}
    for name, architecture in {**architectures, "trio": {"type": "cnn"}}.items():
        registry.add_network(f"digits-{name}", architecture, dataset="digits")
        client.put(f"/v1/models/digits-{name}/aliases/champion", json={"version": 1})
    return client


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: json.loads(text)["name"])
def test_an_example_of_a_page_is_accepted_when_it_is_sent(digits: TestClient, example: str) -> None:
    spec = json.loads(example)
    checked = digits.post("/v1/jobs?validate_only=true", json=spec)
    assert checked.status_code == 200, checked.text
    trains = spec.get("method", {}).get("method") not in ("quantize", "parallel", "stack", "cascade")
    work = "rows" if spec["kind"] == "predict" else "optimizer_steps"
    assert (checked.json()["estimate"][work] > 0) >= trains
    assert digits.post("/v1/jobs", json=spec).status_code == 202


def test_every_path_of_the_service_is_in_the_document(document: dict[str, Any]) -> None:
    expected = {
        "/v1/datasets",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}:cancel",
        "/v1/models/{name}:predict",
        "/v1/models/{name}/versions/{version}:predict",
        "/v1/models/{name}/labels/{alias}:predict",
        "/v1/ensembles/{name}/predictions",
        "/v1/models/{name}/predictions",
        "/v1/compare",
        "/problems/{slug}",
    }
    assert expected <= set(document["paths"])
