"""What Prometheus reads. One registry per application, no ids among the labels."""

import os
from collections.abc import Mapping, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from app import __version__
from app.domain.jobs import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# The client library decides at its import whether processes count together, by the same variable.
_SHARED = "PROMETHEUS_MULTIPROC_DIR" in os.environ
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Hold every instrument of one API process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        # Looking up a labelled instrument costs more than counting on it.
        self._children: dict[tuple[Any, ...], Any] = {}
        self._requests = Counter(
            "leanfuse_http_requests", "Requests answered.", ("method", "route", "code"), registry=registry
        )
        self._durations = Histogram(
            "leanfuse_http_request_duration_seconds",
            "Time from the first byte of a request to the end of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._jobs = Gauge(
            "leanfuse_jobs",
            "Jobs in the database.",
            ("state", "kind"),
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._predictions = Counter(
            "leanfuse_predictions", "Predictions by outcome.", ("model", "version", "outcome"), registry=registry
        )
        self._queue_seconds = Histogram(
            "leanfuse_prediction_queue_seconds",
            "Time that the rows of a prediction waited for an engine.",
            ("model", "version"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._run_seconds = Histogram(
            "leanfuse_prediction_run_seconds",
            "Time of the runs that answered a prediction.",
            ("model", "version"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Histogram(
            "leanfuse_batch_rows",
            "Rows of one run of an engine.",
            ("model", "version"),
            buckets=_ROWS,
            registry=registry,
        )
        self._compute_seconds = Counter(
            "leanfuse_batch_run_seconds", "Time spent in runs of engines.", ("model", "version"), registry=registry
        )
        self._loaded = Gauge(
            "leanfuse_models_loaded", "Graphs in memory.", multiprocess_mode="livesum", registry=registry
        )
        self._load_seconds = Histogram(
            "leanfuse_model_load_seconds", "Time to verify and load an engine.", buckets=_SECONDS, registry=registry
        )
        build = Gauge(
            "leanfuse_build_info", "The running release.", ("version",), multiprocess_mode="max", registry=registry
        )
        build.labels(__version__).set(1)

    def observe_request(self, scope: MutableMapping[str, Any], code: int, seconds: float) -> None:
        """Count an answered request under its route's pattern."""
        route = str(getattr(scope.get("route"), "path_format", "unmatched"))
        method = scope["method"] if scope["method"] in _METHODS else "other"
        count, durations = self._of_request(method, route, code)
        count.inc()
        durations.observe(seconds)

    def _of_request(self, method: str, route: str, code: int) -> tuple[Counter, Histogram]:
        key = ("request", method, route, code)
        if key not in self._children:
            self._children[key] = (
                self._requests.labels(method, route, str(code)),
                self._durations.labels(method, route),
            )
        found: tuple[Counter, Histogram] = self._children[key]
        return found

    def observe_prediction(self, model: str, version: int, *, queue_seconds: float, run_seconds: float) -> None:
        """Count a prediction that was answered."""
        key = ("prediction", model, version)
        if key not in self._children:
            self._children[key] = (
                self._predictions.labels(model, str(version), "ok"),
                self._queue_seconds.labels(model, str(version)),
                self._run_seconds.labels(model, str(version)),
            )
        count, queued, run = self._children[key]
        count.inc()
        queued.observe(queue_seconds)
        run.observe(run_seconds)

    def observe_batch(self, model: str, version: int, *, rows: int, seconds: float) -> None:
        """Count a run of an engine, under the version whose requests it answered."""
        self._rows.labels(model, str(version)).observe(rows)
        self._compute_seconds.labels(model, str(version)).inc(seconds)

    def count_failure(self, model: str, version: int, outcome: str) -> None:
        """Count a prediction that failed."""
        self._predictions.labels(model, str(version), outcome).inc()

    def observe_load(self, seconds: float) -> None:
        """Note that a graph was loaded."""
        self._load_seconds.observe(seconds)

    def set_loaded(self, graphs: int) -> None:
        """Note how many graphs are in memory."""
        self._loaded.set(graphs)

    def render(self, jobs: Mapping[tuple[State, str], int]) -> bytes:
        """Return the text that Prometheus reads; `jobs` counts them by (state, kind)."""
        if not _SHARED:
            self._jobs.clear()
        for (state, kind), count in jobs.items():
            self._jobs.labels(state, kind).set(count)
        return generate_latest(self._added_up())

    def families(self) -> list[Metric]:
        """Return every metric with its samples, as Prometheus would read them."""
        return list(self._added_up().collect())

    def _added_up(self) -> CollectorRegistry:
        """Return the registry of this process, or one that adds up those of all processes that count together."""
        if not _SHARED:
            return self._registry
        added_up = CollectorRegistry()
        MultiProcessCollector(added_up)  # type: ignore[no-untyped-call]
        return added_up


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
