"""The Pareto view: what each version costs, how good it is, and which of them no other beats."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from app.domain.pareto import pareto_front
from app.plots import svg
from app.plots.axes import WIDTH, KeyEntry, Panel, in_numbers, in_percent, key, x_axis, y_axis
from app.plots.figures import Figure, figure_of
from app.plots.scale import Scale, adaptive, counted, finite, linear, tick_words
from app.plots.style import SERIES

_MOST_LABELS = 40
_LABEL_HEIGHT = 13.0
Entry = Mapping[str, Any]
_Spot = tuple[float, float]


class _Point(NamedTuple):
    entry: Entry
    x: float
    y: float
    group: int
    on_front: bool


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "_Box") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


class _Chart(NamedTuple):
    panel: Panel
    across: Scale
    up: Scale


def pareto(entries: Sequence[Entry], *, x: str = "latency", y: str = "accuracy", title: str = "") -> str:
    """Draw the entries of `/v1/compare` by cost and quality; the front of each data set is a line of steps."""
    cost, quality = figure_of(x), figure_of(y)
    points = _points(entries, cost, quality)
    panel = Panel(72, 44, WIDTH - 96, 340)
    chart = _Chart(
        panel,
        adaptive((point.x for point in points), panel.left, panel.right),
        _up(points, quality, panel),
    )
    fronts = [_front(group, chart, quality) for group in _by_group(points)]
    words = in_percent if quality.unit == "%" else in_numbers
    body = [
        y_axis(panel, chart.up, quality.words, words=words),
        x_axis(panel, chart.across, cost.words, words=lambda ticks: tick_words(ticks, unit=_tick_unit(cost))),
        *(svg.path(front, kind="front") for front in fronts),
        *(_whisker(point, chart, quality) for point in points),
        *(_mark(point, chart, (cost, quality)) for point in points),
        *_labels(points, chart, fronts),
        _key(points, panel),
    ]
    return svg.figure(
        title or f"{quality.words} by {_lower(cost.words)}",
        _tell(points, cost, quality),
        *body,
        width=WIDTH,
        height=panel.bottom + 46,
    )


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]


def _tick_unit(figure: Figure) -> str:
    # Milliseconds stand in the name of the axis.
    return "B" if figure.unit == "B" else ""


def _points(entries: Sequence[Entry], cost: Figure, quality: Figure) -> list[_Point]:
    """Return the entries that have both figures, each marked when none of its data set beats it in both."""
    groups = sorted({str(entry.get("dataset", "")) for entry in entries})
    found: list[_Point] = []
    for place, group in enumerate(groups):
        rows = [
            (entry, known[0], known[1])
            for entry in entries
            if str(entry.get("dataset", "")) == group
            and len(known := finite([cost.value(entry), quality.value(entry)])) == 2
        ]
        sign = -1.0 if quality.more_is_better else 1.0
        front = pareto_front([(x, sign * y) for _, x, y in rows])
        found += [_Point(*row, place % SERIES + 1, on_it) for row, on_it in zip(rows, front, strict=True)]
    return found


def _interval(point: _Point, quality: Figure) -> list[float]:
    ends = finite(point.entry.get(f"{quality.key}_interval") or ())
    return ends if len(ends) == 2 else []


def _up(points: Sequence[_Point], quality: Figure, panel: Panel) -> Scale:
    values = [value for point in points for value in (point.y, *_interval(point, quality))]
    return linear(values, panel.bottom, panel.top)


def _by_group(points: Iterable[_Point]) -> list[list[_Point]]:
    groups: dict[int, list[_Point]] = {}
    for point in points:
        groups.setdefault(point.group, []).append(point)
    return list(groups.values())


def _front(points: Sequence[_Point], chart: _Chart, quality: Figure) -> list[_Spot]:
    """Return the corners of the border of what is reached: the best quality at no more than each cost."""
    front = sorted((point for point in points if point.on_front), key=lambda point: (point.x, point.y))
    steps: list[_Spot] = []
    for point in front:
        place = (chart.across(point.x), chart.up(point.y))
        steps += [(place[0], steps[-1][1])] if steps else []
        steps.append(place)
    if not steps:
        return []
    worst = chart.panel.bottom if quality.more_is_better else chart.panel.top
    return [(steps[0][0], worst), *steps, (chart.panel.right, steps[-1][1])]


def _whisker(point: _Point, chart: _Chart, quality: Figure) -> str:
    ends = _interval(point, quality)
    if not ends:
        return ""
    x, (low, high) = chart.across(point.x), (chart.up(end) for end in ends)
    kind = f"line-series-{point.group} thin faint"
    return "".join(
        [
            svg.line(x, low, x, high, kind=kind),
            svg.line(x - 4, low, x + 4, low, kind=kind),
            svg.line(x - 4, high, x + 4, high, kind=kind),
        ]
    )


def _reference(entry: Entry) -> str:
    version = entry.get("version")
    return f"{entry.get('name', '')}/{version}" if version is not None else str(entry.get("name", ""))


def _mark(point: _Point, chart: _Chart, figures: tuple[Figure, Figure]) -> str:
    cost, quality = figures
    front = ", on the front" if point.on_front else ""
    told = svg.hint(f"{_reference(point.entry)}: {quality.write(point.y)} at {cost.write(point.x)}{front}")
    place = {"cx": chart.across(point.x), "cy": chart.up(point.y)}
    if point.on_front:
        return svg.element("circle", told, **place, r=5.5, class_=f"series-{point.group}")
    return svg.element("circle", told, **place, r=4.0, class_=f"line-series-{point.group} thin")


def _labels(points: Sequence[_Point], chart: _Chart, fronts: Sequence[Sequence[_Spot]]) -> list[str]:
    """Return names beside the points, those of the front first; one that finds no free place is left to the pointer."""
    taken = [
        _Box(x - 5, y - 5, x + 5, y + 5) for point in points for x, y in [(chart.across(point.x), chart.up(point.y))]
    ]
    taken += [_segment(start, end) for front in fronts for start, end in pairwise(front)]
    parts: list[str] = []
    for point in sorted(points, key=lambda point: not point.on_front)[:_MOST_LABELS]:
        words = svg.shorten(_reference(point.entry), 170.0)
        x, y = chart.across(point.x), chart.up(point.y)
        box = next((box for box in _places(x, y, svg.text_width(words)) if _is_free(box, taken, chart.panel)), None)
        if box is not None:
            taken.append(box)
            kind = "ink halo" if point.on_front else "muted halo"
            parts.append(svg.label(words, box.left, box.bottom - 3, kind=kind))
    return parts


def _segment(start: _Spot, end: _Spot) -> _Box:
    return _Box(min(start[0], end[0]), min(start[1], end[1]), max(start[0], end[0]) + 0.5, max(start[1], end[1]) + 0.5)


def _places(x: float, y: float, width: float) -> list[_Box]:
    corners = [
        (x + 8, y - _LABEL_HEIGHT - 1),
        (x + 8, y + 2),
        (x - 8 - width, y - _LABEL_HEIGHT - 1),
        (x - 8 - width, y + 2),
        (x - width / 2, y - _LABEL_HEIGHT - 10),
        (x - width / 2, y + 10),
    ]
    return [_Box(left, top, left + width, top + _LABEL_HEIGHT) for left, top in corners]


def _is_free(box: _Box, taken: Sequence[_Box], panel: Panel) -> bool:
    inside = (
        box.left >= panel.left and box.right <= WIDTH - 4 and box.top >= panel.top - 6 and box.bottom <= panel.bottom
    )
    return inside and not any(box.meets(other) for other in taken)


def _key(points: Sequence[_Point], panel: Panel) -> str:
    named = {point.group: str(point.entry.get("dataset", "")) for point in points}
    if len(named) < 2:
        return key([KeyEntry("front", "front")], panel.right, panel.top - 14)
    entries = [KeyEntry(svg.shorten(name, 110.0), f"line-series-{group}") for group, name in list(named.items())[:4]]
    return key(entries, panel.right, panel.top - 14)


def _tell(points: Sequence[_Point], cost: Figure, quality: Figure) -> str:
    if not points:
        return "No version has both figures."
    front = sorted((point for point in points if point.on_front), key=lambda point: point.x)
    named = "; ".join(
        f"{_reference(point.entry)} with {quality.write(point.y)} at {cost.write(point.x)}" for point in front[:10]
    )
    return f"{counted(len(points), 'version')}, {len(front)} on the front: {named}."
