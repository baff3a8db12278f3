"""Figures of cells: confusion matrix, diversity of members."""

import math
from collections.abc import Callable, Sequence

from app.plots import svg
from app.plots.scale import counted, finite, percent, short
from app.plots.style import SHADES

# The names of more classes than these would be too small to read.
_MOST_COUNTED = 30
_MOST_NAMED = 60
_MOST_SIDE = 600.0
_CELL = 44.0
Rows = Sequence[Sequence[float]]


def confusion_matrix(
    confusion: Sequence[Sequence[int]], labels: Sequence[str] = (), *, title: str = "Confusion"
) -> str:
    """Draw counts of rows by label and answer; the shade is the share of the label's rows."""
    names = _names(labels, len(confusion))
    totals = [sum(row) for row in confusion]
    shares = [[count / max(total, 1) for count in row] for row, total in zip(confusion, totals, strict=True)]

    def tell(row: int, column: int) -> str:
        count, share = confusion[row][column], percent(shares[row][column])
        return f"{names[row]} answered as {names[column]}: {count:,} of {totals[row]:,} rows ({share})"

    words = [[f"{count:,}" if count else "" for count in row] for row in confusion]
    body, width, height = _cells(shares, words, names, tell, axes=("Label", "Answer"))
    return svg.figure(title, _tell_confusion(confusion, names), body, width=width, height=height)


def _tell_confusion(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    total = sum(map(sum, confusion))
    right = sum(row[place] for place, row in enumerate(confusion))
    told = (
        f"{right:,} of {total:,} rows of {len(names)} classes are right ({percent(right / total if total else None)})."
    )
    wrong = [
        (count, row, column)
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    if not wrong:
        return told
    count, row, column = max(wrong, key=lambda item: item[0])
    return f"{told} The most frequent error: {count:,} rows of {names[row]} answered as {names[column]}."


def diversity_matrix(
    diversity: Rows,
    names: Sequence[str] = (),
    *,
    measure: str = "disagreement",
    title: str = "Diversity of the members",
) -> str:
    """Draw a measure of every two members, such as the share of rows on which their answers differ."""
    called = _names(names, len(diversity), other="member")
    apart = finite(
        value for row, values in enumerate(diversity) for column, value in enumerate(values) if row != column
    )
    most = max((abs(value) for value in apart), default=0.0)
    shades = [[abs(value) / most if most and math.isfinite(value) else 0.0 for value in row] for row in diversity]
    words = [
        ["" if row == column else _cell_words(value) for column, value in enumerate(values)]
        for row, values in enumerate(diversity)
    ]

    def tell(row: int, column: int) -> str:
        return f"{called[row]} and {called[column]}: {measure} {short(diversity[row][column])}"

    told = (
        f"{counted(len(called), 'member')}; their {measure} is between {short(min(apart))} and {short(max(apart))}."
        if apart
        else "One member."
    )
    body, width, height = _cells(shades, words, called, tell, axes=("", ""))
    return svg.figure(title, told, body, width=width, height=height)


def _cell_words(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000 else short(value)


def _names(given: Sequence[str], count: int, *, other: str = "class") -> list[str]:
    return [given[place] if place < len(given) else f"{other} {place}" for place in range(count)]


def _cells(
    shares: Rows,
    words: Sequence[Sequence[str]],
    names: Sequence[str],
    tell: Callable[[int, int], str],
    *,
    axes: tuple[str, str],
) -> tuple[str, float, float]:
    """Return the drawing of a square matrix, its width and its height."""
    count = max(len(names), 1)
    side = min(_CELL, _MOST_SIDE / count)
    size = min(svg.TEXT_SIZE, side * 0.8)
    room = (
        min(max((svg.text_width(name, size) for name in names), default=0.0) + 10, 160.0)
        if count <= _MOST_NAMED
        else 8.0
    )
    left, top = room + (22 if axes[0] else 4), room + (22 if axes[1] else 4)
    parts = [
        _cell(
            left + column * side, top + row * side, side, share=share, words=words[row][column], told=tell(row, column)
        )
        for row, values in enumerate(shares)
        for column, share in enumerate(values)
    ]
    if count <= _MOST_NAMED:
        parts += _cell_names(names, left, top, side=side, size=size, room=room - 8)
    end = side * count
    parts.append(svg.label(axes[0], 14, top + end / 2, anchor="middle", turned=True) if axes[0] else "")
    parts.append(svg.label(axes[1], left + end / 2, 14, anchor="middle") if axes[1] else "")
    return "".join(parts), max(left + end + 8, 180.0), top + end + 8


def _cell(x: float, y: float, side: float, *, share: float, words: str, told: str) -> str:
    shade = min(max(round(share * (SHADES - 1)), 0), SHADES - 1)
    gap = 1.0 if side > 6 else 0.0
    square = svg.element("rect", svg.hint(told), x=x, y=y, width=side - gap, height=side - gap, class_=f"heat-{shade}")
    size = min(svg.TEXT_SIZE, (side - 2) / max(svg.text_width(words, 1.0), 1.0))
    if not words or size < 5.5:
        return square
    place = (x + (side - gap) / 2, y + (side - gap) / 2 + size * 0.36)
    return square + svg.label(words, *place, kind=f"on-heat-{shade}", anchor="middle", size=size)


def _cell_names(names: Sequence[str], left: float, top: float, *, side: float, size: float, room: float) -> list[str]:
    parts: list[str] = []
    for place, name in enumerate(names):
        middle = (place + 0.5) * side + size * 0.36
        shown = svg.shorten(name, room, size)
        parts.append(svg.label(shown, left - 6, top + middle, kind="muted", anchor="end", size=size))
        parts.append(svg.label(shown, left + middle, top - 6, kind="muted", size=size, turned=True))
    return parts
