"""The frame of a chart: where it lies, its axes, grid and key."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from app.plots import svg
from app.plots.scale import Scale, percent, tick_words

Words: TypeAlias = Callable[[Sequence[float]], list[str]]
WIDTH = 640.0


class Panel(NamedTuple):
    """The rectangle that the marks of a chart lie in."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Return the right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Return the lower edge."""
        return self.top + self.height


def in_numbers(ticks: Sequence[float]) -> list[str]:
    """Write ticks as numbers."""
    return tick_words(ticks)


def in_percent(ticks: Sequence[float]) -> list[str]:
    """Write ticks as per cent, with a decimal only where it tells them apart."""
    rough = [f"{100 * tick:.0f} %" for tick in ticks]
    return rough if len(set(rough)) == len(rough) else [percent(tick) for tick in ticks]


def x_axis(panel: Panel, scale: Scale, name: str = "", *, words: Words = in_numbers, grid: bool = True) -> str:
    """Return the axis below a panel."""
    parts: list[str] = []
    free_from = -1e9
    for tick, written in zip(scale.ticks, words(scale.ticks), strict=True):
        place, half = scale(tick), svg.text_width(written) / 2
        parts.append(svg.line(place, panel.top, place, panel.bottom, kind="grid") if grid else "")
        if place - half >= free_from:
            parts.append(svg.label(written, place, panel.bottom + 16, kind="muted", anchor="middle"))
            free_from = place + half + 4
    parts.append(svg.line(panel.left, panel.bottom, panel.right, panel.bottom, kind="axis"))
    parts.append(svg.label(name, (panel.left + panel.right) / 2, panel.bottom + 34, anchor="middle") if name else "")
    return "".join(parts)


def y_axis(panel: Panel, scale: Scale, name: str = "", *, words: Words = in_numbers) -> str:
    """Return the axis at the left of a panel, its name above it, where it is read without turning the head."""
    parts: list[str] = []
    for tick, written in zip(scale.ticks, words(scale.ticks), strict=True):
        place = scale(tick)
        parts.append(svg.line(panel.left, place, panel.right, place, kind="grid"))
        parts.append(svg.label(written, panel.left - 6, place + 4, kind="muted", anchor="end"))
    parts.append(svg.label(name, 4, panel.top - 14) if name else "")
    return "".join(parts)


class KeyEntry(NamedTuple):
    """One line of a key: what it means, and the class that draws it."""

    words: str
    kind: str


def key(entries: Sequence[KeyEntry], right: float, y: float) -> str:
    """Return a key in one row that ends at `right`."""
    parts: list[str] = []
    for entry in reversed(entries):
        right -= svg.text_width(entry.words)
        parts.append(svg.label(entry.words, right, y, kind="muted"))
        parts.append(svg.line(right - 26, y - 4, right - 6, y - 4, kind=entry.kind))
        right -= 44
    return "".join(parts)
