"""Compare servers: `python -m benchmarks.serving [--quick] [--subjects NAME ...]`.

Every server gets the same graphs and every client sends the same rows; who answers wrongly is listed as failed. Servers
take turns, one at a time, in several rounds. A run of all of them is kept in benchmarks/results/serving.json and
docs/benchmarks_serving.md; any other is only printed.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.machine import facts
from benchmarks.pages import DOCS, write_between
from benchmarks.serving.graphs import graphs, write_graphs
from benchmarks.serving.load import check_wrk
from benchmarks.serving.registering import register_graphs
from benchmarks.serving.servers import OURS, ROOT, SERVERS, Server, make_environment, releases
from benchmarks.serving.table import page
from benchmarks.serving.turns import NOT_AVAILABLE, Measured, Pace, PeerFailedError, fastest, take_turn

RESULT = ROOT / "benchmarks" / "results" / "serving.json"
PAGE = DOCS / "benchmarks_serving.md"
PACKAGES = ("fastapi", "httptools", "numpy", "onnxruntime", "openvino", "orjson", "starlette", "uvicorn", "uvloop")
QUICK = ("leanfuse", "fastapi", "mlserver")
Found = dict[str, Measured]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and keep the comparison; return 1 when one of our own answers is wrong."""
    options = _parser().parse_args(arguments)
    check_wrk()
    chosen = [SERVERS[name] for name in options.subjects or (QUICK if options.quick else SERVERS)]
    rounds, seconds = options.rounds or (1 if options.quick else 3), options.seconds or (4 if options.quick else 10)
    with TemporaryDirectory(prefix="leanfuse-serving-") as folder:
        results = compare(chosen, Path(folder), rounds=rounds, seconds=seconds)
    print(page(results))
    if len(chosen) == len(SERVERS) and not options.quick:
        _keep(results)
    return 0 if all(_is_right(subject) for name, subject in results["subjects"].items() if name.startswith(OURS)) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--subjects", nargs="+", choices=list(SERVERS), metavar="NAME", help=", ".join(SERVERS))
    parser.add_argument("--quick", action="store_true", help="about two minutes: three servers, one short round")
    parser.add_argument("--rounds", type=int, help="turns of each server (default 3, quick 1)")
    parser.add_argument("--seconds", type=float, help="time of one load (default 10, quick 4)")
    return parser


def compare(chosen: Sequence[Server], folder: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Let the servers take turns; return everything that was measured."""
    machine, pace = facts(PACKAGES), Pace(load=seconds, open_loop=seconds / 2, warm=min(1.0, seconds / 4))
    found = {server.name: _blank(server) for server in chosen}
    _make_models(folder)
    chosen = [_ready(server, folder, found[server.name], seconds / 4) for server in chosen]
    ceilings = []
    for number in range(rounds):
        ceilings.append(_ceiling(folder, seconds / 2))
        for server in chosen:
            _say(f"round {number + 1} of {rounds}: {server.title}")
            _turn(server, folder, found[server.name], pace, first=number == 0, last=number == rounds - 1)
    return {
        "machine": machine,
        "settings": {"rounds": rounds, "seconds": seconds, "weights": "random: they cost the same as trained ones"},
        "releases": {server.name: releases(server) for server in chosen},
        "variants": {server.name: dict(server.variants[0]) for server in chosen if server.variants},
        "ceiling_rows_per_second": max((value for value in ceilings if value), default=None),
        "subjects": {f"{name} {way}": asdict(item) for name, ways in found.items() for way, item in ways.items()},
    }


def _blank(server: Server) -> Found:
    return {way: Measured(f"{server.title}, {way}" if len(server.ways) > 1 else server.title) for way in server.ways}


def _make_models(folder: Path) -> None:
    """Write the graphs, and make a home that serves them."""
    named = graphs()
    write_graphs(folder / "graphs", named)
    register_graphs(folder / "home", named)


def _ready(server: Server, folder: Path, found: Found, seconds: float) -> Server:
    """Install a server and choose its fastest variant; note that it failed where that fails."""
    _say(f"preparing {server.title}")
    try:
        make_environment(server)
        if server.prepare:
            command, variables = server.filled(server.prepare, folder), server.variables(folder, 0)
            subprocess.run(command, env={**os.environ, **variables}, check=True, timeout=300, capture_output=True)
        return fastest(server, folder, seconds=seconds)
    except (PeerFailedError, OSError, subprocess.SubprocessError) as failed:
        _fail(found, f"could not be made ready: {failed}")
        return server


def _turn(server: Server, folder: Path, found: Found, pace: Pace, *, first: bool, last: bool) -> None:
    if any(measured.failed for measured in found.values()):
        return
    try:
        take_turn(server, folder, found, pace, first=first, last=last)
    except (PeerFailedError, httpx.HTTPError, OSError, subprocess.SubprocessError) as failed:
        _fail(found, f"failed: {failed}")
        print((folder / f"{server.name}.log").read_text(errors="replace")[-2000:], file=sys.stderr)


def _fail(found: Found, reason: str) -> None:
    for measured in found.values():
        measured.failed = reason


def _ceiling(folder: Path, seconds: float) -> float | None:
    graph = str(folder / "graphs" / "ens.onnx")
    command = [sys.executable, "-m", "benchmarks.serving.ceiling", graph, f"{seconds:g}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=seconds + 60)
    measured: float | None = json.loads(told.stdout)
    return measured


def _is_right(subject: dict[str, Any]) -> bool:
    return subject["failed"] is None and all(said in ("equal", NOT_AVAILABLE) for said in subject["checks"].values())


def _keep(results: dict[str, Any]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    write_between(PAGE, "serving", page(results))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
