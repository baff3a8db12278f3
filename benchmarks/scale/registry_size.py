"""A registry of many versions: list, resolve and search by SQL, and the view that predictions resolve names in."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.db import migrate, registry
from app.db.pages import PageRequest
from app.db.session import Sessions, create_engine_for, make_sessions, reading
from app.domain.names import Reference
from app.serving.view import RegistryView
from benchmarks.scale.filling import VERSIONS_OF_A_MODEL, add_versions, model_name, recipe_of
from benchmarks.scale.timing import seconds_of, spread_ms

ROOT = Path(__file__).parents[2]
Ask = Callable[[Any, int], object]


def measure_registry(database_url: str, *, versions: int, calls: int) -> dict[str, Any]:
    """Fill a database, and time what the API asks of it; the view is measured in a process of its own."""
    migrate.upgrade(database_url)
    engine = create_engine_for(database_url)
    sessions = make_sessions(engine)
    started = time.perf_counter()
    add_versions(sessions, versions)
    filled = time.perf_counter() - started
    queries = {name: _timed(sessions, ask, versions, calls) for name, ask in QUERIES.items()}
    engine.dispose()
    command = [sys.executable, "-m", "benchmarks.scale.registry_size", database_url]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=300)
    return {
        "versions": versions,
        "filled_seconds": round(filled, 1),
        "queries": queries,
        "view": json.loads(told.stdout),
    }


QUERIES: dict[str, Ask] = {
    "list models, a page": lambda session, place: registry.list_models(session, PageRequest(after=model_name(place))),
    "list ensembles, a page": lambda session, place: registry.list_models(
        session, PageRequest(after=model_name(place)), kind="ensemble"
    ),
    "list a model's versions": lambda session, place: registry.list_versions(session, model_name(place), PageRequest()),
    "resolve a number": lambda session, place: registry.resolve(session, Reference(model_name(place), 7)),
    "resolve an alias": lambda session, place: registry.resolve(
        session, Reference(model_name(place), alias="champion")
    ),
    "resolve a name": lambda session, place: registry.resolve(session, Reference(model_name(place))),
    "find by recipe": lambda session, place: registry.find_by_recipe(session, recipe_of(model_name(place), 7)),
}


def _timed(sessions: Sessions, ask: Ask, versions: int, calls: int) -> dict[str, float]:
    def call(place: int) -> None:
        with reading(sessions) as session:
            ask(session, place)

    choose = random.Random(0)
    return spread_ms(seconds_of(call, [choose.randrange(versions // VERSIONS_OF_A_MODEL) for _ in range(calls)]))


def measure_view(database_url: str) -> dict[str, float]:
    """Read a registry into a view, and again after small changes; memory is what this process grew by."""
    sessions = make_sessions(create_engine_for(database_url))
    view = RegistryView(sessions)
    before = _resident_megabytes()
    first = seconds_of(lambda _: view.refresh(), [None])[0]
    grown = _resident_megabytes() - before
    again = [_seconds_after_a_change(sessions, view, number) for number in range(1, 6)]
    view.refresh()
    unchanged = seconds_of(lambda _: view.refresh(), range(20))
    resolved = seconds_of(lambda _: view.resolve(Reference(model_name(3), alias="champion")), range(100))
    return {
        "first_read_seconds": round(first, 3),
        "megabytes": round(grown, 1),
        "after_a_change_seconds": round(sorted(again)[2], 3),
        "unchanged_ms": spread_ms(unchanged)["p50_ms"],
        "resolve_ms": spread_ms(resolved)["p50_ms"],
    }


def _seconds_after_a_change(sessions: Sessions, view: RegistryView, number: int) -> float:
    with sessions.begin() as session:
        registry.set_alias(session, model_name(3), "champion", number)
    return seconds_of(lambda _: view.refresh(), [None])[0]


def _resident_megabytes() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    json.dump(measure_view(sys.argv[1]), sys.stdout)
