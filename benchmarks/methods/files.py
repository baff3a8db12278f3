"""The job files of the pages, in an order in which each finds what it names."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

JOBS = Path(__file__).parents[2] / "docs" / "jobs"
_REFERENCE = re.compile(r'"([a-z0-9._-]+)@champion"')


def read_jobs(folder: Path = JOBS) -> dict[str, dict[str, Any]]:
    """Return the specs by the name of their file, those that others name before these."""
    left = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    ordered: dict[str, dict[str, Any]] = {}
    while left:
        waiting = {spec["name"] for spec in left.values()}
        ready = [name for name, spec in left.items() if not named_models(spec) & waiting]
        if not ready:
            raise ValueError(f"{', '.join(left)} wait for each other.")
        ordered |= {name: left.pop(name) for name in ready}
    return ordered


def named_models(spec: Mapping[str, Any]) -> set[str]:
    """Return the models that a spec takes by their alias."""
    return set(_REFERENCE.findall(json.dumps(spec)))
