"""One turn of a server: start it, check what it answers, load it, end it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np

from app.cli.stack import free_port
from benchmarks.serving.graphs import CASES, Case, expected, rows_of
from benchmarks.serving.load import Target, closed_loop, open_loop, write_message
from benchmarks.serving.processes import Tree, running
from benchmarks.serving.servers import Server
from benchmarks.serving.ways import Message, Way

TOLERANCE = 1e-5
CONNECTIONS = {"one": (1, 8, 32), "many": (8,), "large": (8,), "member": (32,)}
MOST_CONNECTIONS = 32
ROUNDS_OF_VARIANTS = 3
SHARES = (0.5, 0.8)
START_SECONDS = 120.0
REST_SECONDS = 1.0
# The other cases have this share of the time of the first.
_ASIDE = 0.3
# A server that takes less than this share of a core is at rest, and one that never is gets this long.
_AT_REST = 0.2
_SETTLE_SECONDS = 30.0
NOT_AVAILABLE = "not available"


class PeerFailedError(Exception):
    """A server did not start, or answered wrongly; the run goes on without it."""


@dataclass(frozen=True)
class Pace:
    """How long things are measured, in seconds."""

    load: float
    open_loop: float
    warm: float

    def of(self, case: Case) -> float:
        """Return how long one load of a case takes."""
        return self.load if case.name == "one" else self.load * _ASIDE


@dataclass
class Measured:
    """What is known of one server asked in one way; `closed[case][connections]` holds one entry for each round."""

    title: str
    starts: list[dict[str, float]] = field(default_factory=list)
    checks: dict[str, str] = field(default_factory=dict)
    closed: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: str | None = None

    def add(self, case: str, connections: int, entry: dict[str, Any]) -> None:
        """Note what one round measured."""
        self.closed.setdefault(case, {}).setdefault(str(connections), []).append(entry)

    @property
    def maximum(self) -> float:
        """Return the highest rate that one image a request came to, in requests a second."""
        entries = self.closed.get("one", {}).get(str(MOST_CONNECTIONS), [])
        return max((entry["requests_per_second"] for entry in entries), default=0.0)


def take_turn(
    server: Server, folder: Path, found: Mapping[str, Measured], pace: Pace, *, first: bool, last: bool
) -> None:
    """Measure one round of a server, into `found` by way; only the last round also sends at given rates."""
    with started(server, folder) as (tree, url, starts):
        for name, way in server.ways.items():
            measured = found[name]
            measured.starts.append(starts)
            cases = [CASES[case] for case in server.cases]
            available = [case for case in cases if _check(measured, way, case, url, folder)]
            _settle(tree)
            for case in available:
                _load(measured, way, case, (url, tree), pace, warm=pace.warm * (3 if first else 1))
            if last and measured.maximum:
                _send_at_rates(measured, way, url, pace)


def fastest(server: Server, folder: Path, *, seconds: float) -> Server:
    """Return the server as its fastest variant, by the median of short turns; one without variants as it is."""
    if not server.variants:
        return server
    tried = [replace(server, environment={**server.environment, **variant}) for variant in server.variants]
    rounds = [[_short_rate(variant, folder, seconds) for variant in tried] for _ in range(ROUNDS_OF_VARIANTS)]
    rates = [median(rates) for rates in zip(*rounds, strict=True)]
    place = rates.index(max(rates))
    return replace(tried[place], variants=(server.variants[place],))


def _short_rate(server: Server, folder: Path, seconds: float) -> float:
    """Return the requests/s of a warm server under a short load."""
    case, way = CASES["one"], next(iter(server.ways.values()))
    with started(server, folder) as (tree, url, _), _target(way, case, url) as target:
        closed_loop(target, tree, connections=MOST_CONNECTIONS, seconds=seconds)
        found = closed_loop(target, tree, connections=MOST_CONNECTIONS, seconds=seconds)
    rate: float = found["requests_per_second"]
    return rate


@contextmanager
def started(server: Server, folder: Path) -> Iterator[tuple[Tree, str, dict[str, float]]]:
    """Run a server; yield its processes, its address, and how it started."""
    port = free_port()
    began = time.perf_counter()
    command, variables = server.filled(server.command, folder, port), server.variables(folder, port)
    with running(command, variables, log=folder / f"{server.name}.log", cwd=server.here) as tree:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=20) as client:
            _wait_for(lambda: client.get(server.ready), tree, server.name)
            ready = time.perf_counter() - began
            time.sleep(REST_SECONDS)
            idle = tree.usage()
            way = next(iter(server.ways.values()))
            asked = time.perf_counter()
            _wait_for(lambda: _post(client, way.ask(CASES["one"], rows_of(CASES["one"]))), tree, server.name)
            starts = {
                "ready_seconds": ready,
                "first_answer_seconds": ready + time.perf_counter() - asked,
                "idle_resident_megabytes": idle.resident_bytes / 2**20,
                "idle_proportional_megabytes": idle.proportional_bytes / 2**20,
                "processes": idle.processes,
            }
        yield tree, url, starts


def _wait_for(ask: Any, tree: Tree, name: str) -> None:  # noqa: ANN401 - any request
    deadline = time.perf_counter() + START_SECONDS
    last = "nothing"
    while time.perf_counter() < deadline:
        if tree.child.poll() is not None:
            raise PeerFailedError(f"{name} ended with code {tree.child.returncode} instead of starting.")
        try:
            answer = ask()
        except httpx.TransportError as error:
            last = repr(error)
        else:
            if answer.status_code == httpx.codes.OK:
                return
            last = f"{answer.status_code} {answer.text[:200]}"
        time.sleep(0.02)
    raise PeerFailedError(f"{name} did not answer within {START_SECONDS:g} seconds; last it said {last}.")


def _settle(tree: Tree) -> None:
    """Wait for what a server still does after its first answers, such as choosing engines."""
    deadline = time.perf_counter() + _SETTLE_SECONDS
    busy = 1.0
    while busy > _AT_REST and time.perf_counter() < deadline:
        before, began = tree.usage(), time.perf_counter()
        time.sleep(0.5)
        busy = (tree.usage().processor_seconds - before.processor_seconds) / (time.perf_counter() - began)


def _post(client: httpx.Client, message: Message) -> httpx.Response:
    return client.post(message.path, content=message.body, headers=dict(message.headers))


def _check(measured: Measured, way: Way, case: Case, url: str, folder: Path) -> bool:
    """Compare the answer for a case with the one computed here; note and tell whether it is right."""
    rows = rows_of(case)
    with httpx.Client(base_url=url, timeout=60) as client:
        answer = _post(client, way.ask(case, rows))
    if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.NOT_IMPLEMENTED):
        measured.checks[case.name] = NOT_AVAILABLE
        return False
    measured.checks[case.name] = _difference(way, answer, expected(folder / "graphs" / f"{case.model}.onnx", rows))
    return measured.checks[case.name] == "equal"


def _difference(way: Way, answer: httpx.Response, wanted: np.ndarray) -> str:
    if answer.status_code != httpx.codes.OK:
        return f"failed: {answer.status_code} {answer.text[:200]}"
    try:
        given = way.read(answer.headers, answer.content)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return f"failed: unreadable, {error!r}"
    if given.shape != wanted.shape:
        return f"failed: shape {given.shape} instead of {wanted.shape}"
    largest = float(np.abs(given - wanted).max())
    return "equal" if largest <= TOLERANCE else f"failed: differs by {largest:.2g}"


@contextmanager
def _target(way: Way, case: Case, url: str) -> Iterator[Target]:
    with TemporaryDirectory() as folder:
        yield write_message(way.ask(case, rows_of(case)), url, Path(folder))


def _load(measured: Measured, way: Way, case: Case, where: tuple[str, Tree], pace: Pace, *, warm: float) -> None:
    url, tree = where
    with _target(way, case, url) as target:
        closed_loop(target, tree, connections=CONNECTIONS[case.name][-1], seconds=warm)
        for connections in CONNECTIONS[case.name]:
            _drain(way, url)
            entry = closed_loop(target, tree, connections=connections, seconds=pace.of(case))
            measured.add(case.name, connections, entry)
    _drain(way, url)


def _drain(way: Way, url: str) -> None:
    """Wait until a server is through with what the load before left in its queues."""
    case = CASES["one"]
    with httpx.Client(base_url=url, timeout=60) as client:
        _post(client, way.ask(case, rows_of(case)))


def _send_at_rates(measured: Measured, way: Way, url: str, pace: Pace) -> None:
    with _target(way, CASES["one"], url) as target:
        for share in SHARES:
            rate = share * measured.maximum
            _drain(way, url)
            found = open_loop(target, rate=rate, seconds=pace.open_loop)
            measured.open[f"{share:.0%}"] = {"requests_per_second": rate, **found}
