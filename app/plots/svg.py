"""Write SVG: escaped text, short finite numbers, a title and a sentence for those who listen."""

import hashlib
import math
import re
import unicodedata
from html import escape

# What XML 1.0 does not allow, in names that users chose.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LARGEST = 1e6
TEXT_SIZE = 12.0


def plain(text: str) -> str:
    """Return text that cannot become markup, without the characters that XML forbids."""
    return escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text), quote=True)


def coordinate(value: float) -> str:
    """Return a coordinate with two decimals at most; what is no number, or endless, comes to lie at an edge."""
    if math.isnan(value):
        return "0"
    return f"{round(min(max(value, -_LARGEST), _LARGEST), 2) + 0.0:.10g}"


def element(name: str, *children: str, **attributes: str | float | None) -> str:
    """Return an element; `class_` names the attribute `class`, `stroke_width` is `stroke-width`, None is left out.

    >>> element("circle", cx=1.0, r=2.5, class_="ink")
    '<circle cx="1" r="2.5" class="ink"/>'
    """
    written = "".join(f' {_attribute(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    content = "".join(children)
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    return plain(value) if isinstance(value, str) else coordinate(value)


def label(
    words: str,
    x: float,
    y: float,
    *,
    kind: str = "ink",
    anchor: str = "start",
    size: float | None = None,
    turned: bool = False,
) -> str:
    """Return a line of text; `turned` text runs upwards."""
    turn = f"rotate(-90 {coordinate(x)} {coordinate(y)})" if turned else None
    return element(
        "text",
        plain(words),
        x=x,
        y=y,
        class_=kind,
        text_anchor=None if anchor == "start" else anchor,
        font_size=size,
        transform=turn,
    )


def line(x1: float, y1: float, x2: float, y2: float, *, kind: str) -> str:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def path(points: list[tuple[float, float]], *, kind: str, closed: bool = False) -> str:
    """Return a line through points; nothing for fewer than two."""
    if len(points) < 2:
        return ""
    steps = " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points)
    return element("path", d=f"M{steps.replace(' ', ' L')}{'Z' if closed else ''}", class_=kind)


def hint(words: str) -> str:
    """Return what a pointer that rests on a mark is shown."""
    return element("title", plain(words))


def figure(title: str, description: str, *body: str, width: float, height: float) -> str:
    """Return a complete figure; its colours come from the classes that `app.plots.style` describes."""
    content = "".join(body)
    # Figures stand side by side in one page, so each needs ids of its own.
    mark = hashlib.sha256(f"{title}{description}{content}".encode("utf-8", "replace")).hexdigest()[:10]
    return element(
        "svg",
        element("title", plain(title), id=f"title-{mark}"),
        element("desc", plain(description), id=f"desc-{mark}"),
        content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        role="img",
        aria_labelledby=f"title-{mark} desc-{mark}",
        class_="plot",
    )


def text_width(words: str, size: float = TEXT_SIZE) -> float:
    """Estimate the width of a line of text, rather too wide than too narrow."""
    return size * sum(1.05 if unicodedata.east_asian_width(sign) in "WF" else 0.62 for sign in words)


def shorten(words: str, width: float, size: float = TEXT_SIZE) -> str:
    """Return the text, its end replaced by an ellipsis where it is wider than that."""
    if text_width(words, size) <= width:
        return words
    kept = words
    while kept and text_width(kept + "…", size) > width:
        kept = kept[:-1]
    return kept.rstrip() + "…"
