"""Jobs that follow themselves, and requests that are repeated where that is safe."""

import doctest
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import __version__
from app.client import Client, Job, connection
from app.domain.errors import (
    AlreadyExistsError,
    LeanfuseError,
    PreconditionFailedError,
    ResultNotReadyError,
    UnavailableError,
)
from app.domain.job_errors import TrainingDivergedError

Handler = Callable[[httpx.Request], httpx.Response]
RESULT = {"name": "digits-cnn", "version": 3, "state": "ready", "url": ""}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note how long the client would wait, and go on at once."""
    noted: list[float] = []
    monkeypatch.setattr(connection.time, "sleep", noted.append)
    return noted


def talking_to(handler: Handler, **options: Any) -> Client:
    return Client("http://leanfuse.test", transport=httpx.MockTransport(handler), **options)


def document(state: str, **members: Any) -> dict[str, Any]:
    progress = {"step": 1, "total_steps": 2, "fraction": 0.5}
    return {"id": "7", "name": "digits-cnn", "state": state, "result": None, "error": None, **members} | {
        "progress": progress
    }


def answering(*documents: dict[str, Any]) -> Handler:
    left = list(documents)
    return lambda _: httpx.Response(200, json=left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize("module", ["app.client.events", "app.client.arrays", "app.client.served", "app.cli.charts"])
def test_examples_in_docstrings_hold(module: str) -> None:
    # Names of other modules that an example may use.
    names = {"parse_reference": import_module("app.domain.references").parse_reference}
    outcome = doctest.testmod(import_module(module), extraglobs=names)
    assert (outcome.failed, outcome.attempted > 0) == (0, True)


def test_a_job_is_its_document_and_more() -> None:
    job = talking_to(answering(document("running"))).jobs.get("7")
    assert isinstance(job, Job)
    assert job == document("running")
    assert json.loads(json.dumps(job))["id"] == job.id == "7"
    assert (job.name, job.state, job.done, job.progress["fraction"]) == ("digits-cnn", "running", False, 0.5)


def test_a_job_waits_and_tells_its_progress() -> None:
    seen: list[str] = []
    handler = answering(document("queued"), document("running"), document("succeeded", result=RESULT))
    job = talking_to(handler).jobs.get("7")
    finished = job.wait(progress=lambda told: seen.append(told.state))
    assert finished is job
    assert seen == ["running", "succeeded"]
    assert (job.done, job.reference) == (True, "digits-cnn/3")


def test_a_job_that_is_not_done_has_no_reference() -> None:
    with pytest.raises(ResultNotReadyError, match="running"):
        _ = talking_to(answering(document("running"))).jobs.get("7").reference


def test_a_failed_job_raises_its_error_where_its_model_is_wanted() -> None:
    problem = {
        "type": "/problems/training-diverged",
        "status": 500,
        "detail": "The loss became NaN.",
        "hint": "Slower.",
    }
    job = talking_to(answering(document("failed", error=problem))).jobs.get("7")
    assert isinstance(job.error, TrainingDivergedError)
    with pytest.raises(TrainingDivergedError, match="NaN"):
        _ = job.reference


def test_a_job_is_cancelled_refreshed_and_submitted_again() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        is_new = request.url.path.endswith(":retry")
        return httpx.Response(200, json=document("cancelled") | ({"id": "8"} if is_new else {}))

    job = Job(document("running"), talking_to(answer).jobs)
    assert job.cancel().state == "cancelled"
    assert job.refresh() is job
    assert job.retry().id == "8"
    assert asked == ["POST /v1/jobs/7:cancel", "GET /v1/jobs/7", "POST /v1/jobs/7:retry"]


def test_a_time_at_which_to_come_back_is_waited_for(pauses: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    answers = iter([httpx.Response(503, headers={"Retry-After": soon}), httpx.Response(200, json={})])
    talking_to(lambda _: next(answers)).version()
    assert len(pauses) == 1
    assert 0 < pauses[0] <= 20


@pytest.mark.parametrize("told", ["99999", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5"])
def test_no_pause_is_longer_than_half_a_minute_nor_negative(told: str, pauses: list[float]) -> None:
    answers = iter([httpx.Response(429, headers={"Retry-After": told}), httpx.Response(200, json={})])
    talking_to(lambda _: next(answers)).version()
    assert 0 <= pauses[0] <= connection.LONGEST_RETRY_SECONDS


def test_an_upload_is_sent_whole_again_under_the_same_key(tmp_path: Path) -> None:
    keys: list[str] = []
    (tmp_path / "forest.onnx").write_bytes(b"the whole graph")

    def lose_the_first_answer(request: httpx.Request) -> httpx.Response:
        assert b"the whole graph" in request.read()
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadError("lost", request=request)
        return httpx.Response(202, json=document("queued"))

    job = talking_to(lose_the_first_answer).models.import_onnx(tmp_path / "forest.onnx", name="f", dataset="digits")
    assert job.state == "queued"
    assert len(keys) == 2
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    "send",
    [
        lambda client: client.jobs.retry("7"),
        lambda client: client.models.promote("pets", "champion", require={}),
        lambda client: client.models.roll_back("pets", "champion"),
    ],
    ids=["retry", "promote", "roll_back"],
)
def test_what_may_not_be_done_twice_is_sent_once(send: Callable[[Client], object], pauses: list[float]) -> None:
    client = talking_to(lambda _: httpx.Response(503, json={"type": "/problems/unavailable", "status": 503}))
    with pytest.raises(UnavailableError):
        send(client)
    assert pauses == []


def test_every_request_says_who_asks_and_carries_the_headers_given() -> None:
    asked: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers)
        return httpx.Response(200, json={})

    talking_to(answer, headers={"Authorization": "Bearer secret"}).version()
    assert asked[0]["User-Agent"] == f"leanfuse-client/{__version__}"
    assert asked[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(("code", "kind"), [(409, AlreadyExistsError), (412, PreconditionFailedError)])
def test_errors_of_the_open_inference_protocol_are_read(code: int, kind: type[LeanfuseError]) -> None:
    import numpy as np

    with pytest.raises(LeanfuseError, match="tensor `y`") as caught:
        talking_to(lambda _: httpx.Response(code, json={"error": "tensor `y` is not known"})).models["m"].infer(
            np.zeros((1, 2), np.float32)
        )
    assert caught.value.code == kind.code
