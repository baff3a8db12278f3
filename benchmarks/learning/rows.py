"""The rows of the table: which job, what is published, and what must hold."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Holds:
    """Say what a row must show; each figure is compared with the parent's (or teacher's), all from one report."""

    accuracy_at_least: float | None = None
    accuracy_above: float | None = None
    accuracy_is: float | None = None
    interval_above: float | None = None
    served_bytes_at_most: int | None = None
    gain_kept_at_least: float | None = None
    interval_meets: tuple[float, float] | None = None
    non_inferior: bool = False
    smaller: Mapping[str, float] = field(default_factory=dict)
    faster: float | None = None
    points_lost_at_most: float | None = None


@dataclass(frozen=True)
class Row:
    """Hold one row; `needs` are rows whose models the job names, `against` the one that figures are compared with.

    A row that is `imported` for a data set has no job file: its model is another's.
    """

    name: str
    title: str
    published: str
    scripts: str
    target: str
    long: bool = False
    imported: str | None = None
    needs: tuple[str, ...] = ()
    against: str | None = None
    holds: Holds = field(default_factory=Holds)

    @property
    def job(self) -> dict[str, Any]:
        """Return the job spec of the row's file."""
        spec: dict[str, Any] = json.loads((HERE / "jobs" / f"{self.name}.json").read_text(encoding="utf-8"))
        return spec

    @property
    def datasets(self) -> set[str]:
        """Name the data sets that the job takes rows from."""
        if self.imported:
            return {self.imported}
        spec = self.job
        distillation = spec.get("then") or spec.get("method", {})
        unlabelled = distillation.get("transfer", {}).get("unlabelled")
        return {spec["dataset"], *([unlabelled] if unlabelled else [])}


def read_rows() -> list[Row]:
    """Read all rows, in the order of the table."""
    table = tomllib.loads((HERE / "rows.toml").read_text(encoding="utf-8"))
    return [_row(entry) for entry in table["rows"]]


def with_needs(rows: Sequence[Row], chosen: Sequence[str]) -> list[Row]:
    """Return the chosen rows and all that they need, each after what it needs."""
    by_name = {row.name: row for row in rows}
    ordered: dict[str, Row] = {}

    def add(name: str) -> None:
        for needed in by_name[name].needs:
            add(needed)
        ordered[name] = by_name[name]

    for name in chosen:
        add(name)
    return list(ordered.values())


def _row(entry: dict[str, Any]) -> Row:
    holds = dict(entry.pop("holds", {}))
    if "interval_meets" in holds:
        holds["interval_meets"] = tuple(holds["interval_meets"])
    return Row(**{**entry, "needs": tuple(entry.get("needs", ()))}, holds=Holds(**holds))
