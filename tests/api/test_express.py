"""Predictions that are answered before routing: as the routes would, and dropped when nobody waits any more."""

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.testclient import TestClient

from app.api import express
from app.api.express import Express, Lane
from tests.api.builders import ROW

PATHS = [
    "models/pets-cnn",
    "models/pets-cnn/versions/1",
    "models/pets-duo/labels/nobody",
    "models/pets-cnn/versions/7",
    "ensembles/pets-duo",
    "ensembles/pets-duo/versions/1",
    "ensembles/pets-cnn",
]
BODIES: list[Any] = [
    {"instances": [ROW]},
    {"instances": [ROW], "members": True},
    {"instances": [[1]]},
    {"inputs": [ROW]},
    [],
]


@pytest.mark.parametrize("path", PATHS)
def test_express_answers_as_the_documented_routes_do(
    refusing: TestClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = [refusing.post(f"/v1/{path}:predict", json=body) for body in BODIES]

    async def pass_on(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    monkeypatch.setattr(Express, "__call__", pass_on)
    for body, answer in zip(BODIES, quick, strict=True):
        routed = refusing.post(f"/v1/{path}:predict", json=body)
        assert answer.status_code == routed.status_code
        own = {"instance", "request_id"}
        assert {key: value for key, value in answer.json().items() if key not in own} == {
            key: value for key, value in routed.json().items() if key not in own
        }


def test_express_requests_are_counted_under_a_route(refusing: TestClient) -> None:
    refusing.post("/v1/models/pets-cnn:predict", json={"instances": [ROW]})
    assert 'route="/v1/models/{name}:predict"' in refusing.get("/metrics").text


def serve(messages: list[dict[str, Any]], work: Any) -> list[Any]:
    """Run one request whose client sends these messages and then nothing more; return what was sent back."""
    sent: list[Any] = []
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if len(waiting) == 1 and waiting[0]["type"] == "http.disconnect":
            await asyncio.sleep(0.05)
        if waiting:
            return waiting.pop(0)
        await asyncio.sleep(60)
        raise AssertionError("nobody waits so long")

    async def send(message: Any) -> None:
        sent.append(message)

    async def handle(wired: Any, found: Any, body: bytes, headers: Any) -> Response:
        return await work(body)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/go",
        "headers": [],
        "state": {"request_id": "r"},
        "app": SimpleNamespace(state=SimpleNamespace(services=None)),
    }
    app = Express(lambda *_: None, lanes=[Lane(re.compile("/go"), "/go", handle)], gate=lambda answer: answer)  # type: ignore[arg-type,return-value]
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return sent


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


def test_a_body_in_parts_is_read_as_one() -> None:
    async def work(content: bytes) -> Response:
        return Response(content)

    sent = serve([body(b"one ", more=True), body(b"two ", more=True), body(b"three")], work)
    assert sent[1]["body"] == b"one two three"


def test_the_work_for_a_client_that_has_left_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(express, "_WATCH_AFTER_SECONDS", 0.01)
    cancelled: list[bool] = []

    async def work(_content: bytes) -> Response:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError("the work went on")

    with pytest.raises(ClientDisconnect):
        serve([body(b"x"), {"type": "http.disconnect"}], work)
    assert cancelled == [True]


def test_a_body_that_breaks_off_is_not_worked_on() -> None:
    async def work(_content: bytes) -> Response:
        raise AssertionError("there is nothing to work on")

    with pytest.raises(ClientDisconnect):
        serve([body(b"x", more=True), {"type": "http.disconnect"}], work)
