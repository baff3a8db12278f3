"""Load a server: `wrk` as fast as it answers, `open_loop` at a given rate. Both send the same bytes again and again."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.processes import Tree
from benchmarks.serving.ways import Message

_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Target:
    """A message in files, and who gets it."""

    url: str
    body: Path
    headers: Path


def write_message(message: Message, base_url: str, folder: Path) -> Target:
    """Write down a message for the load generators, which are programs of their own."""
    body, headers = folder / "body", folder / "headers"
    body.write_bytes(message.body)
    headers.write_text("".join(f"{name}: {value}\n" for name, value in message.headers.items()), encoding="utf-8")
    return Target(base_url + message.path, body, headers)


def check_wrk() -> None:
    """Leave with a message when there is no `wrk`."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed. Get it with `apt-get install wrk` or `brew install wrk`.")


def closed_loop(target: Target, tree: Tree, *, connections: int, seconds: float) -> dict[str, Any]:
    """Keep `connections` requests on the way; return the rate, latencies in ms and what the server used for it."""
    whole = max(1, round(seconds))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "20s", "-s", str(_SCRIPT), target.url]
    files = {"WRK_BODY": str(target.body), "WRK_HEADERS": str(target.headers)}
    before = tree.usage()
    told = subprocess.run(command, env={**os.environ, **files}, capture_output=True, check=True, timeout=whole + 60)
    after = tree.usage()
    found = json.loads(told.stdout.splitlines()[-1])
    busy = after.processor_seconds - before.processor_seconds
    return {
        "requests_per_second": found["requests"] * 1e6 / found["microseconds"],
        "p50_ms": found["p50"] / 1000,
        "p99_ms": found["p99"] / 1000,
        "errors": sum(found[kind] for kind in ("connect", "read", "write", "code", "timeout")),
        "processor_seconds_per_1000": 1000 * busy / max(1, found["requests"]),
        "resident_megabytes": after.resident_bytes / 2**20,
        "proportional_megabytes": after.proportional_bytes / 2**20,
    }


def open_loop(target: Target, *, rate: float, seconds: float) -> dict[str, Any]:
    """Send at a rate whatever the server does; return latencies in ms from the time when each was due."""
    command = [sys.executable, "-m", "benchmarks.serving.open_loop", target.url, str(target.body), str(target.headers)]
    command += ["--rate", f"{rate:.3f}", "--seconds", f"{seconds:g}"]
    told = subprocess.run(command, capture_output=True, check=True, timeout=seconds + 60)
    found: dict[str, Any] = json.loads(told.stdout)
    return found
