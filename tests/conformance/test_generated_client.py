"""A client that is generated from our OpenAPI document, in whole and without a warning, can use the service."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.builders import CLASSES
from tests.conformance.contract_server import CLIENTS, Server, serving

GENERATOR = Path(__file__).with_name("generator.yml")
USER = Path(__file__).with_name("generated_client.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("generated"), sqlite_template) as server:
        yield server


def run(*command: str, folder: Path) -> str:
    # The generator formats what it writes with the `ruff` that it finds.
    environment = {**os.environ, "PATH": f"{CLIENTS}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_generated_client_uses_the_service(server: Server, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_bytes(httpx.get(f"{server.url}/openapi.json").content)
    generator = str(CLIENTS / "openapi-python-client")
    where = ("--path", "openapi.json", "--output-path", "leanfuse", "--config", str(GENERATOR))
    run(generator, "generate", *where, "--meta", "none", "--fail-on-warning", folder=tmp_path)
    answers: dict[str, Any] = json.loads(run(str(CLIENTS / "python"), str(USER), server.url, folder=tmp_path))

    assert answers["models"] == ["pets-duo", "pets-duo-m0", "pets-duo-m1", "pets-mlp", "prices-mlp"]
    assert answers["ensembles"] == [2]
    assert answers["version"] == httpx.get(f"{server.url}/v1/models/pets-mlp/versions/1").json() | {
        "aliases": [],
        "created_at": answers["version"]["created_at"],
    }
    assert sum(answers["predictions"][0]) == pytest.approx(1, abs=1e-5)
    assert answers["classes"] == [[list(pair) for pair in zip(CLASSES, answers["predictions"][0], strict=True)]]
    assert answers["refused"] == "/problems/input-shape-mismatch"
    assert answers["checked"] > 0
    assert answers["submitted"] == "queued"
    assert answers["alias"] == ["stable"]
    assert [(row["actual"], row["members"]) for row in answers["fused"]] == [("cat", 2), ("dog", 2)]
