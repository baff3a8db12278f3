"""Schemathesis finds nothing in our OpenAPI document that the service does not keep to.

It runs from an environment of its own, on every operation, with the settings of schemathesis.toml, where operations
can be left out. More than the test has time for: `-n 100` without `--seed`.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.contract_server import CLIENTS, Server, serving

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
OPTIONS = ["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "2", "--seed", "1"]
QUIET = ["--no-color", "--warnings", "off", "--suppress-health-check", "all", "--generation-database", "none"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("schemathesis"), sqlite_template) as server:
        yield server


def test_schemathesis_finds_no_failure(server: Server, tmp_path: Path) -> None:
    schemathesis = [str(CLIENTS / "schemathesis"), "--config-file", str(CONFIGURATION)]
    run = subprocess.run(
        [*schemathesis, "run", f"{server.url}/openapi.json", *OPTIONS, *QUIET],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2000:]
    assert "No issues found" in run.stdout
    assert "request_failed" not in server.log
