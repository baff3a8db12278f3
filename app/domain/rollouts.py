"""Rollouts: which requests of an alias a candidate answers, how it compares, and what its promotion asks for."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.domain.datasets import Value
from app.domain.models import Metrics, VersionManifest
from app.domain.stats import wilson_interval

Mode = Literal["split", "shadow"]
# Latencies are counted in buckets, each this much wider than the one before: figures are right to 5 %.
_GROWTH = 1.1
# Numbers that a regression's versions answer agree when they differ by at most this part of the larger one.
_SAME_NUMBER = 0.01
Array = NDArray[Any]


class RolloutIn(Value):
    """Let a candidate answer a share of an alias' requests, or the same requests unseen."""

    version: Annotated[int, Field(ge=1, lt=2**31, description="The candidate.")]
    mode: Annotated[Mode, Field(description="split: it answers; shadow: it only runs beside.")] = "split"
    percent: Annotated[int, Field(ge=1, le=100, description="Share of the requests.")] = 10
    force: Annotated[bool, Field(description="Also a version that was rejected.")] = False


class Gate(Value):
    """Say what must hold before a candidate takes the alias; what is left out is not asked for."""

    min_accuracy: Annotated[float | None, Field(ge=0, le=1, description="Of the candidate, on the report rows.")] = None
    max_drop: Annotated[
        float | None, Field(ge=-1, le=1, description="Of its accuracy, against the alias' version.")
    ] = None
    max_latency_ms: Annotated[float | None, Field(gt=0, description="One row on one thread, as measured.")] = None
    max_bytes: Annotated[int | None, Field(gt=0, lt=2**63, description="Of the served file.")] = None
    min_agreement: Annotated[
        float | None, Field(ge=0, le=1, description="Of the shadow's rows: the lower end of the 95 % interval.")
    ] = None
    min_requests: Annotated[int | None, Field(ge=1, lt=2**63, description="That the shadow has answered.")] = None
    max_shadow_p95_ms: Annotated[float | None, Field(gt=0, description="Of the shadow's requests.")] = None


class PromoteIn(Value):
    """Give an alias to a candidate, if the conditions hold."""

    version: Annotated[int | None, Field(ge=1, lt=2**31, description="Default: the rollout's candidate.")] = None
    require: Gate = Field(default_factory=Gate)
    force: Annotated[bool, Field(description="Also a version that was rejected.")] = False


@dataclass(frozen=True)
class Condition:
    """Tell of one condition: what was asked for, what was measured (none: nothing), and whether it holds."""

    name: str
    required: float
    measured: float | None
    holds: bool


def share_of(salt: str, key: str) -> float:
    """Return a number in [0, 100) that is the same for the same key, and as good as random for different ones."""
    digest = hashlib.sha256(f"{salt} {key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


@dataclass
class Tally:
    """Count how a shadow compares. Tallies of several processes add up."""

    requests: int = 0
    rows: int = 0
    agreeing_rows: int = 0
    unanswered_rows: int = 0
    difference_sum: float = 0.0
    errors: int = 0
    dropped: int = 0
    stable_latencies: Counter[str] = field(default_factory=Counter)
    shadow_latencies: Counter[str] = field(default_factory=Counter)

    def compare(self, stable: Array, shadow: Array, *, seconds: tuple[float, float]) -> None:
        """Count a request: answers [rows, width] of both, and the seconds that each took."""
        answered = np.isfinite(stable).all(axis=1) & np.isfinite(shadow).all(axis=1)
        # float32 overflows where two of its largest numbers are subtracted.
        pair = stable[answered].astype(np.float64), shadow[answered].astype(np.float64)
        self.requests += 1
        self.rows += len(stable)
        self.unanswered_rows += int((~answered).sum())
        self.agreeing_rows += int(agreeing(*pair).sum())
        self.difference_sum += float(np.abs(pair[0] - pair[1]).mean(axis=1).sum())
        self.stable_latencies[_bucket(seconds[0])] += 1
        self.shadow_latencies[_bucket(seconds[1])] += 1

    def fail(self, rows: int) -> None:
        """Count a request that the shadow failed: its rows agree with nothing, so errors cannot hide in agreement."""
        self.errors += 1
        self.rows += rows
        self.unanswered_rows += rows

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what `as_json` wrote of another tally."""
        for name, value in other.items():
            if isinstance(value, dict):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def as_json(self) -> dict[str, Any]:
        """Return all counts."""
        return {
            **vars(self),
            "stable_latencies": dict(self.stable_latencies),
            "shadow_latencies": dict(self.shadow_latencies),
        }

    def report(self) -> dict[str, Any]:
        """Return what people read: agreement with its 95 % interval (Wilson 1927), differences, latencies."""
        interval = wilson_interval(self.agreeing_rows, self.rows) if self.rows else None
        answered = self.rows - self.unanswered_rows
        return {
            "requests": self.requests,
            "rows": self.rows,
            "agreement": self.agreeing_rows / self.rows if self.rows else None,
            "agreement_interval": interval,
            "unanswered_rows": self.unanswered_rows,
            "mean_absolute_difference": self.difference_sum / answered if answered else None,
            "errors": self.errors,
            "dropped": self.dropped,
            "stable_latency_ms": _quantiles(self.stable_latencies),
            "shadow_latency_ms": _quantiles(self.shadow_latencies),
        }


def agreeing(stable: Array, shadow: Array) -> NDArray[np.bool_]:
    """Tell of each row whether both name the same class; of single numbers, whether they differ by at most 1 %."""
    if stable.shape[1] > 1:
        same: NDArray[np.bool_] = stable.argmax(axis=1) == shadow.argmax(axis=1)
        return same
    largest = np.maximum(np.abs(stable), np.abs(shadow))[:, 0]
    close: NDArray[np.bool_] = np.abs(stable - shadow)[:, 0] <= _SAME_NUMBER * largest
    return close


def _bucket(seconds: float) -> str:
    return str(floor(log(max(seconds, 1e-6) * 1000) / log(_GROWTH)))


def _quantiles(latencies: Mapping[str, int]) -> dict[str, float] | None:
    """Return median and 95th percentile in milliseconds: the geometric middle of their buckets."""
    total = sum(latencies.values())
    if not total:
        return None
    ordered = sorted((int(bucket), count) for bucket, count in latencies.items())
    return {name: _quantile(ordered, ceil(part * total)) for name, part in (("p50", 0.5), ("p95", 0.95))}


def _quantile(ordered: Sequence[tuple[int, int]], rank: int) -> float:
    for bucket, count in ordered:
        rank -= count
        if rank <= 0:
            return float(round(_GROWTH ** (bucket + 0.5), 4))
    raise AssertionError("a rank lies within the total")


def check_gate(gate: Gate, *, candidate: Metrics, stable: Metrics | None, tally: Tally) -> list[Condition]:
    """Return every condition that is asked for, with what was measured; what was not measured does not hold."""
    report = tally.report()
    interval, latency = report["agreement_interval"], report["shadow_latency_ms"]
    accuracies = (stable.accuracy if stable else None, candidate.accuracy)
    drop = None if None in accuracies else float(accuracies[0] or 0) - float(accuracies[1] or 0)
    lowest = {
        "min_accuracy": candidate.accuracy,
        "min_agreement": interval[0] if interval else None,
        "min_requests": tally.requests,
    }
    highest = {
        "max_drop": drop,
        "max_latency_ms": candidate.latency_ms_batch_1,
        "max_bytes": candidate.served_bytes,
        "max_shadow_p95_ms": latency["p95"] if latency else None,
    }
    asked = gate.model_dump(exclude_none=True)
    found = [
        Condition(name, asked[name], measured, measured is not None and measured >= asked[name])
        for name, measured in lowest.items()
        if name in asked
    ]
    return found + [
        Condition(name, asked[name], measured, measured is not None and measured <= asked[name])
        for name, measured in highest.items()
        if name in asked
    ]


def differences(stable: VersionManifest, candidate: VersionManifest) -> str:
    """Say why a candidate cannot stand in for a version; empty when it can."""
    if candidate.input != stable.input:
        return f"The candidate takes {_shown(candidate)}, the alias' version {_shown(stable)}."
    if (candidate.task, candidate.classes) != (stable.task, stable.classes):
        return f"The candidate answers {_answers(candidate)}, the alias' version {_answers(stable)}."
    return ""


def _shown(manifest: VersionManifest) -> str:
    return f"{manifest.input.dtype} {list(manifest.input.shape)}"


def _answers(manifest: VersionManifest) -> str:
    return f"{manifest.task} of {', '.join(manifest.classes[:10])}" if manifest.classes else manifest.task
