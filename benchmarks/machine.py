"""What a result depends on beside the code: the machine and the releases that ran."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def facts(packages: Sequence[str]) -> dict[str, Any]:
    """Describe this machine now, with the releases of `packages` in this environment."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _release(name) for name in packages},
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def in_words(machine: dict[str, Any]) -> str:
    """Return the machine in one line."""
    load = machine["load_average_before"][0]
    return f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, load {load:g} before"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _release(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
