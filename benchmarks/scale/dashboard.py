"""The pages of the dashboard over many jobs and versions: how long a reader waits for each."""

import sys
from pathlib import Path
from typing import Any

import httpx

from app.cli.stack import free_port
from app.db import migrate
from app.db.session import create_engine_for, make_sessions
from app.store.local import LocalStore
from benchmarks.scale.filling import add_jobs, add_versions, model_name
from benchmarks.scale.followers import wait_until_ready
from benchmarks.scale.timing import seconds_of, spread_ms
from benchmarks.serving.processes import running

ROOT = Path(__file__).parents[2]
# What was measured on an ensemble of three networks for the UCI digits.
REPORT = Path(__file__).with_name("report.json")
MODEL = model_name(0)
PAGES = {
    "overview": "/",
    "running jobs, refreshed every 2 s": "/ui/parts/running",
    "jobs": "/ui/jobs",
    "new job": "/ui/jobs/new",
    "data sets": "/ui/datasets",
    "a data set": "/ui/datasets/digits",
    "models": "/ui/models",
    "a model": f"/ui/models/{MODEL}",
    "a version": f"/ui/models/{MODEL}/versions/7",
    "compare, newest versions": "/ui/compare?dataset=digits",
    "compare, all versions": "/ui/compare?dataset=digits&versions=all",
    "ensembles": "/ui/ensembles",
    "try it": f"/ui/try?model={MODEL}",
    "serving": "/ui/serving",
}


def measure_pages(folder: Path, *, count: int, calls: int) -> dict[str, Any]:
    """Fill a home with `count` jobs and versions, and read every page again and again, as one reader would."""
    home = folder / "pages"
    home.mkdir(parents=True)
    database_url = f"sqlite:///{home / 'leanfuse.db'}"
    migrate.upgrade(database_url)
    engine = create_engine_for(database_url)
    sessions = make_sessions(engine)
    add_versions(sessions, count, dataset="digits", files={"report.json": LocalStore(home / "store").put(REPORT)})
    add_jobs(sessions, count)
    engine.dispose()
    port = free_port()
    program = [str(Path(sys.prefix) / "bin" / "leanfuse"), "up", "--no-worker", "--host", "127.0.0.1"]
    command = [*program, "--port", str(port), "--home", str(home)]
    variables = {"LEANFUSE_LOG_LEVEL": "warning", "LEANFUSE_DATABASE_URL": "", "LEANFUSE_STORE_URL": ""}
    url = f"http://127.0.0.1:{port}"
    with running(command, variables, log=home / "service.log", cwd=ROOT) as tree:
        wait_until_ready(f"{url}/readyz", tree)
        with httpx.Client(base_url=url, timeout=60) as client:
            client.post("/v1/datasets", json={"builtin": "digits"}).raise_for_status()
            return {
                "jobs": count,
                "versions": count,
                "pages": {name: _timed(client, PAGES[name], calls) for name in PAGES},
            }


def _timed(client: httpx.Client, path: str, calls: int) -> dict[str, float]:
    """Return the time of the first reading, which compiles the template, and the spread of all others."""

    def read(_: int) -> None:
        client.get(path).raise_for_status()

    first, *others = seconds_of(read, range(calls + 1))
    return {"first_ms": round(1000 * first, 1), **spread_ms(others)}
