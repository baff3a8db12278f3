"""The scale benchmark: what it fills in is a registry and a queue like any other, and its page says what fails."""

from pathlib import Path

from app.db import registry
from app.db.attempts import claim
from app.db.pages import PageRequest
from app.db.session import Sessions, reading
from app.domain.jobs import Timing
from benchmarks.pages import write_between
from benchmarks.scale.cost import network_of
from benchmarks.scale.filling import VERSIONS_OF_A_MODEL, add_jobs, add_versions, model_name, recipe_of
from benchmarks.scale.registry_size import measure_view
from benchmarks.scale.table import page
from benchmarks.scale.timing import seconds_of, spread_ms
from benchmarks.serving.graphs import reference_network

MACHINE = {"processor": "P", "cores": 2, "python": "3.11", "load_average_before": [0.1]}


def test_versions_that_are_filled_in_can_be_found_in_every_way(sessions: Sessions) -> None:
    add_versions(sessions, 2 * VERSIONS_OF_A_MODEL)
    with reading(sessions) as session:
        newest = registry.resolve(session, f"{model_name(1)}@champion")
        assert (newest.version, dict(newest.tags)) == (VERSIONS_OF_A_MODEL, {"team": "vision"})
        assert newest.manifest.digest == newest.digest
        found = registry.find_by_recipe(session, recipe_of(model_name(0), 7))
        assert found is not None
        assert (found.name, found.version) == (model_name(0), 7)
        names = [model.name for model in registry.list_models(session, PageRequest()).items]
    assert names == [model_name(0), model_name(1)]


def test_jobs_that_are_filled_in_are_claimed_one_after_another(sessions: Sessions) -> None:
    add_jobs(sessions, 3)
    claimed = [claim(sessions, "worker", timing=Timing()) for _ in range(4)]
    assert [job is None for job in claimed] == [False, False, False, True]


def test_the_view_is_measured_on_a_filled_registry(sqlite_sessions: Sessions, sqlite_url: str) -> None:
    add_versions(sqlite_sessions, 4 * VERSIONS_OF_A_MODEL)
    found = measure_view(sqlite_url)
    assert set(found) == {"first_read_seconds", "megabytes", "after_a_change_seconds", "unchanged_ms", "resolve_ms"}


def test_the_reference_is_that_of_the_serving_benchmark() -> None:
    assert network_of("reference") == reference_network()


def test_the_spread_is_in_milliseconds() -> None:
    assert spread_ms([0.001] * 19 + [0.1]) == {"p50_ms": 1.0, "p95_ms": 5.95, "max_ms": 100.0}
    assert len(seconds_of(lambda given: given, range(3))) == 3


def test_the_page_marks_what_is_too_slow() -> None:
    view = dict.fromkeys(
        ("first_read_seconds", "after_a_change_seconds", "unchanged_ms", "resolve_ms", "megabytes"), 1.0
    )
    queries = {"resolve a number": {"p95_ms": 3.0}, "list models, a page": {"p95_ms": 70.0}}
    one = {"versions": 1000, "queries": queries, "view": view}
    claims = {"queued": 10, "one worker": {"p95_ms": 25.0}, "8 workers at once": {"p95_ms": 90.0}}
    followed = {
        "followers": 1000,
        "all_connected": True,
        "connected_seconds": 1.0,
        "processor_while_quiet": 0.1,
        "megabytes_per_1000": 70.0,
        "news_told": 5,
        "news_that_reached_all": 0,
        "seconds_to_reach_all": None,
    }
    found = {
        "machine": MACHINE,
        "registry": {"sqlite": one, "postgresql": one},
        "queue": {"sqlite": claims, "postgresql": claims},
        "followers": [followed],
    }
    text = page(found)
    assert "| resolve a number | 3.0 | 3.0 | yes |" in text
    assert "| list models, a page | 70.0 | 70.0 | **no** |" in text
    assert "| one worker | 25.0 | 25.0 | **no** |" in text
    assert "| 1,000 | 1.0 | 0.10 | 70 | never | 0 of 5 |" in text


def test_a_table_replaces_what_stood_between_its_comments(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n")
    write_between(file, "x", "new\n")
    write_between(file, "x", "newer\n")
    assert file.read_text() == "a\n<!-- x -->\nnewer\n<!-- /x -->\nb\n"
