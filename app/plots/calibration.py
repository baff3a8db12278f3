"""The reliability diagram: how sure a model is, and how often it is right."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.plots import svg
from app.plots.axes import WIDTH, KeyEntry, Panel, in_percent, key, x_axis, y_axis
from app.plots.scale import Scale, finite, linear, percent

_Bin = Mapping[str, Any]


def reliability_diagram(calibration: Mapping[str, Any], *, ece: float | None = None, title: str = "Calibration") -> str:
    """Draw accuracy by confidence, the diagonal of a model that is as sure as it is right, and the rows below."""
    bins = [found for found in calibration.get("bins", ()) if found.get("rows")]
    panel, below = Panel(64, 44, WIDTH - 92, 300), Panel(64, 394, WIDTH - 92, 70)
    across = linear([0.0, 1.0], panel.left, panel.right)
    up = linear([0.0, 1.0], panel.bottom, panel.top)
    entries = [KeyEntry("as sure as right", "ideal"), KeyEntry("gap", "line-series-2")]
    body = [
        y_axis(panel, up, "Accuracy", words=in_percent),
        x_axis(panel, across, words=in_percent, grid=False),
        *(_bin(found, across, up) for found in bins),
        svg.line(across(0.0), up(0.0), across(1.0), up(1.0), kind="ideal"),
        *(_gap(found, across, up) for found in bins),
        key(entries, panel.right, panel.top - 14),
        _counts(bins, below, across),
    ]
    return svg.figure(title, _tell(bins, ece), *body, width=WIDTH, height=below.bottom + 44)


def _bin(found: _Bin, across: Scale, up: Scale) -> str:
    left, right, top = across(found["low"]), across(found["high"]), up(found["accuracy"])
    told = svg.hint(
        f"{percent(found['low'])} to {percent(found['high'])} sure: {percent(found['accuracy'])} right "
        f"of {found['rows']:,} rows, {percent(found['confidence'])} sure on average"
    )
    height = up(0.0) - top
    return svg.element("rect", told, x=left, y=top, width=max(right - left - 1, 0.5), height=height, class_="series-1")


def _gap(found: _Bin, across: Scale, up: Scale) -> str:
    place = across(found["confidence"])
    start, end = up(found["confidence"]), up(found["accuracy"])
    return svg.line(place, start, place, end, kind="line-series-2") + svg.element(
        "circle", cx=place, cy=end, r=3.0, class_="series-2"
    )


def _counts(bins: Sequence[_Bin], panel: Panel, across: Scale) -> str:
    up = linear([0.0, *(float(found["rows"]) for found in bins)], panel.bottom, panel.top, most=2)
    parts = [y_axis(panel, up, "Rows"), x_axis(panel, across, "Confidence", words=in_percent, grid=False)]
    for found in bins:
        left, right, top = across(found["low"]), across(found["high"]), up(float(found["rows"]))
        width, height = max(right - left - 1, 0.5), up(0.0) - top
        parts.append(svg.element("rect", x=left, y=top, width=width, height=height, class_="muted"))
    return "".join(parts)


def _tell(bins: Sequence[_Bin], ece: float | None) -> str:
    rows = sum(found["rows"] for found in bins)
    told = f"{rows:,} rows in {len(bins)} bins of confidence."
    if finite([ece]):
        told += f" Confidence and accuracy differ by {percent(ece)} on average (expected calibration error)."
    if bins:
        worst = max(bins, key=lambda found: abs(found["confidence"] - found["accuracy"]))
        told += (
            f" The largest gap: {percent(worst['confidence'])} sure and {percent(worst['accuracy'])} right "
            f"on {worst['rows']:,} rows."
        )
    return told
