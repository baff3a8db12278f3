"""Read quantiles from Prometheus' histograms."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric

Labels = tuple[str, ...]


@dataclass
class Histogram:
    """Count values up to each bound, the bounds rising; the last one is infinite."""

    counts: dict[float, float] = field(default_factory=dict)
    total: float = 0.0

    @property
    def count(self) -> int:
        """Count all values."""
        return int(max(self.counts.values(), default=0))

    @property
    def mean(self) -> float | None:
        """Return the mean of all values."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Return a quantile, linear within its bucket, as Prometheus' `histogram_quantile` has it."""
        rank, below, low = share * self.count, 0.0, 0.0
        if not self.count:
            return None
        for bound, count in sorted(self.counts.items()):
            if count >= rank and count > below:
                return low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
            below, low = count, bound if not math.isinf(bound) else low
        return low

    def buckets(self) -> list[tuple[str, int]]:
        """Return the count of every bucket by the text of its bound."""
        below, found = 0.0, list[tuple[str, int]]()
        for bound, count in sorted(self.counts.items()):
            found.append(("more" if math.isinf(bound) else f"{bound:g}", int(count - below)))
            below = count
        return found


def read_histograms(families: Iterable[Metric], name: str, labels: Sequence[str]) -> Mapping[Labels, Histogram]:
    """Return the histograms of a metric by the values of some of its labels; those of other labels are added up."""
    found: dict[Labels, Histogram] = defaultdict(Histogram)
    for sample in (sample for family in families if family.name == name for sample in family.samples):
        one = found[tuple(sample.labels[label] for label in labels)]
        if sample.name == f"{name}_sum":
            one.total += sample.value
        elif sample.name == f"{name}_bucket":
            bound = float(sample.labels["le"])
            one.counts[bound] = one.counts.get(bound, 0.0) + sample.value
    return found


def read_counts(families: Iterable[Metric], name: str, labels: Sequence[str]) -> Mapping[Labels, int]:
    """Return what a counter counted by the values of some of its labels."""
    found: dict[Labels, int] = defaultdict(int)
    for sample in (sample for family in families if family.name == name for sample in family.samples):
        if sample.name == f"{name}_total":
            found[tuple(sample.labels[label] for label in labels)] += int(sample.value)
    return found
