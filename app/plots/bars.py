"""Figures of bars: scores by class, weights of members, rows by class, histograms."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.plots import svg
from app.plots.axes import WIDTH, Panel, Words, in_numbers, in_percent, x_axis, y_axis
from app.plots.scale import Scale, counted, finite, linear, percent, short

_ROW = 22.0
# More bars than these would make a figure that nobody scrolls through.
_MOST_ROWS = 100


class Bar(NamedTuple):
    """One bar: its name, its length, and what stands at its end."""

    name: str
    value: float | None
    words: str


def class_scores(
    by_class: Sequence[Mapping[str, Any]], labels: Sequence[str] = (), *, title: str = "F1 by class"
) -> str:
    """Draw the F1 of every class, the worst first, with its support."""
    bars = [
        Bar(_name(labels, place), figures.get("f1"), f"{percent(figures.get('f1'))} of {figures.get('support', 0):,}")
        for place, figures in enumerate(by_class)
    ]
    bars.sort(key=lambda bar: (bar.value is None, bar.value))
    known = [bar for bar in bars if bar.value is not None]
    told = f"F1 of {len(bars)} classes."
    if known:
        worst, best = known[0], known[-1]
        told += f" The worst is {worst.name} with {worst.words} rows, the best {best.name} with {best.words} rows."
    return _bar_chart(title, told, bars, ends=(0.0, 1.0), words=in_percent)


def member_weights(members: Sequence[Mapping[str, Any]], *, title: str = "Weights of the members") -> str:
    """Draw the weight of every member in the fusion."""
    bars = [
        Bar(member_name(member, place), member.get("weight"), short(member.get("weight")))
        for place, member in enumerate(members)
    ]
    known = [bar for bar in bars if bar.value is not None]
    most = max(known, key=lambda bar: bar.value or 0.0, default=None)
    told = f"{counted(len(bars), 'member')}." + (f" {most.name} has the largest weight, {most.words}." if most else "")
    return _bar_chart(title, told, bars)


def member_name(member: Mapping[str, Any], place: int) -> str:
    """Return what a report calls a member."""
    return str(member.get("name") or member.get("model") or f"member {place}")


def class_balance(counts: Sequence[int], labels: Sequence[str] = (), *, title: str = "Rows by class") -> str:
    """Draw how many rows every class has."""
    total = sum(counts)
    bars = [
        Bar(_name(labels, place), float(count), f"{count:,} ({percent(count / total if total else None)})")
        for place, count in enumerate(counts)
    ]
    told = f"{counted(total, 'row')} of {len(bars)} classes."
    if bars:
        low, high = min(bars, key=lambda bar: bar.value or 0.0), max(bars, key=lambda bar: bar.value or 0.0)
        told += f" The smallest is {low.name} with {low.words}, the largest {high.name} with {high.words}."
    return _bar_chart(title, told, bars)


def _name(labels: Sequence[str], place: int) -> str:
    return labels[place] if place < len(labels) else f"class {place}"


def _bar_chart(
    title: str, told: str, bars: Sequence[Bar], *, ends: tuple[float, ...] = (0.0,), words: Words = in_numbers
) -> str:
    """Return horizontal bars from zero, names at their left."""
    shown = bars[:_MOST_ROWS]
    room = min(max((svg.text_width(bar.name) for bar in shown), default=0.0) + 14, 200.0)
    after = max((svg.text_width(bar.words) for bar in shown), default=0.0) + 12
    panel = Panel(room, 10, WIDTH - room - after, _ROW * max(len(shown), 1))
    scale = linear([*ends, *(bar.value for bar in shown)], panel.left, panel.right)
    rows = [_bar(bar, scale, panel, panel.top + place * _ROW) for place, bar in enumerate(shown)]
    height = panel.bottom + 30
    if len(bars) > len(shown):
        left_out = f"{len(bars) - len(shown):,} more are left out."
        rows.append(svg.label(left_out, WIDTH - 8, height - 4, kind="muted", anchor="end"))
    return svg.figure(title, told, x_axis(panel, scale, words=words), *rows, width=WIDTH, height=height)


def _bar(bar: Bar, scale: Scale, panel: Panel, top: float) -> str:
    known = finite([bar.value])
    zero, end = scale(0.0), scale(known[0]) if known else scale(0.0)
    return "".join(
        [
            svg.label(svg.shorten(bar.name, panel.left - 12), panel.left - 8, top + 15, anchor="end"),
            svg.element(
                "rect",
                svg.hint(f"{bar.name}: {bar.words}"),
                x=min(zero, end),
                y=top + 3,
                width=abs(end - zero),
                height=_ROW - 6,
                class_="series-1",
            ),
            svg.label(bar.words, panel.right + 8, top + 15, kind="muted"),
        ]
    )


class Bins(NamedTuple):
    """Counts of numbers between edges; there is one more edge than counts."""

    edges: Sequence[float]
    counts: Sequence[int]


def histogram(
    values: Sequence[float] | Bins, *, name: str = "Value", bins: int = 30, title: str = "Distribution"
) -> str:
    """Draw how often numbers occur; `values` are numbers, or their counts in bins."""
    found = values if isinstance(values, Bins) else _counted(values, bins)
    panel = Panel(64, 34, WIDTH - 84, 200)
    across = linear(found.edges, panel.left, panel.right, most=8)
    up = linear([0.0, *map(float, found.counts)], panel.bottom, panel.top, most=4)
    parts = [y_axis(panel, up, "Rows"), x_axis(panel, across, name, grid=False)]
    for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        parts.append(_column(across, up, (low, high), count))
    total = sum(found.counts)
    told = (
        f"{counted(total, 'value')} from {short(found.edges[0])} to {short(found.edges[-1])}."
        if total
        else "No values."
    )
    return svg.figure(title, told, *parts, width=WIDTH, height=panel.bottom + 44)


def _column(across: Scale, up: Scale, ends: tuple[float, float], count: int) -> str:
    left, right, top = across(ends[0]), across(ends[1]), up(float(count))
    told = svg.hint(f"{short(ends[0])} to {short(ends[1])}: {count:,}")
    width = max(right - left - 1, 0.5)
    return svg.element("rect", told, x=left, y=top, width=width, height=up(0.0) - top, class_="series-1")


def _counted(values: Sequence[float], bins: int) -> Bins:
    found = finite(values)
    if not found:
        return Bins((0.0, 1.0), (0,))
    low, high = min(found), max(found)
    if high - low < max(abs(low), abs(high), 1e-300) * 1e-9:
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    counts, edges = np.histogram(found, bins=bins, range=(low, high))
    return Bins([float(edge) for edge in edges], [int(count) for count in counts])
