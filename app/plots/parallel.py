"""Parallel coordinates: every version a line across all its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.plots import svg
from app.plots.axes import Panel
from app.plots.figures import Figure, figure_of
from app.plots.scale import Scale, adaptive, counted, finite

_AXIS_WIDTH = 130.0
_MOST_ROWS = 200
Row = Mapping[str, Any]


def parallel_coordinates(rows: Sequence[Row], axes: Sequence[str], *, title: str = "Versions side by side") -> str:
    """Draw each row as a line across the axes, good values at the top; rows marked `pareto` stand out."""
    figures = [figure_of(name) for name in axes]
    panel = Panel(70, 40, _AXIS_WIDTH * max(len(figures) - 1, 1), 260)
    scales = [_scale(rows, figure, panel) for figure in figures]
    places = [panel.left + _AXIS_WIDTH * place for place in range(len(figures))]
    shown = sorted(rows[:_MOST_ROWS], key=lambda row: bool(row.get("pareto")))
    body = [_line(row, figures, scales, places) for row in shown]
    body += [_axis(place, scale, figure, panel) for place, scale, figure in zip(places, scales, figures, strict=True)]
    marked = [_name(row) for row in rows if row.get("pareto")]
    words = ", ".join(figure.words for figure in figures) or "nothing"
    told = f"{counted(len(rows), 'version')} by {words}; the better the higher."
    if marked:
        told += f" On the front: {', '.join(marked[:10])}."
    return svg.figure(title, told, *body, width=panel.right + 70, height=panel.bottom + 40)


def _scale(rows: Sequence[Row], figure: Figure, panel: Panel) -> Scale:
    """Return a scale on which good is up."""
    ends = (panel.bottom, panel.top) if figure.more_is_better else (panel.top, panel.bottom)
    return adaptive((figure.value(row) for row in rows), *ends)


def _name(row: Row) -> str:
    version = row.get("version")
    return f"{row.get('name', '')}/{version}" if version is not None else str(row.get("name", ""))


def _line(row: Row, figures: Sequence[Figure], scales: Sequence[Scale], places: Sequence[float]) -> str:
    points, told = [], []
    for figure, scale, place in zip(figures, scales, places, strict=True):
        known = finite([figure.value(row)])
        if known:
            points.append((place, scale(known[0])))
            told.append(f"{figure.words} {figure.write(known[0])}")
    kind = "line-series-1" if row.get("pareto") else "line-series-7 thin faint"
    drawn = svg.path(points, kind=kind)
    return svg.element("g", svg.hint(f"{_name(row)}: {', '.join(told)}"), drawn) if drawn else ""


def _axis(place: float, scale: Scale, figure: Figure, panel: Panel) -> str:
    top, bottom = sorted((scale.low, scale.high), key=scale)
    words = svg.shorten(figure.words, _AXIS_WIDTH - 8, 10.0)
    return "".join(
        [
            svg.line(place, panel.top, place, panel.bottom, kind="axis"),
            svg.label(words, place, panel.top - 24, kind="ink small", anchor="middle"),
            svg.label(figure.write(top), place, panel.top - 8, kind="muted", anchor="middle"),
            svg.label(figure.write(bottom), place, panel.bottom + 18, kind="muted", anchor="middle"),
        ]
    )
