"""Send requests when they are due, whatever became of those before: `python -m benchmarks.serving.open_loop URL ...`.

Arrivals are a Poisson process with a fixed seed. A request that finds no free connection waits here, and that wait is
part of its latency, as is any lateness of this client itself: nothing is left out that a user would feel (the mistake
known as coordinated omission).
"""

import argparse
import asyncio
import json
import selectors
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import numpy as np

CONNECTIONS = 64
PATIENCE_SECONDS = 10.0


@dataclass
class Run:
    """One run: requests that wait for a connection, connections that wait for a request, and what was measured."""

    message: bytes
    total: int
    idle: list["Connection"] = field(default_factory=list)
    waiting: deque[float] = field(default_factory=deque)
    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    errors: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def due(self, at: float) -> None:
        """Send a request that is due, or let it wait for a connection."""
        self.late.append(time.perf_counter() - at)
        if self.idle:
            self.idle.pop().send(at)
        else:
            self.waiting.append(at)

    def free(self, connection: "Connection") -> None:
        """Give a connection its next request."""
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.idle.append(connection)

    def count(self, at: float, *, ok: bool) -> None:
        """Note an answer to the request that was due then."""
        self.latencies.append(time.perf_counter() - at)
        self.errors += not ok
        if len(self.latencies) == self.total:
            self.done.set()


class Connection(asyncio.Protocol):
    """A kept connection with at most one request on the way."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._at: float | None = None
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part."""
        self._transport = transport
        self._run.free(self)

    def send(self, at: float) -> None:
        """Send the request that was due at `at`."""
        self._at = at
        self._transport.write(self._run.message)

    def data_received(self, data: bytes) -> None:
        """Read a part of an answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Count the answer (called by the parser)."""
        if self._at is not None:
            at, self._at = self._at, None
            self._run.count(at, ok=self._parser.get_status_code() == 200)
        self._parser = httptools.HttpResponseParser(self)
        self._run.free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Count a request without an answer; the others go on with one connection less."""
        if self in self._run.idle:
            self._run.idle.remove(self)
        if self._at is not None:
            self._run.count(self._at, ok=False)


def request_bytes(url: str, headers: str, body: bytes) -> bytes:
    """Return the request as it goes over the wire."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers.splitlines(), "", ""]).encode() + body


def arrivals(rate: float, seconds: float, *, seed: int = 0) -> list[float]:
    """Return when requests are due, in seconds from the start: exponential gaps, the mean rate exact."""
    count = max(1, round(rate * seconds))
    gaps = np.random.default_rng(seed).exponential(size=count)
    times: list[float] = (np.cumsum(gaps) * (seconds / gaps.sum())).tolist()
    return times


async def send_all(url: str, message: bytes, times: Sequence[float]) -> Run:
    """Send a request at each of the times; wait for the answers, but not for ever."""
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    run = Run(message, len(times))
    opening = [loop.create_connection(lambda: Connection(run), parts.hostname, parts.port) for _ in range(CONNECTIONS)]
    opened = await asyncio.gather(*opening)
    started = time.perf_counter() + 0.05
    for at in times:
        due = started + at
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        run.due(due)
    try:
        await asyncio.wait_for(run.done.wait(), PATIENCE_SECONDS)
    except TimeoutError:
        run.errors += run.total - len(run.latencies)
    for transport, _ in opened:
        transport.abort()
    return run


def summary(run: Run) -> dict[str, Any]:
    """Return latencies in milliseconds; what was never answered counts among the errors alone."""
    latencies = np.array(run.latencies or [PATIENCE_SECONDS]) * 1000
    p50, p99 = np.percentile(latencies, (50, 99))
    late_ms = float(np.percentile(run.late, 99)) * 1000
    return {"sent": run.total, "errors": run.errors, "p50_ms": p50, "p99_ms": p99, "client_late_p99_ms": late_ms}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a program of its own, so that the client shares no interpreter with anything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.open_loop", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("headers", type=Path)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args(arguments)
    message = request_bytes(options.url, options.headers.read_text(encoding="utf-8"), options.body.read_bytes())
    times = arrivals(options.rate, options.seconds)
    # `epoll` and uvloop wake in whole milliseconds, `select` in microseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        run = runner.run(send_all(options.url, message, times))
    json.dump(summary(run), sys.stdout)


if __name__ == "__main__":
    main()
