"""The figures that versions are compared by: where a comparison holds them, and how they are written."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from app.plots.scale import percent, short


class Figure(NamedTuple):
    """A figure of the leaderboard: its key, its name on an axis, its unit, and whether more is better."""

    key: str
    words: str
    unit: str = ""
    more_is_better: bool = False

    def value(self, entry: Mapping[str, Any]) -> float | None:
        """Return an entry's figure."""
        found = entry.get(self.key)
        return None if found is None else float(found)

    def write(self, value: float | None) -> str:
        """Write the figure with its unit."""
        return percent(value) if self.unit == "%" else short(value, self.unit)


_FIGURES = {
    "latency": Figure("latency_ms", "Latency of one row, ms", "ms"),
    "bytes": Figure("bytes", "Size of the served file", "B"),
    "gzip_bytes": Figure("gzip_bytes", "Size under gzip", "B"),
    "parameters": Figure("parameters", "Parameters"),
    "macs": Figure("macs", "Multiply-accumulates per row"),
    "memory": Figure("memory_bytes", "Peak memory", "B"),
    "accuracy": Figure("accuracy", "Accuracy", "%", more_is_better=True),
    "nll": Figure("nll", "Negative log likelihood"),
    "rmse": Figure("rmse", "RMSE"),
    "brier": Figure("brier", "Brier score"),
    "ece": Figure("ece", "Expected calibration error", "%"),
}


def figure_of(name: str) -> Figure:
    """Return the figure of a name that `/v1/compare` takes; another name is a key of the entries itself."""
    return _FIGURES.get(name, Figure(name, name.replace("_", " ").capitalize()))
