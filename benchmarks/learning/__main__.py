"""Run the table through the public API: `python -m benchmarks.learning [--long] [--keep] [ROW ...]`.

Each row is a job file, POSTed to a service of its own; what a row names is run first. Results are written to
benchmarks/results/learning.json after every row, and as a table to docs/benchmarks.md.
"""

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.cli.demo import run_wave, running_service
from app.client import Client
from benchmarks.learning.data import add_datasets
from benchmarks.learning.foreign import import_model
from benchmarks.learning.judge import Report, accuracy_of, judge
from benchmarks.learning.rows import Row, read_rows, with_needs
from benchmarks.learning.table import page

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "learning.json"
PAGE = ROOT / "docs" / "benchmarks.md"
HOME = Path(".leanfuse/reproduce")
BETWEEN = re.compile(r"(<!-- learning -->\n).*(<!-- /learning -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen rows, print and keep the table; return 0 when all that was claimed holds."""
    options = _parser().parse_args(arguments)
    rows = read_rows()
    chosen = options.rows or [row.name for row in rows if options.long or not row.long]
    results = _read_results()
    with running_service("embedded", home=HOME, keep=options.keep) as url, Client(url) as client:
        wanted = with_needs(rows, chosen)
        add_datasets(client, set().union(*(row.datasets for row in wanted)))
        for row in wanted:
            results[row.name] = _run(client, row)
            _write(rows, results)
    print(page(rows, {name: results[name] for name in chosen}))
    claims = [claim for name in chosen for claim in results[name]["claims"]]
    return 0 if all(claim["holds"] for claim in claims) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these rows, and what they need")
    parser.add_argument("--long", action="store_true", help="also the rows that take more than ten minutes")
    parser.add_argument("--keep", action="store_true", help="go on with the models of the last run")
    return parser


def _run(client: Client, row: Row) -> dict[str, Any]:
    started = time.monotonic()
    job = import_model(client, row.name, row.imported) if row.imported else run_wave(client, [row.job])[0]
    if job["state"] != "succeeded":
        raise SystemExit(f"{row.name}: the job {job['state']}: {(job.get('error') or {}).get('detail')}")
    report = client.models.report(job["result"]["name"], job["result"]["version"])
    accuracy, interval = accuracy_of(report)
    claims = judge(row, report, _report_against(client, row))
    return {
        "accuracy": round(accuracy, 4),
        "interval": [round(bound, 4) for bound in interval],
        "seeds": len(report.get("repeats", {}).get("seeds", [0])),
        "metrics": report["metrics"],
        "claims": [claim.__dict__ for claim in claims],
        "verdict": report["verdict"]["summary"],
        "steps": [_figures(step) for step in report["method"].get("steps", [])],
        "reused": job.get("reused") is not None,
        "seconds": round(time.monotonic() - started, 1),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "model_digest": report["model"]["sha256"],
    }


def _figures(step: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != "details"}


def _report_against(client: Client, row: Row) -> Report | None:
    if row.against is None:
        return None
    report: Report = client.models.report(row.against, client.models.get(row.against)["newest"]["version"])
    return report


def _read_results() -> dict[str, Any]:
    return dict(json.loads(RESULT.read_text(encoding="utf-8"))) if RESULT.exists() else {}


def _write(rows: Sequence[Row], results: dict[str, Any]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if PAGE.exists():
        text = PAGE.read_text(encoding="utf-8")
        table = page(rows, results)
        PAGE.write_text(BETWEEN.sub(lambda found: f"{found[1]}{table}{found[2]}", text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
