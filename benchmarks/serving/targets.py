"""What the serving path is to reach, and whether a run shows it. Ratios compare medians of one run."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A figure with two bounds: the first to reach, and then the second."""

    text: str
    measured: float | None
    bound: Literal["at least", "at most"]
    first: float
    then: float
    unit: str

    def holds(self, bound: float) -> bool | None:
        """Tell whether a bound is met; None when nothing was measured."""
        if self.measured is None:
            return None
        return self.measured >= bound if self.bound == "at least" else self.measured <= bound


def targets(results: Results) -> list[Target]:
    """Return every target with what the run measured."""
    subjects = results["subjects"]
    ours, binary = subjects.get("leanfuse json"), subjects.get("leanfuse binary")
    theirs = rate(subjects.get("mlserver json"), "one", 32)
    ceiling = results.get("ceiling_rows_per_second")
    starts = (ours or {}).get("starts", [])
    return [
        Target("JSON, 32 connections, against MLServer", _ratio(rate(ours, "one", 32), theirs), "at least", 3, 5, "x"),
        Target(
            "binary, 32 connections, against MLServer's JSON",
            _ratio(rate(binary, "one", 32), theirs),
            *("at least", 4, 7, "x"),
        ),
        Target(
            "share of OpenVINO alone, 32 images a request, binary",
            _scaled(_ratio(rate(binary, "many", 8), ceiling), 32 * 100),
            *("at least", 60, 85, " %"),
        ),
        Target("p99 at 50 % of its own maximum, JSON", _late(ours), "at most", 10, 5, " ms"),
        Target(
            "one member's requests/s against the ensemble of 4, JSON",
            _ratio(rate(ours, "member", 32), rate(ours, "one", 32)),
            *("at most", 2.5, 1.5, "x"),
        ),
        Target("start of the process to 200 on /readyz", _middle(starts, "ready_seconds"), "at most", 3, 1.5, " s"),
        Target(
            "idle memory of the API process", _middle(starts, "idle_resident_megabytes"), "at most", 200, 120, " MB"
        ),
    ]


def rate(subject: Results | None, case: str, connections: int) -> float | None:
    """Return the median of the rounds' requests a second, None where it was not measured."""
    entries = ((subject or {}).get("closed") or {}).get(case, {}).get(str(connections), [])
    return median(entry["requests_per_second"] for entry in entries) if entries else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _late(subject: Results | None) -> float | None:
    found = ((subject or {}).get("open") or {}).get("50%")
    return found["p99_ms"] if found else None


def _middle(entries: list[dict[str, float]], name: str) -> float | None:
    return median(entry[name] for entry in entries) if entries else None
