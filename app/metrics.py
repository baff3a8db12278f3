"""What Prometheus reads. One registry per application, no ids among the labels."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from app import __version__
from app.domain.jobs import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Hold every instrument of one API process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
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
        self._jobs = Gauge("leanfuse_jobs", "Jobs in the database.", ("state", "kind"), registry=registry)
        self._predictions = Counter(
            "leanfuse_predictions", "Predictions by outcome.", ("model", "version", "outcome"), registry=registry
        )
        self._prediction_seconds = Histogram(
            "leanfuse_prediction_duration_seconds",
            "Time of a prediction inside the service.",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Histogram("leanfuse_batch_size", "Rows of one run of an engine.", buckets=_ROWS, registry=registry)
        self._loaded = Gauge("leanfuse_models_loaded", "Engines in memory.", registry=registry)
        self._load_seconds = Histogram(
            "leanfuse_model_load_seconds", "Time to verify and load an engine.", buckets=_SECONDS, registry=registry
        )
        Info("leanfuse_build", "The running release.", registry=registry).info({"version": __version__})

    def observe_request(self, scope: MutableMapping[str, Any], code: int, seconds: float) -> None:
        """Count an answered request under its route's pattern."""
        route = str(getattr(scope.get("route"), "path_format", "unmatched"))
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(code)).inc()
        self._durations.labels(method, route).observe(seconds)

    def observe_prediction(self, model: str, version: int, *, rows: int, seconds: Mapping[str, float]) -> None:
        """Count a prediction that was answered; `seconds` by stage (queue, run)."""
        self._predictions.labels(model, str(version), "ok").inc()
        self._rows.observe(rows)
        for stage, duration in seconds.items():
            self._prediction_seconds.labels(model, stage).observe(duration)

    def count_failure(self, model: str, version: int, outcome: str) -> None:
        """Count a prediction that failed."""
        self._predictions.labels(model, str(version), outcome).inc()

    def observe_load(self, seconds: float, *, loaded: int) -> None:
        """Note that an engine was loaded, and how many there are now."""
        self._load_seconds.observe(seconds)
        self._loaded.set(loaded)

    def render(self, jobs: Mapping[tuple[State, str], int]) -> bytes:
        """Return the text that Prometheus reads; `jobs` counts them by (state, kind)."""
        self._jobs.clear()
        for (state, kind), count in jobs.items():
            self._jobs.labels(state, kind).set(count)
        return generate_latest(self._registry)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
