"""The forest plot: differences from other models, with their intervals around zero."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.plots import svg
from app.plots.axes import WIDTH, Panel, in_numbers, in_percent, x_axis
from app.plots.scale import Scale, finite, linear, percent, short

_ROW = 34.0
_KINDS = {"better": "series-3", "worse": "series-2"}
Comparison = Mapping[str, Any]


def gain(comparisons: Sequence[Comparison], *, points: bool = True, title: str = "Gain over other models") -> str:
    """Draw each difference with its 95 % interval: right of zero the version is better; `points` are of accuracy."""
    room = min(max((svg.text_width(str(one["against"])) for one in comparisons), default=0.0) + 18, 260.0)
    panel = Panel(room, 30, WIDTH - room - 170, _ROW * max(len(comparisons), 1))
    ends = [end for one in comparisons for end in finite([*one["interval"], one["difference"]])]
    scale = linear([0.0, *ends], panel.left, panel.right, most=5)
    zero = scale(0.0)
    body = [
        x_axis(panel, scale, "Difference, with its 95 % interval", words=_in_points if points else in_numbers),
        svg.line(zero, panel.top - 4, zero, panel.bottom, kind="axis"),
        svg.label("worse", zero - 6, panel.top - 10, kind="muted", anchor="end") if zero > panel.left + 50 else "",
        svg.label("better", zero + 6, panel.top - 10, kind="muted") if zero < panel.right - 50 else "",
        *(_row(one, scale, panel, panel.top + place * _ROW, points=points) for place, one in enumerate(comparisons)),
    ]
    told = " ".join(_sentence(one, points=points) for one in comparisons[:10]) or "Nothing was compared."
    return svg.figure(title, told, *body, width=WIDTH, height=panel.bottom + 46)


def _in_points(ticks: Sequence[float]) -> list[str]:
    return [word if tick <= 0 else f"+{word}" for tick, word in zip(ticks, in_percent(ticks), strict=True)]


def _written(value: float | None, *, points: bool) -> str:
    return percent(value, signed=True) if points else short(value)


def _sentence(one: Comparison, *, points: bool) -> str:
    low, high = (_written(end, points=points) for end in one["interval"])
    difference = _written(one["difference"], points=points)
    return f"Against {one['against']}: {difference}, 95 % interval {low} to {high}, {one.get('verdict', '')}."


def _row(one: Comparison, scale: Scale, panel: Panel, top: float, *, points: bool) -> str:
    middle = top + _ROW / 2
    kind = _KINDS.get(str(one.get("verdict")), "series-7")
    known = finite([one["difference"]])
    ends = [scale(end) for end in finite(one["interval"])]
    parts = [svg.label(svg.shorten(str(one["against"]), panel.left - 14), panel.left - 10, middle + 4, anchor="end")]
    if len(ends) == 2:
        parts.append(svg.line(ends[0], middle, ends[1], middle, kind=f"line-{kind}"))
        parts += [svg.line(end, middle - 5, end, middle + 5, kind=f"line-{kind}") for end in ends]
    if known:
        hint = svg.hint(_sentence(one, points=points))
        parts.append(svg.element("circle", hint, cx=scale(known[0]), cy=middle, r=5.0, class_=kind))
    parts.append(svg.label(_written(one["difference"], points=points), panel.right + 12, middle - 2))
    parts.append(svg.label(str(one.get("verdict", "")), panel.right + 12, middle + 12, kind="muted"))
    return "".join(parts)
