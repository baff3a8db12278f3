"""Write a run as a page."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.machine import in_words
from benchmarks.serving.graphs import CASES
from benchmarks.serving.targets import Target, targets
from benchmarks.serving.turns import CONNECTIONS

Results = Mapping[str, Any]
_TARGETS = ("| target | measured | first | holds | then | holds |", "|---|---|---|---|---|---|")
_RATES = (
    "| server | connections | requests/s, median (least to most) | p50, ms | p99, ms | errors | CPU s per 1,000 |",
    "|---|---|---|---|---|---|---|",
)
_OPEN = ("| server | of its maximum | requests/s | p50, ms | p99, ms | errors |", "|---|---|---|---|---|---|")
_STARTS = (
    "| server | processes | ready, s | first answer, s | idle memory, MB | under load, MB |",
    "|---|---|---|---|---|---|",
)


def page(results: Results) -> str:
    """Return all tables of a run in Markdown."""
    return "\n".join([*_introduction(results), *_all_tables(results)]) + "\n"


def _introduction(results: Results) -> Iterator[str]:
    settings, ceiling = results["settings"], results.get("ceiling_rows_per_second")
    yield f"{in_words(results['machine'])}; {settings['rounds']} rounds of {settings['seconds']:g} s."
    if ceiling:
        yield f"OpenVINO alone, 2 threads, batches of 128: {ceiling:,.0f} images/s."
    for name, subject in results["subjects"].items():
        wrong = [f"{case}: {said}" for case, said in subject["checks"].items() if said != "equal"]
        if subject["failed"] or wrong:
            yield f"\n{subject['title']} (`{name}`): {subject['failed'] or '; '.join(wrong)}."
    yield ""


def _all_tables(results: Results) -> Iterator[str]:
    subjects = results["subjects"].values()
    yield from ("### Targets", "", *target_lines(targets(results)), "")
    for case, connections in CONNECTIONS.items():
        lines = [line for subject in subjects for line in _rates(subject, case, connections)]
        if lines:
            yield from (f"### {CASES[case].title[0].upper()}{CASES[case].title[1:]}", "", *_RATES, *lines, "")
    open_lines = [line for subject in subjects for line in _at_rates(subject)]
    if open_lines:
        yield from ("### At a given rate", "", *_OPEN, *open_lines, "")
    yield from ("### Start and memory", "", *_STARTS, *(line for subject in subjects for line in _starts(subject)))


def target_lines(found: Sequence[Target]) -> Iterator[str]:
    """Yield the table of targets."""
    yield from _TARGETS
    for target in found:
        measured = "not measured" if target.measured is None else f"{target.measured:.3g}{target.unit}"
        bounds = [
            (f"{target.bound} {bound:g}{target.unit}", _mark(target, bound)) for bound in (target.first, target.then)
        ]
        yield _row(target.text, measured, *bounds[0], *bounds[1])


def _mark(target: Target, bound: float) -> str:
    return {True: "yes", False: "**falls short**", None: ""}[target.holds(bound)]


def _rates(subject: Results, case: str, connections: Sequence[int]) -> Iterator[str]:
    for count in connections:
        entries = subject["closed"].get(case, {}).get(str(count), [])
        if entries:
            rates = [entry["requests_per_second"] for entry in entries]
            spread = f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
            latencies = [f"{_middle(entries, name):.1f}" for name in ("p50_ms", "p99_ms")]
            errors = str(sum(entry["errors"] for entry in entries))
            yield _row(
                subject["title"], str(count), spread, *latencies, errors,
                f"{_middle(entries, 'processor_seconds_per_1000'):.2f}",
            )  # fmt: skip


def _at_rates(subject: Results) -> Iterator[str]:
    for share, found in subject["open"].items():
        latencies = [f"{found[name]:.1f}" for name in ("p50_ms", "p99_ms")]
        yield _row(subject["title"], share, f"{found['requests_per_second']:,.0f}", *latencies, str(found["errors"]))


def _starts(subject: Results) -> Iterator[str]:
    starts, loads = subject["starts"], subject["closed"].get("one", {}).get("32", [])
    if starts and loads:
        yield _row(
            subject["title"],
            f"{_middle(starts, 'processes'):.0f}",
            f"{_middle(starts, 'ready_seconds'):.1f}",
            f"{_middle(starts, 'first_answer_seconds'):.1f}",
            f"{_middle(starts, 'idle_proportional_megabytes'):.0f}",
            f"{_middle(loads, 'proportional_megabytes'):.0f}",
        )


def _middle(entries: Sequence[Mapping[str, float]], name: str) -> float:
    return median(entry[name] for entry in entries)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
