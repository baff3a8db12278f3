"""Inputs that a model cannot take are refused with what was expected, what came, and the likely cause."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api.deps import Services
from app.serving.inputs import MOST_ROWS
from app.serving.plans import Plan, Step
from app.serving.pool import EnginePool
from app.serving.predictor import Predictor
from app.serving.runtime import load_engine
from tests.api.builders import ROW, Registry, assert_problem

CASES: list[tuple[str, Any, int, str, str]] = [
    ("one row without a list", {"instances": ROW}, 422, "input-shape-mismatch", "wrap it in a list"),
    ("channels first", {"instances": [[[[0.0, 1.0], [2.0, 3.0]]]]}, 422, "input-shape-mismatch", "Channels first?"),
    ("no channel axis", {"instances": [[[0, 1], [2, 3]]]}, 422, "input-shape-mismatch", "Add the channel axis"),
    ("flat values", {"instances": [[0, 1, 2, 3]]}, 422, "input-shape-mismatch", "give every row its shape"),
    ("too many values", {"instances": [[0, 1, 2, 3, 4]]}, 422, "input-shape-mismatch", "/metadata"),
    ("a number", {"instances": 7}, 422, "input-shape-mismatch", "list of rows"),
    ("null", {"instances": None}, 422, "input-shape-mismatch", "list of rows"),
    ("another tensor", {"instances": [{"pixels": ROW}]}, 422, "input-shape-mismatch", ""),
    ("no rows", {"instances": []}, 422, "empty-input", "at least one row"),
    ("rows without values", {"instances": [[], []]}, 422, "empty-input", "at least one value"),
    ("rows of different shapes", {"instances": [ROW, ROW[:1]]}, 422, "ragged-input", "one shape"),
    ("a ragged row", {"instances": [[[[0.0], [1.0]], [[2.0]]]]}, 422, "ragged-input", "one shape"),
    ("text", {"instances": [[[[0.0], ["a"]], [[2.0], [3.0]]]]}, 422, "invalid-input-value", "Send numbers"),
    ("text alone", {"instances": ["cat"]}, 422, "invalid-input-value", "Send numbers"),
    ("true", {"instances": [[[[0.0], [True]], [[2.0], [3.0]]]]}, 422, "invalid-input-value", "Send numbers"),
    ("null within", {"instances": [[[[0.0], [None]], [[2.0], [3.0]]]]}, 422, "invalid-input-value", "Send numbers"),
    ("a number beyond 32 bits", {"instances": [[[[0.0], [1e300]], [[2.0], [3.0]]]]}, 422, "invalid-input-value", ""),
    ("too many rows", {"instances": [0] * (MOST_ROWS + 1)}, 413, "batch-too-large", "several batches"),
    ("neither form", {}, 422, "invalid-request", "instances"),
    ("both forms", {"instances": [ROW], "inputs": [ROW]}, 422, "invalid-request", "instances"),
    ("an unknown field", {"instances": [ROW], "member": True}, 422, "unknown-field", "Did you mean `members`?"),
    ("a flag that is none", {"instances": [ROW], "members": "yes"}, 422, "invalid-request", "Send true"),
    ("a list", [ROW], 422, "invalid-request", "instances"),
]


@pytest.mark.parametrize(
    ("body", "code", "slug", "hint"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_wrong_input_is_refused(refusing: TestClient, body: Any, code: int, slug: str, hint: str) -> None:
    problem = assert_problem(refusing.post("/v1/models/pets-cnn:predict", json=body), code, slug)
    assert hint in problem["hint"]
    assert problem["error"] == problem["detail"], "TensorFlow Serving's clients read `error`"


@pytest.mark.parametrize(
    ("body", "code", "slug"),
    [
        (b'{"instances": [[[[0.0], [NaN]], [[2.0], [3.0]]]]}', 422, "invalid-input-value"),
        (b'{"instances": [[[[0.0], [1e999]], [[2.0], [3.0]]]]}', 422, "invalid-input-value"),
        (b'{"instances": ', 400, "malformed-json"),
        (b"", 400, "malformed-json"),
        (b"[" * 100_000, 400, "malformed-json"),
        (b'{"instances": [NaN, ' + b"[" * 100_000, 400, "malformed-json"),
        (b'{"instances": [NaN, ' + b"9" * 5000 + b"]}", 422, "number-out-of-range"),
        (b'{"instances": [NaN], "instances": [1]}', 400, "malformed-json"),
        (b" " * 1_000_001, 413, "payload-too-large"),
    ],
)
def test_a_broken_body_is_refused(refusing: TestClient, body: bytes, code: int, slug: str) -> None:
    headers = {"Content-Type": "application/json"}
    assert_problem(refusing.post("/v1/models/pets-cnn:predict", content=body, headers=headers), code, slug)


def test_the_place_of_a_wrong_value_is_told(refusing: TestClient) -> None:
    body = b'{"instances": [[[[0.0], [1.0]], [[2.0], [3.0]]], [[[0.0], [1.0]], [[NaN], [3.0]]]]}'
    detail = refusing.post("/v1/models/pets-cnn:predict", content=body).json()["detail"]
    assert "[1][1][0][0]" in detail


def test_expected_and_got_are_both_told(refusing: TestClient) -> None:
    detail = refusing.post("/v1/models/pets-cnn:predict", json={"instances": [[0, 1, 2]]}).json()["detail"]
    assert "float32 [batch, 2, 2, 1]" in detail
    assert "[1, 3]" in detail


@pytest.mark.parametrize(
    ("path", "code", "slug"),
    [
        ("/v1/models/nobody:predict", 404, "model-not-found"),
        ("/v1/models/pets-cnn/versions/9:predict", 404, "model-not-found"),
        ("/v1/models/pets-cnn/labels/nobody:predict", 404, "model-not-found"),
        ("/v1/ensembles/pets-cnn:predict", 404, "model-not-found"),
        ("/v1/models/Pets:predict", 404, "not-found"),
    ],
)
def test_a_model_that_is_not_there_is_told(refusing: TestClient, path: str, code: int, slug: str) -> None:
    assert_problem(refusing.post(path, json={"instances": [ROW]}), code, slug)


@pytest.mark.parametrize(
    ("query", "code", "slug"),
    [
        ("", 422, "invalid-request"),
        ("?x=1,2,3,4&dataset=pets", 422, "invalid-request"),
        ("?x=1,2,3,4&version=1&alias=a", 422, "invalid-request"),
        ("?x=1,2,3", 422, "input-shape-mismatch"),
        ("?x=1,2,3,a", 422, "invalid-input-value"),
        ("?x=1,2,3,nan", 422, "invalid-input-value"),
        ("?x=", 422, "invalid-input-value"),
        ("?dataset=pest", 422, "dataset-not-found"),
        ("?dataset=mini", 422, "input-shape-mismatch"),
        ("?dataset=pets&set=all", 422, "unknown-component"),
        ("?dataset=pets&offset=6", 422, "out-of-range"),
        ("?dataset=pets&offset=-1", 422, "out-of-range"),
        ("?dataset=pets&limit=0", 422, "out-of-range"),
        ("?dataset=pets&limit=1001", 422, "out-of-range"),
        ("?dataset=pets&version=2", 404, "model-not-found"),
        ("?dataset=pets&alias=nobody", 404, "model-not-found"),
        ("?dataset=../etc/passwd", 422, "invalid-name"),
    ],
)
def test_a_wrong_query_is_refused(refusing: TestClient, query: str, code: int, slug: str) -> None:
    assert_problem(refusing.get(f"/v1/ensembles/pets-duo/predictions{query}"), code, slug)


def test_another_media_type_is_refused(refusing: TestClient) -> None:
    answer = refusing.post("/v1/models/pets-cnn:predict", content=b"x", headers={"Content-Type": "image/png"})
    assert_problem(answer, 415, "unsupported-media-type")


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait for at most ten seconds."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
    return True


class Blocked:
    """Serve like the engine of a graph, but only once it is let go."""

    def __init__(self, path: Path) -> None:
        self._engine = load_engine(path)
        self.graph_bytes = self._engine.graph_bytes
        self.free = threading.Event()

    def run(self, inputs: Any, outputs: Sequence[str]) -> list[Any]:
        assert self.free.wait(30)
        return self._engine.run(inputs, outputs)


class BlockedMaker:
    """Make plans of engines that are blocked."""

    tunes = False
    engine: Blocked

    def load(self, path: Path) -> Plan:
        self.engine = Blocked(path)
        return Plan(Step(1, self.engine, 1))  # type: ignore[arg-type]


def test_what_takes_too_long_or_waits_behind_too_many_is_refused(
    app: FastAPI, client: TestClient, services: Services, registry: Registry
) -> None:
    registry.add_dataset()
    registry.add_model()
    maker = BlockedMaker()
    pool = EnginePool(services.store, maker, metrics=services.metrics)  # type: ignore[arg-type]
    predictor = Predictor(pool, metrics=services.metrics, threads=1, most_waiting_rows=2, deadline_seconds=2.0)
    app.state.services = replace(services, predictor=predictor)

    def ask(rows: int) -> httpx.Response:
        return client.post("/v1/models/pets-cnn:predict", json={"instances": [ROW] * rows})

    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(ask, 1)
        waiting = threads.submit(lambda: wait_until(lambda: hasattr(maker, "engine")) and ask(2))
        wait_until(lambda: predictor.waiting_rows == 2)
        refused = ask(1)
        assert_problem(refused, 503, "overloaded")
        assert "Retry-After" in refused.headers
        assert_problem(running.result(), 504, "prediction-timeout")
        assert_problem(waiting.result(), 504, "prediction-timeout")
        maker.engine.free.set()
        wait_until(lambda: predictor.waiting_rows == 0)
        assert ask(1).status_code == 200
    predictor.close()
