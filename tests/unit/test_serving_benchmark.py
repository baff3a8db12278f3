"""The serving benchmark: requests that servers can read, late answers that count, targets that can be missed."""

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import processes
from benchmarks.serving.graphs import CASES, rows_of
from benchmarks.serving.open_loop import arrivals, request_bytes, send_all, summary
from benchmarks.serving.servers import OURS, SERVERS
from benchmarks.serving.table import page
from benchmarks.serving.targets import targets
from benchmarks.serving.ways import instances, read_tensor_binary, tensor_binary, tensor_json

ONE = CASES["one"]
MANY = CASES["many"]


def subject(**given: object) -> dict:
    return {"title": "A", "starts": [], "checks": {}, "closed": {}, "open": {}, "failed": None, **given}


def loaded(rate: float, *, case: str = "one", connections: int = 32) -> dict:
    entry = {
        "requests_per_second": rate,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "errors": 0,
        "processor_seconds_per_1000": 0.5,
        "proportional_megabytes": 100.0,
    }
    return {case: {str(connections): [entry]}}


def results(**subjects: dict) -> dict:
    machine = {"processor": "P", "cores": 2, "python": "3.11", "load_average_before": [0.1]}
    named = {name.replace("_", " "): item for name, item in subjects.items()}
    return {"machine": machine, "settings": {"rounds": 1, "seconds": 1}, "subjects": named}


@pytest.mark.parametrize("case", [ONE, MANY])
def test_json_and_binary_requests_carry_the_same_numbers(case):
    rows = rows_of(case)
    nested = np.array(json.loads(instances("/p")(case, rows).body)["instances"], np.float32)
    flat = np.array(json.loads(tensor_json("/p")(case, rows).body)["inputs"][0]["data"], np.float32)
    message = tensor_binary(case, rows)
    length = int(message.headers["Inference-Header-Content-Length"])
    binary = np.frombuffer(message.body[length:], "<f4").reshape(rows.shape)
    for read in (nested, flat.reshape(rows.shape), binary):
        np.testing.assert_array_equal(read, rows)


def test_a_binary_answer_is_read_behind_its_json():
    data = np.arange(6, dtype="<f4")
    head = {"outputs": [{"shape": [2, 3], "parameters": {"binary_data_size": 24}}]}
    text = json.dumps(head).encode()
    found = read_tensor_binary({"inference-header-content-length": str(len(text))}, text + data.tobytes())
    np.testing.assert_array_equal(found, data.reshape(2, 3))


def test_requests_are_due_at_the_asked_rate_and_not_in_step():
    times = arrivals(200.0, 5.0)
    assert len(times) == 1000
    assert times[-1] == pytest.approx(5.0)
    assert np.std(np.diff(times)) == pytest.approx(1 / 200, rel=0.2)


class Slow(asyncio.Protocol):
    """Answer one request at a time, of all connections, each after `seconds`; after `most` of them hang up."""

    def __init__(self, *, code: int, seconds: float, most: int, turn: asyncio.Lock) -> None:
        self._answer = f"HTTP/1.1 {code} Told\r\nContent-Length: 2\r\n\r\nok".encode()
        self._seconds, self._left, self._turn = seconds, most, turn

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\nhi")
        self._task = asyncio.ensure_future(self._reply())

    async def _reply(self) -> None:
        async with self._turn:
            await asyncio.sleep(self._seconds)
        self._left -= 1
        self._transport.close() if self._left < 0 else self._transport.write(self._answer)


def send(times: list[float], *, code: int = 200, seconds: float = 0.0, most: int = 100) -> dict:
    """Send a request at each of the times to a slow server, and return what the client measured."""

    async def run() -> dict:
        loop, turn = asyncio.get_running_loop(), asyncio.Lock()
        make = partial(Slow, code=code, seconds=seconds, most=most, turn=turn)
        async with await loop.create_server(make, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            found = await send_all(url, request_bytes(url, "A: b\n", b"hi"), times)
            await asyncio.sleep(0.1)  # lets the server see that its clients have gone
        return summary(found)

    return asyncio.run(run())


def test_waiting_behind_slow_answers_counts_as_latency():
    found = send([0.0] * 10, seconds=0.02)
    assert (found["sent"], found["errors"]) == (10, 0)
    assert found["p99_ms"] > 9 * 20


def test_more_requests_than_connections_wait_and_are_all_answered():
    found = send([0.0] * 200)
    assert (found["sent"], found["errors"]) == (200, 0)


def test_a_refusal_is_an_error():
    assert send([0.0, 0.01], code=503)["errors"] == 2


def test_a_connection_that_breaks_is_an_error_and_the_others_go_on():
    # The connection used last is used next: its second request finds nobody.
    assert send([0.0, 0.1, 0.2], most=1)["errors"] == 1


def test_a_server_is_known_with_its_children_and_ends_with_them(tmp_path: Path):
    program = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
    program += "start_new_session=True); print('started', flush=True); time.sleep(60)"
    log = tmp_path / "log"
    with processes.running([sys.executable, "-c", program], {}, log=log, cwd=tmp_path) as tree:
        while b"started" not in log.read_bytes():
            assert tree.child.poll() is None
        pids, usage = tree.pids(), tree.usage()
        assert len(pids) == usage.processes == 2
        assert usage.resident_bytes >= usage.proportional_bytes > 2**20
    assert tree.pids() == []
    assert os.getpid() not in pids


def test_targets_compare_with_the_same_run():
    ours = subject(closed=loaded(3500.0) | loaded(5000.0, case="member"), open={"50%": {"p99_ms": 12.0}})
    run = results(leanfuse_json=ours, mlserver_json=subject(closed=loaded(1000.0)))
    found = {target.text: target for target in targets(run)}
    json_rate = found["JSON, 32 connections, against MLServer"]
    assert (json_rate.measured, json_rate.holds(3), json_rate.holds(5)) == (3.5, True, False)
    late = found["p99 at 50 % of its own maximum, JSON"]
    assert (late.holds(late.first), late.holds(late.then)) == (False, False)
    assert found["binary, 32 connections, against MLServer's JSON"].holds(4) is None


def test_the_page_says_who_failed_and_what_falls_short():
    failed = subject(title="B", checks={"one": "failed: differs by 0.2"})
    text = page(
        results(leanfuse_json=subject(closed=loaded(2000.0)), mlserver_json=subject(closed=loaded(1000.0)), b=failed)
    )
    assert "B (`b`): one: failed: differs by 0.2." in text
    assert "| JSON, 32 connections, against MLServer | 2x | at least 3x | **falls short** |" in text
    assert "| A | 32 | 2,000 (2,000 to 2,000) | 1.0 | 2.0 | 0 | 0.50 |" in text


def test_every_peer_is_pinned():
    for server in SERVERS.values():
        if server.name != OURS:
            pins = server.requirements.read_text(encoding="utf-8").split()
            assert all("==" in pin for pin in pins), server.name
            assert any(pin.startswith("onnxruntime==") for pin in pins)
