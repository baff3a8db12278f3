"""Predictions of real API processes: without a database, with a worker killed, while models are unloaded."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.cli import stack
from app.cli.stack import free_port
from app.db import migrate
from app.db.session import create_engine_for, make_sessions
from app.domain.jobs import Timing
from app.serving.runtime import load_engine
from app.settings import ServingSettings, Settings
from app.store import open_store
from tests.api.builders import ROW, Registry
from tests.workers import running, until, worker_settings

API = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--log-level", "warning", "--port"]
UP = [sys.executable, "-m", "app.cli.main", "up", "--no-worker", "--port"]


@contextmanager
def registry_of(settings: Settings) -> Iterator[Registry]:
    """Register what the tests serve."""
    engine = create_engine_for(settings.database_url)
    registry = Registry(make_sessions(engine), open_store(settings.store_url))
    registry.add_dataset()
    yield registry
    engine.dispose()


@contextmanager
def serving(settings: Settings, command: list[str] = API) -> Iterator[httpx.Client]:
    """Run an API process until it is ready, and give a client of it."""
    port = free_port()
    with (
        running([*command, str(port)], settings, name="api") as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        until(lambda: readiness(client) == httpx.codes.OK)
        client.headers["X-Test-Pid"] = str(process.pid)
        yield client


def readiness(client: httpx.Client) -> int:
    try:
        return client.get("/readyz").status_code
    except httpx.TransportError:
        return 0


def predict(client: httpx.Client, path: str, rows: list[Any] | None = None) -> httpx.Response:
    return client.post(f"/v1/{path}:predict", json={"instances": rows or [ROW]})


def test_predictions_go_on_without_postgres_and_redis(tmp_path: Path, timing: Timing) -> None:
    with ExitStack() as servers, ExitStack() as rest:
        url, broker = servers.enter_context(stack.postgres()), servers.enter_context(stack.valkey())
        migrate.upgrade(url)
        settings = worker_settings(tmp_path / "home", url, timing, broker_url=broker)
        with registry_of(settings) as registry:
            registry.add_ensemble()
            registry.add_model("late")
        client = rest.enter_context(serving(settings))
        before = predict(client, "ensembles/pets-duo").json()
        servers.close()
        for _ in range(5):
            assert predict(client, "ensembles/pets-duo").json() == before
            assert predict(client, "models/pets-duo/versions/1").json() == before
        assert predict(client, "models/late").status_code == httpx.codes.OK, "loaded only now"
        detail = client.get("/v1/ensembles/pets-duo/predictions?x=0,1,2,3&members=true&uncertainty=true")
        assert detail.status_code == httpx.codes.OK
        unknown = predict(client, "models/nobody")
        assert (unknown.status_code, unknown.json()["type"]) == (503, "/problems/database-unavailable")
        assert readiness(client) == httpx.codes.SERVICE_UNAVAILABLE
        assert client.get("/livez").status_code == httpx.codes.OK


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep finds the processes of the service")
def test_a_killed_worker_process_is_replaced_while_the_other_serves(
    tmp_path: Path, sqlite_url: str, timing: Timing
) -> None:
    settings = worker_settings(tmp_path / "home", sqlite_url, timing, serving=ServingSettings(workers=2, tune=False))
    with registry_of(settings) as registry:
        registry.add_model()
    with serving(settings, UP) as client:
        pid = int(client.headers["X-Test-Pid"])
        until(lambda: len(api_processes(pid)) == 2)
        until(lambda: counted(client, 20) > 0)
        victim = api_processes(pid)[0]
        os.kill(victim, signal.SIGKILL)
        answers = [ask_anew(client) for _ in range(20)]
        assert answers.count(httpx.codes.OK) == len(answers)
        until(lambda: len(api_processes(pid)) == 2 and victim not in api_processes(pid))


def ask_anew(client: httpx.Client) -> int:
    """Predict on a connection of its own; one that the killed process had accepted is tried once more."""
    for _ in range(2):
        try:
            with httpx.Client(base_url=client.base_url, timeout=30) as other:
                return predict(other, "models/pets-cnn").status_code
        except httpx.TransportError:
            continue
    return 0


def counted(client: httpx.Client, requests: int) -> float:
    """Return what the metrics count of predictions, in whichever process, after some more of them."""
    for _ in range(requests):
        assert ask_anew(client) == httpx.codes.OK
    found = re.search(r'leanfuse_predictions_total\{.*outcome="ok".*\} (.*)', client.get("/metrics").text)
    assert found is not None
    assert float(found[1]) % requests == 0
    return float(found[1])


def api_processes(parent: int) -> list[int]:
    """Return the processes that serve: children of the supervisor that run Python's spawn."""
    command = ["pgrep", "-P", str(parent), "-f", "spawn_main"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [int(line) for line in told.split()]


def test_what_is_pinned_is_in_memory_before_the_first_request(tmp_path: Path, sqlite_url: str, timing: Timing) -> None:
    pinned = ServingSettings(pinned=("pets-duo", "nobody@champion"), tune=False, logged_share=1.0)
    settings = worker_settings(tmp_path / "home", sqlite_url, timing, serving=pinned)
    with registry_of(settings) as registry:
        registry.add_ensemble()
    with serving(settings) as client:
        assert "leanfuse_models_loaded 1.0" in client.get("/metrics").text
        answer = predict(client, "models/pets-duo")
        log = next((tmp_path / "home").glob("api-*.log")).read_text(encoding="utf-8")
        line = next(line for line in log.splitlines() if '"prediction"' in line)
        assert f'"request_id": "{answer.headers["X-Request-ID"]}"' in line
        assert '"rows": 1' in line


@pytest.mark.parametrize("tune", [False, True])
def test_rows_of_many_callers_are_answered_as_if_each_were_alone(
    tmp_path: Path, sqlite_url: str, timing: Timing, tune: bool
) -> None:
    settings = worker_settings(
        tmp_path / "home", sqlite_url, timing, serving=ServingSettings(engine="onnxruntime", tune=tune)
    )
    with registry_of(settings) as registry:
        registry.add_model("pets-cnn", seed=3)
        registry.add_ensemble()
        graphs = {name: load_engine(graph_path(registry, name)) for name in ("pets-cnn", "pets-duo")}
    with serving(settings) as client, ThreadPoolExecutor(16) as callers:
        asked = [(name, case) for case in range(60) for name in graphs]
        for (name, case), answer in zip(asked, callers.map(lambda item: ask(client, *item), asked), strict=True):
            if case % 8 == 7:
                assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
                continue
            assert answer.status_code == httpx.codes.OK, answer.text
            expected = graphs[name].run(rows_of(case), ["probabilities"])[0]
            np.testing.assert_array_equal(np.array(answer.json()["predictions"], np.float32), expected)


def rows_of(case: int) -> Any:
    return np.random.default_rng(case).normal(size=(1 + case % 5, 2, 2, 1)).astype(np.float32)


def ask(client: httpx.Client, name: str, case: int) -> httpx.Response:
    rows = rows_of(case).astype(float).tolist()
    if case % 8 == 7:
        rows[0][0][0] = ["bad"]
    return predict(client, f"models/{name}", rows)


def graph_path(registry: Registry, name: str) -> Path:
    from app.db import registry as rows
    from app.db.session import reading

    with reading(registry.sessions) as session:
        return registry.store.fetch(rows.resolve(session, name).manifest.files["model.onnx"].sha256)
