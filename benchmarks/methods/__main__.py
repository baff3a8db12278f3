"""Run every job file of the pages as it stands: `python -m benchmarks.methods` (about five minutes on 2 cores).

What was measured is written to benchmarks/results/methods.json, and as a table to docs/methods/index.md.
"""

import json
import sys
from pathlib import Path
from typing import Any

from app.cli.demo import run_wave, running_service
from app.client import Client
from benchmarks.machine import facts, in_words
from benchmarks.methods.files import read_jobs
from benchmarks.methods.table import table
from benchmarks.pages import DOCS, write_between

RESULT = Path(__file__).parents[1] / "results" / "methods.json"
HOME = Path(".leanfuse/methods")
# Of what a report tells about the method, nothing draws these.
LEFT_OUT = {"parent", "teacher", "training", "architecture", "diversity", "calibration", "agreement", "dtypes"}
PACKAGES = ("keras", "tensorflow", "numpy", "onnxruntime")


def main() -> int:
    """Run the files, keep the table; return 0 when every job succeeded."""
    machine = facts(PACKAGES)
    results: dict[str, Any] = {}
    failed = []
    with running_service("embedded", home=HOME) as url, Client(url) as client:
        client.datasets.add_builtin("digits")
        for name, spec in read_jobs().items():
            (job,) = run_wave(client, [spec])
            if job["state"] != "succeeded":
                failed.append(f"{name}: {job['error']}")
            elif spec["kind"] != "predict":
                results[name] = _measured(client, job["result"])
    RESULT.write_text(json.dumps({"machine": machine, "results": results}) + "\n", encoding="utf-8")
    write_between(DOCS / "methods" / "index.md", "methods", table(results, in_words(machine)))
    print("\n".join(failed) or "All succeeded.", file=sys.stderr)
    return 1 if failed else 0


def _measured(client: Client, made: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a version that the table and the figures show."""
    report = client.models.report(made["name"], made["version"])
    version = client.models.version(made["name"], made["version"])
    baseline = report["baseline"]
    figures = ("accuracy", "accuracy_interval", "parameters", "macs", "served_bytes", "latency_ms_batch_1")
    return {
        **{figure: report["metrics"][figure] for figure in figures},
        "state": version["state"],
        "against": baseline["against"],
        "difference": baseline["difference"],
        "verdict": baseline["verdict"],
        "method": {key: value for key, value in report["method"].items() if key not in LEFT_OUT},
        "history": report["history"],
    }


if __name__ == "__main__":
    sys.exit(main())
