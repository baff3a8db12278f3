"""Write what was measured as a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.machine import in_words

Results = Mapping[str, Any]
QUERY_MS, CLAIM_MS, PAGE_MS = 50.0, 20.0, 200.0


def page(results: Results) -> str:
    """Return all tables in Markdown; parts that were not run are left out."""
    parts = {"registry": _registry, "queue": _queue, "followers": _followers, "cost": _cost, "pages": _pages}
    lines = [f"{in_words(results['machine'])}.", ""]
    for name, write in parts.items():
        if name in results:
            lines += [*write(results[name]), ""]
    return "\n".join(lines)


def _registry(found: Mapping[str, Results]) -> Iterator[str]:
    names = list(found)
    count = next(iter(found.values()))["versions"]
    yield from (f"### A registry of {count:,} versions", "")
    yield from _head("p95, ms", names, f"at most {QUERY_MS:g}")
    for query in next(iter(found.values()))["queries"]:
        slowest = [found[name]["queries"][query]["p95_ms"] for name in names]
        yield _row(query, *(f"{value:.1f}" for value in slowest), _mark(max(slowest) <= QUERY_MS))
    yield from ("", *_head("the view in one API process", names))
    for key, title in _VIEW.items():
        yield _row(title, *(f"{found[name]['view'][key]:,.3g}" for name in names))


_VIEW = {
    "first_read_seconds": "read at the start, s",
    "after_a_change_seconds": "read after a change, s",
    "unchanged_ms": "look whether anything changed, ms",
    "resolve_ms": "resolve an alias, ms",
    "megabytes": "memory, MB",
}


def _queue(found: Mapping[str, Results]) -> Iterator[str]:
    names = list(found)
    queued = next(iter(found.values()))["queued"]
    yield from (f"### {queued:,} queued jobs", "")
    yield from _head("p95 of a claim, ms", names, f"at most {CLAIM_MS:g} on PostgreSQL")
    for workers in [key for key in next(iter(found.values())) if key != "queued"]:
        slowest = {name: found[name][workers]["p95_ms"] for name in names}
        # The bound is for a worker that comes when it is free; many that come without a pause wait for processors.
        mark = _mark(slowest["postgresql"] <= CLAIM_MS) if workers == "one worker" else ""
        yield _row(workers, *(f"{value:.1f}" for value in slowest.values()), mark)


def _followers(found: Sequence[Results]) -> Iterator[str]:
    yield from ("### Followers of one job", "")
    yield from _head("followers", _FOLLOWERS)
    for run in found:
        late = "never" if run["seconds_to_reach_all"] is None else f"{run['seconds_to_reach_all']:.2f}"
        connected = f"{run['connected_seconds']:.1f}" if run["all_connected"] else "never"
        reached = f"{run['news_that_reached_all']} of {run['news_told']}"
        cores = f"{run['processor_while_quiet']:.2f}"
        yield _row(f"{run['followers']:,}", connected, cores, f"{run['megabytes_per_1000']:.0f}", late, reached)


_FOLLOWERS = (
    "all connected after, s",
    "cores while nothing happens",
    "MB for 1,000",
    "news reaches all after, s",
    "news that reached all",
)


def _cost(found: Sequence[Results]) -> Iterator[str]:
    batches = sorted({entry["batch"] for entry in found})
    yield from ("### A prediction in this process, microseconds a row", "")
    yield from _head("network, members", [f"batch {batch}" for batch in batches])
    rows = dict.fromkeys((entry["size"], entry["parameters"], entry["members"]) for entry in found)
    for size, parameters, members in rows:
        entries = [entry for entry in found if (entry["size"], entry["members"]) == (size, members)]
        cells = [f"{entry['microseconds_of_a_row']:,.0f} ({entry['engine']})" for entry in entries]
        yield _row(f"{size} ({parameters:,} parameters), {members}", *cells)


def _pages(found: Results) -> Iterator[str]:
    yield from (f"### Pages of the dashboard, {found['jobs']:,} jobs and {found['versions']:,} versions", "")
    yield from _head("ms", ("the first time", "p50", "p95"), f"p95 at most {PAGE_MS:g}")
    for name, took in found["pages"].items():
        cells = (f"{took[key]:.1f}" for key in ("first_ms", "p50_ms", "p95_ms"))
        yield _row(name, *cells, _mark(took["p95_ms"] <= PAGE_MS))


def _head(first: str, names: Sequence[str], last: str | None = None) -> Iterator[str]:
    cells = [first, *names, *([last] if last else [])]
    yield _row(*cells)
    yield "|" + "---|" * len(cells)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _mark(holds: bool) -> str:  # noqa: FBT001 - what it marks
    return "yes" if holds else "**no**"
