"""Figures along a line: learning curves, sparklines, waveforms."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from app.plots import svg
from app.plots.axes import WIDTH, KeyEntry, Panel, in_numbers, in_percent, key, x_axis, y_axis
from app.plots.scale import Scale, adaptive, counted, finite, linear, nice_ticks, percent, short

_MOST_POINTS = 400
Epoch = Mapping[str, Any]


class _Series(NamedTuple):
    name: str
    kind: str
    points: list[tuple[float, float]]


def learning_curves(history: Sequence[Epoch], *, title: str = "Learning curves") -> str:
    """Draw the losses, and the accuracies where there are some, of train and selection rows by epoch."""
    panels = [
        names for names in (("loss", "selection_loss"), ("accuracy", "selection_accuracy")) if _any(history, names)
    ]
    height = 60.0 + 250.0 * max(len(panels), 1)
    body = [
        _curves(history, names, Panel(64, 44 + 250.0 * place, WIDTH - 84, 180)) for place, names in enumerate(panels)
    ]
    if not panels:
        body = [svg.label("No epochs yet.", WIDTH / 2, height / 2, kind="muted", anchor="middle")]
    return svg.figure(title, _tell_curves(history), *body, width=WIDTH, height=height)


def _any(history: Sequence[Epoch], names: Sequence[str]) -> bool:
    return any(finite([_number(epoch, name)]) for epoch in history for name in names)


def _number(epoch: Epoch, name: str) -> float | None:
    value = epoch.get(name)
    return float(value) if isinstance(value, int | float) else None


def _points(history: Sequence[Epoch], name: str) -> list[tuple[float, float]]:
    """Return (epoch, value), where the value is a number, epochs counted from 1."""
    return [(place + 1.0, found[0]) for place, epoch in enumerate(history) if (found := finite([_number(epoch, name)]))]


def _curves(history: Sequence[Epoch], names: tuple[str, str], panel: Panel) -> str:
    told = (("train rows", "line-series-2"), ("selection rows", "line-series-1"))
    series = [_Series(words, kind, _points(history, name)) for name, (words, kind) in zip(names, told, strict=True)]
    series = [one for one in series if one.points]
    values = [value for one in series for _, value in one.points]
    across = _epochs(len(history), panel)
    up = (adaptive if names[0] == "loss" else linear)(values, panel.bottom, panel.top)
    words = in_percent if names[0] == "accuracy" else in_numbers
    marks = [
        svg.path([(across(x), up(y)) for x, y in _thinned(one.points)], kind=one.kind)
        + svg.element("circle", cx=across(one.points[-1][0]), cy=up(one.points[-1][1]), r=3.0, class_=one.kind[5:])
        for one in series
    ]
    frame = y_axis(panel, up, names[0].capitalize(), words=words) + x_axis(panel, across, "Epoch", grid=False)
    return frame + "".join(marks) + key([KeyEntry(one.name, one.kind) for one in series], panel.right, panel.top - 10)


def _epochs(count: int, panel: Panel) -> Scale:
    last = float(max(count, 2))
    ticks = [tick for tick in nice_ticks(1.0, last, most=8) if tick == int(tick) and 1 <= tick <= last]
    return Scale(1.0, last, panel.left, panel.right, tuple(dict.fromkeys([1.0, *ticks])))


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most so many points, the last among them."""
    stride = -(-len(points) // _MOST_POINTS)
    return [*points[::stride], points[-1]] if stride > 1 else list(points)


def _tell_curves(history: Sequence[Epoch]) -> str:
    losses, accuracies = _points(history, "selection_loss"), _points(history, "selection_accuracy")
    sentence = f"{counted(len(history), 'epoch')}."
    if losses:
        epoch, least = min(losses, key=lambda point: point[1])
        sentence += f" The loss of the selection rows is lowest in epoch {epoch:.0f} at {short(least)}"
        sentence += f" and ends at {short(losses[-1][1])}."
    if accuracies:
        sentence += f" Their accuracy ends at {percent(accuracies[-1][1])}."
    return sentence


def sparkline(
    values: Sequence[float | None], *, title: str = "Trend", width: float = 120.0, height: float = 28.0
) -> str:
    """Draw a line without axes, its last point marked."""
    found = finite(values)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    up = linear([low, high], height - 4, 4)
    last = max(len(found) - 1, 1)
    points = (
        [(3 + (width - 8) * place / last, up(value)) for place, value in _thinned(list(enumerate(found)))]
        if found
        else []
    )
    marks = [svg.path(points, kind="line-series-1 thin")]
    marks += [svg.element("circle", cx=x, cy=y, r=2.5, class_="series-1") for x, y in points[-1:]]
    told = (
        f"{counted(len(found), 'value')} from {short(low)} to {short(high)}, the last {short(found[-1])}."
        if found
        else "No values."
    )
    return svg.figure(title, told, *marks, width=width, height=height)


def waveform(
    samples: Sequence[float], *, seconds: float | None = None, title: str = "Waveform", width: float = WIDTH
) -> str:
    """Draw a signal as the range of its samples in every column."""
    found = finite(samples)
    panel = Panel(8, 8, width - 16, 96)
    reach = max((abs(value) for value in found), default=0.0) or 1.0
    middle, half = panel.top + panel.height / 2, panel.height / 2
    columns = _columns(found, int(panel.width // 2))
    upper = [(panel.left + 2 * place, middle - half * high / reach) for place, (_, high) in enumerate(columns)]
    lower = [(panel.left + 2 * place, middle - half * low / reach) for place, (low, _) in enumerate(columns)]
    body = [
        svg.line(panel.left, middle, panel.right, middle, kind="axis"),
        svg.path([*upper, *reversed(lower)], kind="series-1", closed=True),
    ]
    length = f", {seconds:.3g} seconds" if seconds is not None else ""
    told = f"{counted(len(found), 'sample')}{length}, of at most {short(reach)} in size."
    return svg.figure(title, told, *body, width=width, height=112)


def _columns(samples: Sequence[float], count: int) -> list[tuple[float, float]]:
    if not samples:
        return []
    edges = [len(samples) * place // count for place in range(count + 1)]
    parts = [samples[low : max(high, low + 1)] for low, high in pairwise(edges)]
    return [(min(part), max(part)) for part in parts]
