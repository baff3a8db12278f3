"""The colours of figures, light and dark: as a style sheet for pages, and written into a figure that stands alone."""

import re
from collections.abc import Mapping
from html import unescape
from typing import Literal, TypeAlias

from app.plots.svg import TEXT_SIZE, element, label, text_width

Theme: TypeAlias = Literal["light", "dark"]
Colours: TypeAlias = Mapping[str, str]
SHADES = 11
SERIES = 8
_HEADING_HEIGHT = 34.0
_ROOT = re.compile(r'<svg xmlns="[^"]*" viewBox="0 0 ([0-9.]+) ([0-9.]+)"[^>]*><title[^>]*>([^<]*)</title>')

# Okabe & Ito (2008), "Color Universal Design": told apart by colour-blind readers; darker on white, lighter on black,
# so that each has a contrast of at least 3 to the paper.
_LIGHT_SERIES = ("#0072b2", "#b35900", "#00805f", "#a8537f", "#3d7ea6", "#8a7000", "#55606b", "#7a4fb5")
_DARK_SERIES = ("#56b4e9", "#e69f00", "#2fc79b", "#e08fb9", "#9fd3f5", "#f0e442", "#b4bec8", "#b99cf0")


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.2)."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours, between 1 and 21 (WCAG 2.2)."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _ramp(start: str, middle: str, end: str) -> list[str]:
    half = (SHADES - 1) // 2
    places = [(start, middle, step / half) for step in range(half)]
    places += [(middle, end, step / half) for step in range(half + 1)]
    return [_between(*place) for place in places]


def _between(first: str, second: str, share: float) -> str:
    mixed = (round(a + (b - a) * share) for a, b in zip(_channels(first), _channels(second), strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _palette(base: Colours, series: tuple[str, ...], ramp: list[str]) -> dict[str, str]:
    shades = {f"heat-{place}": shade for place, shade in enumerate(ramp)}
    on_shades = {
        f"on-heat-{place}": max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, shade))
        for place, shade in enumerate(ramp)
    }
    return {**base, **{f"series-{place + 1}": colour for place, colour in enumerate(series)}, **shades, **on_shades}


def palette(theme: Theme) -> dict[str, str]:
    """Return the colours of a theme, by the name of the class that wears them."""
    if theme == "dark":
        base = {"paper": "#12171d", "ink": "#e8edf2", "muted": "#a3b0bd", "grid": "#2c3641", "front": "#e8edf2"}
        return _palette(base, _DARK_SERIES, _ramp("#1b232c", "#2a6496", "#bfe3ff"))
    base = {"paper": "#ffffff", "ink": "#1f2933", "muted": "#5a6672", "grid": "#dfe4ea", "front": "#1f2933"}
    return _palette(base, _LIGHT_SERIES, _ramp("#f3f7fb", "#6baed6", "#08306b"))


def _rules(colours: Colours) -> str:
    """Return the style sheet that draws figures in these colours."""
    series = [f"series-{place}" for place in range(1, SERIES + 1)]
    return "\n".join(
        [
            f".plot {{ font-family: system-ui, 'DejaVu Sans', sans-serif; font-size: {TEXT_SIZE:g}px }}",
            ".plot .small { font-size: 10px }",
            ".plot .heading { font-size: 15px; font-weight: 600 }",
            *(f".plot .{name} {{ fill: {colours[name]} }}" for name in ("paper", "ink", "muted")),
            *(f".plot .{name} {{ fill: {colours[name]} }}" for name in colours if "heat" in name),
            *(f".plot .{name} {{ fill: {colours[name]} }}" for name in series),
            f".plot .grid {{ stroke: {colours['grid']}; stroke-width: 1; fill: none }}",
            f".plot .axis {{ stroke: {colours['muted']}; stroke-width: 1; fill: none }}",
            f".plot .ideal {{ stroke: {colours['muted']}; stroke-width: 1; stroke-dasharray: 4 4; fill: none }}",
            f".plot .front {{ stroke: {colours['front']}; stroke-width: 1.5; stroke-dasharray: 6 3; fill: none }}",
            f".plot .box {{ fill: {colours['paper']}; stroke: {colours['muted']}; stroke-width: 1 }}",
            f".plot .chosen {{ fill: {colours['paper']}; stroke: {colours['series-1']}; stroke-width: 2.5 }}",
            *(
                f".plot .line-{name} {{ stroke: {colours[name]}; stroke-width: 2; fill: none; stroke-linejoin: round }}"
                for name in series
            ),
            f".plot .halo {{ stroke: {colours['paper']}; stroke-width: 4; paint-order: stroke; stroke-linejoin: round }}",
            ".plot .dashed { stroke-dasharray: 5 3 }",
            ".plot .thin { stroke-width: 1.2 }",
            ".plot .faint { opacity: 0.35 }",
        ]
    )


def _variables(theme: Theme) -> str:
    return " ".join(f"--plot-{name}: {colour};" for name, colour in palette(theme).items())


def page_style() -> str:
    """Return the style sheet for pages that hold figures: light or dark as the reader's system, or as `data-theme`."""
    named = {name: f"var(--plot-{name}, {colour})" for name, colour in palette("light").items()}
    dark = _variables("dark")
    return (
        f":root {{ {_variables('light')} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f':root[data-theme="light"] {{ {_variables("light")} }}\n'
        f':root[data-theme="dark"] {{ {dark} }}\n{_rules(named)}\n'
    )


def themed(svg: str, theme: Theme = "light") -> str:
    """Return a figure as a file of its own: with its colours, its paper, and its title to be seen."""
    found = _ROOT.match(svg)
    if found is None:
        raise ValueError("only a figure of app.plots can be given a theme")
    height, title = float(found[2]), found[3]
    width = max(float(found[1]), text_width(unescape(title), 15.0) + 24)
    style = element("style", _rules(palette(theme)))
    paper = element("rect", x=0.0, y=-_HEADING_HEIGHT, width=width, height=height + _HEADING_HEIGHT, class_="paper")
    # The title was escaped when it was written.
    heading = label("", 12.0, -12.0, kind="ink heading").replace("/>", f">{title}</text>")
    head = found[0].replace(
        f'viewBox="0 0 {found[1]} {found[2]}"',
        f'width="{width:g}" height="{height + _HEADING_HEIGHT:g}" '
        f'viewBox="0 {-_HEADING_HEIGHT:g} {width:g} {height + _HEADING_HEIGHT:g}"',
    )
    return f"{head}{style}{paper}{heading}{svg[found.end() :]}"
