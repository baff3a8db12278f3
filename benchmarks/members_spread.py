"""Measure how much sooner an ensemble is there when its members are spread over more workers.

Run `python -m benchmarks.members_spread`: it writes benchmarks/results/members_spread.json. The same job, four
CNNs on scikit-learn's digits, is POSTed to a service with one trainer and to one with two, one thread each.
In turns, because a machine has moods; each service is fresh, and its trainers are warm before the job comes.
"""

import json
import os
import platform
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from app.cli.demo import run_wave, running_service
from app.client import Client

RESULT = Path(__file__).parent / "results" / "members_spread.json"
MEMBERS, ROUNDS, WORKERS = 4, 2, (1, 2)
WARM_SECONDS = 25.0
SPEC = {
    "kind": "ensemble",
    "name": "spread",
    "dataset": "digits",
    "reuse": False,
    "training": {"epochs": 120, "batch_size": 32},
    "method": {
        "method": "parallel",
        "members": [{"architecture": {"type": "cnn", "filters": [32, 64]}, "count": MEMBERS}],
    },
}


def main() -> int:
    """Time the job with one worker and with two, in turns."""
    rounds = [{workers: measure(workers) for workers in WORKERS} for _ in range(ROUNDS)]
    ratios = [found[2]["members_seconds"] / found[1]["members_seconds"] for found in rounds]
    result = {
        "members": MEMBERS,
        "rounds": rounds,
        "ratio_of_two_workers_to_one": median(ratios),
        "ratios": ratios,
        "ideal": 0.5,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load_average": os.getloadavg(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0


def measure(workers: int) -> dict[str, float]:
    """Return seconds: of the members from the first start to the last end, and of the whole job."""
    os.environ |= {"LEANFUSE_WORKER__SLOTS": str(workers), "LEANFUSE_WORKER__THREADS": "1"}
    with (
        tempfile.TemporaryDirectory() as home,
        running_service("embedded", home=Path(home)) as url,
        Client(url) as client,
    ):
        client.datasets.add_builtin("digits")
        time.sleep(WARM_SECONDS)
        (job,) = run_wave(client, [SPEC])
        if job["state"] != "succeeded":
            raise SystemExit(f"the job {job['state']}: {job.get('error')}")
        members = [client.jobs.get(item["id"]) for item in client.jobs.get(job["id"])["waits_for"]]
    return {
        "members_seconds": _seconds(min(_times(members, "started_at")), max(_times(members, "finished_at"))),
        "job_seconds": _seconds(_time(job["created_at"]), _time(job["finished_at"])),
    }


def _times(jobs: list[dict[str, Any]], field: str) -> list[datetime]:
    return [_time(job[field]) for job in jobs]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _seconds(start: datetime, end: datetime) -> float:
    return round((end - start).total_seconds(), 2)


if __name__ == "__main__":
    sys.exit(main())
