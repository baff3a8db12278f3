"""Many followers of one job's events: what they cost an API process, and how long news takes to reach them all."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from sqlalchemy import update

from app.cli.stack import free_port
from app.db import migrate
from app.db.attempts import claim
from app.db.events import NewEvent, write_events
from app.db.session import Sessions, create_engine_for, make_sessions
from app.db.tables import Job
from app.domain.jobs import Timing
from benchmarks.scale.filling import add_jobs
from benchmarks.serving.processes import Tree, running

ROOT = Path(__file__).parents[2]
EVENTS = 5
QUIET_SECONDS = 5.0
PATIENCE_SECONDS = 60.0


@dataclass
class Crowd:
    """Followers that have connected, and when each of them heard of each piece of news."""

    wanted: int
    connected: int = 0
    heard: dict[str, list[float]] = field(default_factory=dict)

    def read(self, data: bytes) -> None:
        """Note the news in a part of a stream."""
        at = time.perf_counter()
        for line in data.splitlines():
            if line.startswith(b"data: ") and b"news" in line:
                self.heard.setdefault(json.loads(line[6:])["text"], []).append(at)

    async def wait(self, reached: Any) -> bool:  # noqa: ANN401 - a condition
        """Wait until a condition holds; tell whether it came to hold."""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while not reached() and time.perf_counter() < deadline:  # noqa: ASYNC110 - the conditions are many
            await asyncio.sleep(0.01)
        return bool(reached())


def measure_followers(folder: Path, *, followers: int) -> dict[str, Any]:
    """Run the API on a fresh home, let followers connect, and write events while they listen."""
    home = folder / "followed"
    home.mkdir(parents=True)
    database_url = f"sqlite:///{home / 'leanfuse.db'}"
    migrate.upgrade(database_url)
    engine = create_engine_for(database_url)
    sessions = make_sessions(engine)
    add_jobs(sessions, 1)
    job = claim(sessions, "benchmark", timing=Timing(lease_seconds=3600))
    if job is None:
        raise RuntimeError("The job that was just queued is not there to be claimed.")
    port = free_port()
    program = [str(Path(sys.prefix) / "bin" / "leanfuse"), "up", "--no-worker", "--host", "127.0.0.1"]
    command = [*program, "--port", str(port), "--home", str(home)]
    variables = {"LEANFUSE_LOG_LEVEL": "warning", "LEANFUSE_DATABASE_URL": "", "LEANFUSE_STORE_URL": ""}
    with running(command, variables, log=home / "service.log", cwd=ROOT) as tree:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", tree)
        found = asyncio.run(_follow(port, job.lease.job_id, sessions, tree, followers))
    engine.dispose()
    return found


def wait_until_ready(url: str, tree: Tree) -> None:
    """Wait until the service answers; raise RuntimeError when it ends before."""
    for _ in range(600):
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        if tree.child.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("The API did not start.")


async def _follow(port: int, job_id: str, sessions: Sessions, tree: Tree, followers: int) -> dict[str, Any]:
    crowd, before = Crowd(followers), tree.usage()
    listening = [asyncio.create_task(_listen(port, job_id, crowd)) for _ in range(followers)]
    began = time.perf_counter()
    all_connected = await crowd.wait(lambda: crowd.connected == followers)
    connected_seconds = time.perf_counter() - began
    after, quiet = await _use_while_quiet(tree)
    spread = [await _tell(sessions, job_id, crowd, f"news {number}") for number in range(EVENTS)]
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    reached = [seconds for seconds in spread if seconds is not None]
    return {
        "followers": followers,
        "all_connected": all_connected,
        "connected_seconds": round(connected_seconds, 2),
        "processor_while_quiet": round(quiet, 2),
        "megabytes_per_1000": round((after - before.resident_bytes) / 2**20 * 1000 / followers, 1),
        "news_told": EVENTS,
        "news_that_reached_all": len(reached),
        "seconds_to_reach_all": round(median(reached), 3) if reached else None,
    }


async def _use_while_quiet(tree: Tree) -> tuple[int, float]:
    """Return memory in bytes, and the share of a core that following takes while nothing happens."""
    before, began = tree.usage(), time.perf_counter()
    await asyncio.sleep(QUIET_SECONDS)
    after = tree.usage()
    busy = after.processor_seconds - before.processor_seconds
    return after.resident_bytes, busy / (time.perf_counter() - began)


async def _listen(port: int, job_id: str, crowd: Crowd) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    try:
        await reader.readuntil(b"\r\n\r\n")
        crowd.connected += 1
        while data := await reader.read(65536):
            crowd.read(data)
    finally:
        writer.close()


async def _tell(sessions: Sessions, job_id: str, crowd: Crowd, news: str) -> float | None:
    """Write an event; return how long it took until the last follower had it, None where some never did."""
    began = time.perf_counter()
    await asyncio.to_thread(_write, sessions, job_id, news)
    if await crowd.wait(lambda: len(crowd.heard.get(news, ())) == crowd.wanted):
        return max(crowd.heard[news]) - began
    return None


def _write(sessions: Sessions, job_id: str, news: str) -> None:
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(step=Job.step + 1))
        write_events(session, job_id, [NewEvent("log", {"text": news})])
