"""The leaderboard: fronts over several costs, what cannot be told apart, and the best within limits."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.domain.models import Metrics
from tests.api.builders import Registry, assert_problem

FIGURES: dict[str, Any] = {"macs": 1, "weights_bytes": 1, "latency_ms_batch_32": 1.0}


def metrics(accuracy: float, *, latency: float, size: int, margin: float = 0.01, **figures: Any) -> Metrics:
    interval = (accuracy - margin, accuracy + margin)
    measured = FIGURES | {"accuracy_interval": interval, "parameters": size, "gzip_bytes": size // 2} | figures
    return Metrics(accuracy=accuracy, latency_ms_batch_1=latency, served_bytes=size, **measured)


@pytest.fixture
def board(registry: Registry) -> None:
    """Register four models: the best, one as good within its interval, a fast small one, and one that loses."""
    registry.add_dataset()
    registry.add_model("best", metrics=metrics(0.95, latency=3.0, size=3000))
    registry.add_model("alike", metrics=metrics(0.94, latency=2.0, size=4000))
    registry.add_model("small", metrics=metrics(0.85, latency=1.0, size=1000))
    registry.add_model("loser", metrics=metrics(0.80, latency=4.0, size=5000))


def compare(client: TestClient, query: str = "") -> dict[str, Any]:
    answer = client.get(f"/v1/compare?dataset=pets&{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def front(found: dict[str, Any]) -> list[str]:
    return [entry["name"] for entry in found["models"] if entry["pareto"]]


@pytest.mark.usefixtures("board")
def test_the_front_is_over_all_costs_that_are_named(client: TestClient) -> None:
    assert front(compare(client)) == ["best", "alike", "small"]
    assert front(compare(client, "x=bytes")) == ["best", "small"]
    both = compare(client, "x=bytes&x=latency")
    assert (both["x"], front(both)) == (["bytes", "latency"], ["best", "alike", "small"])


@pytest.mark.usefixtures("board")
def test_versions_whose_intervals_overlap_are_told(client: TestClient) -> None:
    near = {entry["name"]: entry["indistinguishable_from"] for entry in compare(client)["models"]}
    assert near == {"best": ["alike/1"], "alike": ["best/1"], "small": [], "loser": []}


@pytest.mark.usefixtures("board")
def test_the_best_within_limits_is_named_with_the_limits(client: TestClient) -> None:
    found = compare(client, "max_latency_ms=2&max_bytes=100000")
    assert (found["best"]["name"], found["nearest_miss"]) == ("alike", None)
    assert found["limits"] == {"max_latency_ms": 2.0, "max_bytes": 100000.0}
    assert compare(client)["best"]["name"] == "best"


@pytest.mark.usefixtures("board")
def test_the_nearest_miss_is_named_when_nothing_meets_the_limits(client: TestClient) -> None:
    found = compare(client, "max_latency_ms=1.5&min_accuracy=0.9")
    assert found["best"] is None
    assert found["nearest_miss"] == {
        "name": "small",
        "version": 1,
        "misses": {"min_accuracy": {"limit": 0.9, "value": 0.85}},
    }


@pytest.mark.usefixtures("board")
def test_a_figure_that_was_never_measured_leaves_versions_out(client: TestClient) -> None:
    found = compare(client, "x=memory")
    assert (found["models"], found["left_out"]) == ([], 4)
    nothing = compare(client, "max_memory_bytes=1000000")
    assert (nothing["best"], nothing["nearest_miss"]) == (None, None)


@pytest.mark.usefixtures("board")
def test_all_versions_or_only_the_newest_are_compared(client: TestClient, registry: Registry) -> None:
    registry.add_model("best", seed=2, metrics=metrics(0.7, latency=9.0, size=9000))
    newest = [(entry["name"], entry["version"]) for entry in compare(client)["models"]]
    assert ("best", 2) in newest
    assert ("best", 1) not in newest
    assert compare(client, "versions=all")["best"]["version"] == 1


@pytest.mark.usefixtures("board")
def test_rejected_versions_are_compared_only_when_asked_for(client: TestClient, registry: Registry) -> None:
    registry.add_model("broken", metrics=metrics(0.99, latency=0.1, size=10), rejected="3 points worse than its parent")
    assert "broken" not in front(compare(client))
    entry = compare(client, "include_rejected=true")["best"]
    assert (entry["name"], entry["state"], entry["rejected"]) == (
        "broken",
        "rejected",
        "3 points worse than its parent",
    )


@pytest.mark.usefixtures("board")
def test_versions_of_different_data_sets_have_fronts_of_their_own(client: TestClient, registry: Registry) -> None:
    registry.add_dataset("mini", shape=(3, 3, 1))
    registry.add_model("other", dataset="mini", metrics=metrics(0.5, latency=9.0, size=9000))
    found = client.get("/v1/compare").json()
    assert set(front(found)) == {"best", "alike", "small", "other"}
    assert (found["best"], found["nearest_miss"]) == (None, None)
    problem = assert_problem(client.get("/v1/compare?max_bytes=10"), 422, "invalid-request")
    assert (problem["errors"][0]["pointer"], "mini, pets" in problem["hint"]) == ("/query/dataset", True)


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    ("query", "slug", "pointer", "help_text"),
    [
        ("x=latencies", "unknown-component", "/query/x/0", "Did you mean `latency`?"),
        ("y=accurracy", "unknown-component", "/query/y", "Did you mean `accuracy`?"),
        ("versions=old", "unknown-component", "/query/versions", "newest, all"),
        ("max_latency=2", "unknown-field", "/query/max_latency", "Did you mean `max_latency_ms`?"),
        ("max_bytes=0", "out-of-range", "/query/max_bytes", "more than 0"),
        ("max_bytes=nan", "non-finite-number", "/query/max_bytes", "finite"),
        ("min_accuracy=95", "out-of-range", "/query/min_accuracy", "at most 1"),
        ("max_bytes=small", "invalid-request", "/query/max_bytes", ""),
        ("dataset=pest", "dataset-not-found", "/query/dataset", "Did you mean `pets`?"),
    ],
)
def test_a_wrong_query_is_refused(client: TestClient, query: str, slug: str, pointer: str, help_text: str) -> None:
    problem = assert_problem(client.get(f"/v1/compare?{query}"), 422, slug)
    assert problem["errors"][0]["pointer"] == pointer
    assert help_text in problem["hint"]
