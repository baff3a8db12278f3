import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client import Client, Event, connection, parse_events
from app.domain.error_tree import all_errors
from app.domain.errors import (
    DatasetNotFoundError,
    JobAlreadyFinishedError,
    LeanfuseError,
    ModelNotFoundError,
    UnavailableError,
    UnreachableError,
    VersionRejectedError,
)

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.time, "sleep", lambda _seconds: None)


def talking_to(handler: Handler) -> Client:
    return Client("http://leanfuse.test", transport=httpx.MockTransport(handler))


def problem(kind: type[LeanfuseError], **members: object) -> httpx.Response:
    body = {"type": f"/problems/{kind.slug}", "status": kind.code, "title": kind.title, "detail": "why", **members}
    return httpx.Response(kind.code, json=body)


@pytest.mark.parametrize("kind", list(all_errors()), ids=lambda kind: kind.slug)
def test_every_problem_is_raised_as_the_error_of_its_slug(kind: type[LeanfuseError]) -> None:
    errors = [{"pointer": "/name", "detail": "too long", "type": "invalid-name"}]
    with pytest.raises(kind) as caught:
        talking_to(lambda _: problem(kind, hint="how", errors=errors)).datasets.get("digits")
    assert type(caught.value).slug == kind.slug
    assert (caught.value.detail, caught.value.hint, caught.value.errors[0].pointer) == ("why", "how", "/name")


def test_an_unknown_problem_is_raised_as_an_error_of_its_code() -> None:
    with pytest.raises(LeanfuseError) as caught:
        talking_to(lambda _: httpx.Response(404, json={"type": "/problems/new-in-2031"})).datasets.get("digits")
    assert caught.value.code == 404


def test_an_answer_that_is_no_problem_document_still_tells_what_happened() -> None:
    with pytest.raises(LeanfuseError, match="answered 502"):
        talking_to(lambda _: httpx.Response(502, text="<html>")).datasets.get("digits")


def test_a_busy_service_is_asked_again_after_the_time_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(connection.time, "sleep", pauses.append)
    answers = iter([problem_with_retry("3"), httpx.Response(200, json={"name": "digits"})])
    assert talking_to(lambda _: next(answers)).datasets.get("digits") == {"name": "digits"}
    assert pauses == [3.0]


def problem_with_retry(seconds: str) -> httpx.Response:
    response = problem(UnavailableError)
    response.headers["Retry-After"] = seconds
    return response


def test_a_service_that_stays_busy_is_given_up() -> None:
    calls = count()

    def busy(_request: httpx.Request) -> httpx.Response:
        next(calls)
        return problem(UnavailableError)

    with pytest.raises(UnavailableError):
        talking_to(busy).datasets.get("digits")
    assert next(calls) == connection.TRIES


def test_a_repeated_submit_carries_the_same_idempotency_key() -> None:
    keys: list[str] = []

    def lose_the_first_answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadTimeout("lost", request=request)
        return httpx.Response(202, json={"id": "1"})

    assert talking_to(lose_the_first_answer).jobs.submit({"kind": "train"}) == {"id": "1"}
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_nothing_at_the_address_is_told_with_a_hint() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(UnreachableError) as caught:
        talking_to(refuse).version()
    assert "leanfuse up" in caught.value.hint


def test_a_list_is_read_page_by_page() -> None:
    def pages(request: httpx.Request) -> httpx.Response:
        token = request.url.params.get("page_token", "")
        return httpx.Response(200, json={"jobs": [{"id": token or "a"}], "next_page_token": "" if token else "b"})

    assert [job["id"] for job in talking_to(pages).jobs.list(state="queued")] == ["a", "b"]


def test_a_rejected_version_is_promoted_only_by_force() -> None:
    bodies: list[dict[str, object]] = []

    def note(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={}) if bodies[-1].get("force") else problem(VersionRejectedError)

    client = talking_to(note)
    with pytest.raises(VersionRejectedError):
        client.models.set_alias("digits-cnn", "champion", 3)
    client.models.set_alias("digits-cnn", "champion", 3, force=True)
    assert bodies == [{"version": 3}, {"version": 3, "force": True}]


def test_a_comparison_names_several_costs_and_its_limits() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"query": request.url.params.multi_items()})

    asked = talking_to(answer).models.compare(
        x=["bytes", "latency"], max_bytes=1000, dataset=None, include_rejected=True
    )
    wanted = [("include_rejected", "true"), ("max_bytes", "1000"), ("x", "bytes"), ("x", "latency")]
    assert sorted(map(tuple, asked["query"])) == wanted


def test_events_resume_after_the_last_one_when_the_connection_breaks() -> None:
    seen: list[str] = []

    def break_once(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Last-Event-ID", ""))
        if len(seen) == 1:
            return httpx.Response(200, stream=BrokenStream(b'id: 7\nevent: progress\ndata: {"step": 1}\n\n'))
        return httpx.Response(200, text='id: 8\nevent: done\ndata: {"state": "succeeded"}\n\n')

    events = list(talking_to(break_once).jobs.events("1"))
    assert [event.name for event in events] == ["progress", "done"]
    assert seen == ["", "7"]


class BrokenStream(httpx.SyncByteStream):
    def __init__(self, first: bytes) -> None:
        self._first = first

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        raise httpx.ReadError("connection reset")


def test_waiting_asks_until_the_job_is_done() -> None:
    states = iter(["queued", "running", "succeeded"])
    client = talking_to(lambda _: httpx.Response(200, json={"state": next(states)}))
    assert client.jobs.wait("1")["state"] == "succeeded"


def test_waiting_ends_after_its_time() -> None:
    client = talking_to(lambda _: httpx.Response(200, json={"state": "running"}))
    with pytest.raises(TimeoutError, match="still running"):
        client.jobs.wait("1", timeout_seconds=0)


def test_cancelling_a_finished_job_is_a_conflict() -> None:
    with pytest.raises(JobAlreadyFinishedError):
        talking_to(lambda _: problem(JobAlreadyFinishedError)).jobs.cancel("1")


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("digits-cnn", "/v1/models/digits-cnn:predict"),
        ("digits-cnn/3", "/v1/models/digits-cnn/versions/3:predict"),
        ("digits-cnn@champion", "/v1/models/digits-cnn/labels/champion:predict"),
    ],
)
def test_a_reference_becomes_the_path_of_tensorflow_serving(reference: str, path: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        assert json.loads(request.content) == {"instances": [[1.0]], "members": True}
        return httpx.Response(200, json={"predictions": [[1.0]]})

    talking_to(answer).models.predict(reference, [[1.0]], members=True)
    assert asked == [path]


def test_query_parameters_leave_out_what_was_not_said() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url.query, "ascii"))
        return httpx.Response(200, json={"predictions": []})

    client = talking_to(answer)
    client.ensembles.predictions("trio@champion", dataset="digits", limit=2, members=True)
    client.ensembles.predictions("trio", x=["1,2", "3,4"])
    assert asked == ["alias=champion&dataset=digits&set=report&offset=0&limit=2&members=true", "x=1%2C2&x=3%2C4"]


def test_comments_are_skipped_and_data_lines_are_joined() -> None:
    lines = [
        ": alive",
        "",
        "id: 1",
        "event: log",
        'data: {"text":',
        'data: "two lines"}',
        "",
        'data: {"unfinished": 1}',
    ]
    assert list(parse_events(lines)) == [Event("1", "log", {"text": "two lines"})]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["state", "progress", "metric", "log", "done"]),
            st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False), max_size=4),
        ),
        max_size=8,
    )
)
def test_events_survive_the_wire(sent: list[tuple[str, dict[str, object]]]) -> None:
    lines: list[str] = []
    for number, (name, data) in enumerate(sent, 1):
        lines += [f"id: {number}", f"event: {name}", f"data: {json.dumps(data)}", "", ": alive", ""]
    expected = [Event(str(number), name, data) for number, (name, data) in enumerate(sent, 1)]
    assert list(parse_events(lines)) == expected


def test_not_found_errors_differ_by_what_was_not_found() -> None:
    with pytest.raises(ModelNotFoundError):
        talking_to(lambda _: problem(ModelNotFoundError)).models.get("x")
    with pytest.raises(DatasetNotFoundError):
        talking_to(lambda _: problem(DatasetNotFoundError)).jobs.submit({})


def test_an_onnx_file_is_sent_as_a_form_with_its_options(tmp_path: Path) -> None:
    asked = list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        asked.append(request)
        return httpx.Response(202, json={"id": "1"})

    (tmp_path / "forest.onnx").write_bytes(b"graph")
    job = talking_to(answer).models.import_onnx(
        tmp_path / "forest.onnx", name="forest", dataset="digits", options={"classes": ["a", "b"]}
    )
    assert job == {"id": "1"}
    assert (asked[0].method, asked[0].url.path) == ("POST", "/v1/models")
    assert json.dumps({"name": "forest", "dataset": "digits", "classes": ["a", "b"]}).encode() in asked[0].content
    assert b'filename="forest.onnx"' in asked[0].content
