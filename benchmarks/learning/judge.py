"""Compare a report with what its row must show."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.learning.rows import Row

Report = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """Say what was to be shown, what was measured, and whether it holds."""

    text: str
    measured: str
    holds: bool


def accuracy_of(report: Report) -> tuple[float, tuple[float, float]]:
    """Return accuracy and 95 % interval in percent: over the seeds where there are several, else of the rows."""
    repeats = report.get("repeats")
    if repeats:
        mean, (low, high) = repeats["accuracy"]["mean"], repeats["accuracy"]["interval"]
    else:
        mean, (low, high) = report["metrics"]["accuracy"], report["metrics"]["accuracy_interval"]
    return 100 * mean, (100 * low, 100 * high)


def judge(row: Row, report: Report, other: Report | None) -> list[Claim]:
    """Return every claim of a row about its report and that of the model that it is compared with."""
    return [*_about_itself(row, report), *(_about_both(row, report, other) if other else ())]


def _about_itself(row: Row, report: Report) -> Iterator[Claim]:
    mean, (low, high) = accuracy_of(report)
    if row.holds.accuracy_at_least is not None:
        least = row.holds.accuracy_at_least
        yield Claim(f"accuracy at least {least:g} %", f"{mean:.2f} %", mean >= least)
    if row.holds.accuracy_above is not None:
        bound = row.holds.accuracy_above
        yield Claim(f"accuracy above {bound:g} %", f"{mean:.2f} %", mean > bound)
    if row.holds.accuracy_is is not None:
        figure = row.holds.accuracy_is
        yield Claim(f"accuracy of {figure:.2f} %", f"{mean:.2f} %", round(mean, 2) == figure)
    if row.holds.interval_above is not None:
        bound = row.holds.interval_above
        yield Claim(f"95 % interval above {bound:g} %", f"{low:.2f} to {high:.2f} %", low > bound)
    if row.holds.served_bytes_at_most is not None:
        served, most = report["metrics"]["served_bytes"], row.holds.served_bytes_at_most
        yield Claim(f"at most {most:,} bytes", f"{served:,} bytes", served <= most)
    if row.holds.gain_kept_at_least is not None:
        yield _about_gain(report["method"], row.holds.gain_kept_at_least)
    if row.holds.interval_meets is not None:
        wanted_low, wanted_high = row.holds.interval_meets
        meets = low <= wanted_high and high >= wanted_low
        yield Claim(f"95 % interval meets {wanted_low:g} to {wanted_high:g} %", f"{low:.2f} to {high:.2f} %", meets)
    if row.holds.non_inferior:
        gate = report["gate"]
        yield Claim(
            f"at most {gate['max_drop']:g} points worse, 95 % sure",
            f"{gate['difference']:+.2f} points, lower bound {gate['lower_bound']:+.2f}",
            gate["passed"],
        )
    if row.holds.faster is not None:
        yield _about_speed(report["speed"], row.holds.faster)


def _about_gain(method: Report, least: float) -> Claim:
    kept, interval = method["gap_kept"], method["gap_kept_interval"]
    measured = "no lead to keep" if kept is None else f"{100 * kept:.0f} %"
    if interval is not None:
        measured += f" ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})"
    return Claim(f"at least {100 * least:.0f} % of the gain kept", measured, kept is not None and kept >= least)


def _about_speed(speed: Report, factor: float) -> Claim:
    """Judge by the lower bound: a ratio whose interval reaches below the factor does not show it."""
    bounds = {size: speed[f"ratio_batch_{size}_interval"] for size in (1, 32)}
    measured = ", ".join(
        f"{speed[f'ratio_batch_{size}']:.2f}x ({low:.2f} to {high:.2f}) at batch {size}"
        for size, (low, high) in bounds.items()
    )
    return Claim(f"at least {factor:g}x faster, 95 % sure", measured, max(low for low, _ in bounds.values()) >= factor)


def _about_both(row: Row, report: Report, other: Report) -> Iterator[Claim]:
    own, others = report["metrics"], other["metrics"]
    for figure, factor in row.holds.smaller.items():
        ratio = others[figure] / own[figure]
        name = figure.replace("_", " ")
        measured = f"{ratio:.1f}x ({others[figure]:,} to {own[figure]:,})"
        yield Claim(f"at least {factor:g}x fewer {name}", measured, ratio >= factor)
    if row.holds.points_lost_at_most is not None:
        lost = 100 * (others["accuracy"] - own["accuracy"])
        most = row.holds.points_lost_at_most
        yield Claim(f"at most {most:g} points lost", f"{-lost:+.2f} points", round(lost, 6) <= most)
