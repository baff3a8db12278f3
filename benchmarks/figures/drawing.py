"""Write drawings as SVG whose colours follow the light or dark scheme of the page that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal, TypeAlias

Point: TypeAlias = tuple[float, float]
Anchor: TypeAlias = Literal["start", "middle", "end"]
WIDTH = 640.0

# Blue, orange and green of Okabe & Ito, darker on light ground and lighter on dark ground, so that text of them reads.
STYLE = """
text{font:13px system-ui,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2933}
.small{font-size:11px}.strong{font-weight:600}.muted{fill:#55616d}
.line{stroke:#55616d;fill:none;stroke-width:1.5}.faint{stroke:#c5ced8;fill:none;stroke-width:1}
.head{fill:#55616d}.ground{fill:#eef2f6;stroke:#c5ced8;stroke-width:1}
.a{fill:#0072b2}.b{fill:#b8500a}.c{fill:#00795a}.none{fill:#c5ced8}
.a-soft{fill:#cfe4f2;stroke:#0072b2}.b-soft{fill:#f7dcc7;stroke:#b8500a}.c-soft{fill:#cdeade;stroke:#00795a}
.a-line{stroke:#0072b2;fill:none;stroke-width:2}.b-line{stroke:#b8500a;fill:none;stroke-width:2}
.c-line{stroke:#00795a;fill:none;stroke-width:2}.dashed{stroke-dasharray:5 4}
@media (prefers-color-scheme:dark){
text{fill:#e4e9ee}.muted{fill:#a9b5c1}.line{stroke:#a9b5c1}.faint{stroke:#46525f}.head{fill:#a9b5c1}
.ground{fill:#27303a;stroke:#46525f}.a{fill:#56b4e9}.b{fill:#f0a060}.c{fill:#45c9a0}.none{fill:#46525f}
.a-soft{fill:#1d3f55;stroke:#56b4e9}.b-soft{fill:#543420;stroke:#f0a060}.c-soft{fill:#1b4639;stroke:#45c9a0}
.a-line{stroke:#56b4e9}.b-line{stroke:#f0a060}.c-line{stroke:#45c9a0}}
"""


@dataclass
class Drawing:
    """Collect the shapes of one figure; `told` says in a sentence what it shows."""

    title: str
    told: str
    height: float
    width: float = WIDTH
    shapes: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "", *, anchor: Anchor = "middle") -> None:
        """Write words whose baseline is at y."""
        self._add("text", f'x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"', kind, escape(words, quote=False))

    def box(self, x: float, y: float, width: float, height: float, kind: str = "ground", *, round_: float = 3) -> None:
        """Draw a rectangle."""
        self._add("rect", f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(round_)}"', kind)

    def named_box(self, x: float, y: float, size: Point, words: Sequence[str], kind: str = "ground") -> None:
        """Draw a rectangle with lines of words in its middle."""
        width, height = size
        self.box(x, y, width, height, kind, round_=5)
        top = y + height / 2 + 4.5 - 8 * (len(words) - 1)
        for index, line in enumerate(words):
            self.text(x + width / 2, top + 16 * index, line, "" if index == 0 else "small muted")

    def circle(self, x: float, y: float, radius: float, kind: str) -> None:
        """Draw a circle."""
        self._add("circle", f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"', kind)

    def path(self, points: Sequence[Point], kind: str = "line") -> None:
        """Draw straight lines from point to point."""
        places = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._add("polyline", f'points="{places}"', kind)

    def curve(self, start: Point, bend: Point, end: Point, kind: str = "line") -> None:
        """Draw a curve that bends towards a point."""
        (x0, y0), (x1, y1), (x2, y2) = start, bend, end
        self._add("path", f'd="M{_n(x0)} {_n(y0)}Q{_n(x1)} {_n(y1)} {_n(x2)} {_n(y2)}"', kind)

    def arrow(self, start: Point, end: Point, kind: str = "line") -> None:
        """Draw a line with a head at its end."""
        (x0, y0), (x1, y1) = start, end
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        back = (x1 - 8 * dx, y1 - 8 * dy)
        self.path((start, back), kind)
        corners = ((x1, y1), (back[0] - 4 * dy, back[1] + 4 * dx), (back[0] + 4 * dy, back[1] - 4 * dx))
        self._add("polygon", f'points="{" ".join(f"{_n(x)},{_n(y)}" for x, y in corners)}"', "head")

    def _add(self, name: str, attributes: str, kind: str, content: str = "") -> None:
        kinds = f' class="{kind}"' if kind else ""
        self.shapes.append(
            f"<{name} {attributes}{kinds}>{content}</{name}>" if content else f"<{name} {attributes}{kinds}/>"
        )

    def svg(self) -> str:
        """Return the file's text."""
        size = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" width="{_n(self.width)}" height="{_n(self.height)}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t d">\n'
            f'<title id="t">{escape(self.title)}</title>\n<desc id="d">{escape(self.told)}</desc>\n'
            f"<style>{STYLE}</style>\n" + "\n".join(self.shapes) + "\n</svg>\n"
        )


@dataclass(frozen=True)
class Axes:
    """Map values to places: `x` and `y` are the lowest and highest values, `frame` left, top, width and height."""

    x: Point
    y: Point
    frame: tuple[float, float, float, float]

    def at(self, x: float, y: float) -> Point:
        """Return the place of a point."""
        left, top, width, height = self.frame
        along = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return left + along * width, top + (1 - up) * height

    def draw(self, drawing: Drawing, x_name: str, y_name: str) -> None:
        """Draw both axes with their names."""
        left, top, width, height = self.frame
        drawing.path(((left, top), (left, top + height), (left + width, top + height)), "line")
        drawing.text(left + width / 2, top + height + 32, x_name, "small muted")
        drawing.text(left, top - 8, y_name, "small muted", anchor="start")

    def mark_x(self, drawing: Drawing, values: Sequence[float], words: Sequence[str]) -> None:
        """Write values below the lower axis."""
        for value, word in zip(values, words, strict=True):
            x, y = self.at(value, self.y[0])
            drawing.path(((x, y), (x, y + 4)), "line")
            drawing.text(x, y + 16, word, "small muted")

    def mark_y(self, drawing: Drawing, values: Sequence[float], words: Sequence[str]) -> None:
        """Write values beside the left axis, with a line across."""
        for value, word in zip(values, words, strict=True):
            x, y = self.at(self.x[0], value)
            drawing.path(((x, y), (x + self.frame[2], y)), "faint")
            drawing.text(x - 6, y + 4, word, "small muted", anchor="end")


@dataclass(frozen=True)
class Bar:
    """Name a bar, its value, what is written behind it, and its colour."""

    name: str
    value: float
    words: str
    kind: str = "a"


def bars(drawing: Drawing, top: float, given: Sequence[Bar], *, left: float = 190, width: float = 330) -> None:
    """Draw horizontal bars from one zero, their names on the left and their values on the right."""
    longest = max(bar.value for bar in given)
    for index, bar in enumerate(given):
        y, length = top + 26 * index, width * bar.value / longest
        drawing.text(left - 10, y + 14, bar.name, anchor="end")
        drawing.box(left, y, max(length, 1.5), 18, bar.kind, round_=2)
        drawing.text(left + length + 8, y + 14, bar.words, "muted", anchor="start")


@dataclass(frozen=True)
class Dot:
    """Name an accuracy with its interval, what is written behind it, and its colour."""

    name: str
    value: float
    interval: Point
    words: str
    kind: str = "a"


def dots(drawing: Drawing, top: float, given: Sequence[Dot], *, left: float = 190, width: float = 300) -> None:
    """Draw accuracies as dots with intervals on one axis from 90 to 100 %."""
    axes = Axes((0.9, 1.0), (0, 1), (left, top, width, 26.0 * len(given)))
    for value in (0.9, 0.92, 0.94, 0.96, 0.98, 1.0):
        x, bottom = axes.at(value, 0)
        drawing.path(((x, top), (x, bottom)), "faint")
        drawing.text(x, bottom + 14, f"{100 * value:.0f} %", "small muted")
    for index, dot in enumerate(given):
        y = top + 26 * index + 13
        low, high = (axes.at(min(max(bound, 0.9), 1.0), 0)[0] for bound in dot.interval)
        drawing.text(left - 10, y + 4, dot.name, anchor="end")
        drawing.path(((low, y), (high, y)), f"{dot.kind}-line")
        drawing.circle(axes.at(dot.value, 0)[0], y, 5, dot.kind)
        drawing.text(left + width + 12, y + 4, dot.words, "muted", anchor="start")


def write(folder: Path, drawings: dict[str, Drawing]) -> None:
    """Write every drawing as NAME.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawing in drawings.items():
        (folder / f"{name}.svg").write_text(drawing.svg(), encoding="utf-8")


def _n(value: float) -> str:
    """Write a number with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
