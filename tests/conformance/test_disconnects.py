"""Clients that go away: their work ends, nothing is counted as our fault, and the log stays silent."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conformance.contract_server import Server, serving
from tests.workers import until

BODY = b'{"instances": [[[[0.0], [1.0]], [[2.0], [3.0]]]]}'
HEAD = (
    "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    "Prefer: {prefer}\r\n\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("disconnects"), sqlite_template) as server:
        yield server


def send_and_leave(
    server: Server, method: str, path: str, body: bytes = b"", *, length: int | None = None, prefer: str = ""
) -> None:
    """Send a request, or a part of one, and close the connection at once, without reading an answer."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=10) as connection:
        head = HEAD.format(method=method, path=path, length=len(body) if length is None else length, prefer=prefer)
        connection.sendall(head.encode() + body)


def counted(server: Server, code: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    found = re.findall(rf'^leanfuse_http_requests_total{{code="{code}".*}} (\S+)$', text, flags=re.MULTILINE)
    return sum(map(float, found))


REQUESTS = [
    ("half a body of a prediction", "POST", "/v1/models/pets-mlp:predict", BODY[:20], len(BODY)),
    ("half a body of examples", "POST", "/v1/models/pets-mlp:classify", BODY[:20], len(BODY)),
    ("half a spec", "POST", "/v1/jobs", b'{"kind": ', 1000),
    ("half an upload", "POST", "/v1/datasets", b"--x\r\n", 100_000),
    ("a prediction", "POST", "/v1/models/pets-mlp:predict", BODY, None),
    ("an ensemble's predictions", "GET", "/v1/ensembles/pets-duo/predictions?dataset=pets", b"", None),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "length"), [case[1:] for case in REQUESTS], ids=[case[0] for case in REQUESTS]
)
def test_who_leaves_is_no_error_of_ours(
    server: Server, method: str, path: str, body: bytes, length: int | None
) -> None:
    log = server.log
    for _ in range(5):
        send_and_leave(server, method, path, body, length=length)
    answer = httpx.post(f"{server.url}/v1/models/pets-mlp:predict", content=BODY)
    assert answer.status_code == 200
    assert counted(server, "5..") == 0
    assert server.log == log


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    """Submit a job that nobody works on."""
    spec = {"kind": "train", "name": "a", "dataset": "pets", "architecture": {"type": "mlp"}}
    answer = httpx.post(f"{server.url}/v1/jobs", json={**spec, "training": {"batch_size": 4}})
    found: str = answer.json()["id"]
    return found


def ended(server: Server, code: str, route: str) -> bool:
    """Tell whether a request of this route has ended: only then it is counted."""
    return f'code="{code}",method="GET",route="{route}"' in httpx.get(f"{server.url}/metrics").text


def test_a_stream_ends_when_nobody_follows(server: Server, job: str) -> None:
    log = server.log
    with httpx.stream("GET", f"{server.url}/v1/jobs/{job}/events") as stream:
        next(stream.iter_lines())
    until(lambda: ended(server, "200", "/v1/jobs/{job_id}/events"), seconds=20)
    assert server.log == log


def test_waiting_for_a_job_ends_when_nobody_waits(server: Server, job: str) -> None:
    log = server.log
    send_and_leave(server, "GET", f"/v1/jobs/{job}", prefer="wait=60")
    until(lambda: ended(server, "499", "/v1/jobs/{job_id}"), seconds=20)
    assert counted(server, "5..") == 0
    assert server.log == log
