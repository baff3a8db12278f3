"""Numbers as people read them, and quantiles from histograms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from app.ui import formats
from app.ui.histograms import read_counts, read_histograms

BOUNDS = (0.1, 0.5, 1.0, 5.0)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (125_390, "125 kB"), (1_700_000, "1.7 MB"), (None, "\N{EN DASH}")],
)
def test_sizes_have_a_unit(size: int | None, text: str) -> None:
    assert formats.bytes_size(size) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.016, "16 µs"), (0.46, "0.46 ms"), (12.4, "12 ms"), (1234.0, "1,234 ms")]
)
def test_short_times_are_not_rounded_away(value: float, text: str) -> None:
    assert formats.milliseconds(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3700, "1 h 1 min")])
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@given(st.lists(st.floats(0.001, 4.9), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    registry = CollectorRegistry()
    made = Histogram("took_seconds", "Time.", ("model",), buckets=BOUNDS, registry=registry)
    for value in values:
        made.labels("a").observe(value)
    found = read_histograms(registry.collect(), "took_seconds", ("model",))[("a",)]
    true = float(np.quantile(values, share, method="inverted_cdf"))
    edges = (0.0, *BOUNDS)
    high = next(bound for bound in edges[1:] if true <= bound)
    low = edges[edges.index(high) - 1]
    quantile = found.quantile(share)
    assert quantile is not None
    assert low - 1e-9 <= quantile <= high + 1e-9
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert sum(count for _, count in found.buckets()) == len(values)


def test_an_empty_histogram_has_no_quantile() -> None:
    registry = CollectorRegistry()
    Histogram("took_seconds", "Time.", buckets=BOUNDS, registry=registry)
    found = read_histograms(registry.collect(), "took_seconds", ())[()]
    assert found.quantile(0.5) is None
    assert found.mean is None


def test_counts_of_other_labels_are_added_up() -> None:
    registry = CollectorRegistry()
    made = Counter("answers", "Answers.", ("model", "code"), registry=registry)
    made.labels("a", "200").inc(2)
    made.labels("a", "500").inc()
    assert read_counts(registry.collect(), "answers", ("model",)) == {("a",): 3}
