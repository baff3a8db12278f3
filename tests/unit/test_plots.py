"""Every figure is sound for any names and numbers: well-formed, inside its frame, told in words, readable."""

import math
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.plots import bars, curves, matrices
from app.plots.calibration import reliability_diagram
from app.plots.forest import gain
from app.plots.lineage import lineage, lineage_graph
from app.plots.parallel import parallel_coordinates
from app.plots.pareto import pareto
from app.plots.report import plot_titles, report_plots
from app.plots.scale import Scale, adaptive, linear, log_ticks, nice_ticks, short
from app.plots.style import SHADES, contrast, page_style, palette, themed

SPACE = "{http://www.w3.org/2000/svg}"
names = st.text(max_size=40)
numbers = st.floats(allow_nan=True, allow_infinity=True)
shares = st.floats(0, 1)
counts = st.integers(0, 10**9)
epochs = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("loss", "selection_loss", "accuracy", "selection_accuracy"), numbers)
)
entries = st.fixed_dictionaries(
    {"name": names, "version": st.integers(1, 9), "dataset": st.sampled_from(["a", "<b>"])},
    optional={
        "accuracy": numbers,
        "latency_ms": st.none() | numbers,
        "accuracy_interval": st.none() | st.tuples(numbers, numbers),
        "pareto": st.booleans(),
    },
)
bins = st.lists(st.tuples(shares, shares, counts), max_size=15).map(
    lambda found: [
        {"low": place / 15, "high": (place + 1) / 15, "rows": rows, "confidence": sure, "accuracy": right}
        for place, (sure, right, rows) in enumerate(found)
    ]
)
comparisons = st.lists(
    st.fixed_dictionaries(
        {
            "against": names,
            "difference": numbers,
            "interval": st.tuples(numbers, numbers),
            "verdict": st.sampled_from(["better", "worse", "no difference shown"]),
        }
    ),
    max_size=8,
)


def square(cell: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    return st.integers(0, 12).flatmap(
        lambda side: st.lists(st.lists(cell, min_size=side, max_size=side), min_size=side, max_size=side)
    )


graphs = st.lists(names, min_size=1, max_size=8, unique=True).flatmap(
    lambda ids: st.fixed_dictionaries(
        {
            "nodes": st.just([{"id": name, "label": name, "href": name, "detail": name} for name in ids]),
            "edges": st.lists(
                st.fixed_dictionaries(
                    {"source": st.sampled_from(ids), "target": st.sampled_from(ids), "role": names, "weight": shares}
                ),
                max_size=12,
            ),
        }
    )
)
FIGURES: dict[str, tuple[Callable[..., str], tuple[st.SearchStrategy[Any], ...]]] = {
    "learning curves": (curves.learning_curves, (st.lists(epochs, max_size=30),)),
    "sparkline": (curves.sparkline, (st.lists(st.none() | numbers, max_size=30),)),
    "waveform": (curves.waveform, (st.lists(numbers, max_size=500),)),
    "confusion": (matrices.confusion_matrix, (square(counts), st.lists(names, max_size=12))),
    "diversity": (matrices.diversity_matrix, (square(numbers), st.lists(names, max_size=12))),
    "calibration": (reliability_diagram, (st.fixed_dictionaries({"bins": bins}),)),
    "class scores": (
        bars.class_scores,
        (
            st.lists(st.fixed_dictionaries({"f1": st.none() | shares, "support": counts}), max_size=20),
            st.lists(names, max_size=20),
        ),
    ),
    "class balance": (bars.class_balance, (st.lists(counts, max_size=20), st.lists(names, max_size=20))),
    "member weights": (
        bars.member_weights,
        (st.lists(st.fixed_dictionaries({"name": names, "weight": st.none() | numbers}), max_size=9),),
    ),
    "histogram": (bars.histogram, (st.lists(numbers, max_size=50),)),
    "gain": (gain, (comparisons,)),
    "pareto": (pareto, (st.lists(entries, max_size=12),)),
    "parallel coordinates": (
        lambda rows: parallel_coordinates(rows, ["accuracy", "latency"]),
        (st.lists(entries, max_size=12),),
    ),
    "lineage": (lineage, (graphs,)),
}


def marks(root: ElementTree.Element) -> Iterator[tuple[float, float]]:
    """Find every place that an element names."""
    for element in root.iter():
        for x, y in (("x", "y"), ("x1", "y1"), ("x2", "y2"), ("cx", "cy")):
            if x in element.attrib:
                yield float(element.attrib[x]), float(element.attrib[y])
        if element.tag == f"{SPACE}rect":
            place = element.attrib
            yield float(place["x"]) + float(place["width"]), float(place["y"]) + float(place["height"])
        for x, y in re.findall(r"(-?[0-9.]+),(-?[0-9.]+)", element.attrib.get("d", "")):
            yield float(x), float(y)


@pytest.mark.parametrize("name", FIGURES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_figure_is_well_formed_told_and_inside_its_frame(name: str, data: st.DataObject) -> None:
    draw, arguments = FIGURES[name]
    svg = draw(*(data.draw(argument) for argument in arguments))

    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    told = [root.find(f"{SPACE}{tag}") for tag in ("title", "desc")]
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"].split() == [one.attrib["id"] for one in told if one is not None]
    assert all(one is not None and one.text for one in told)
    for x, y in marks(root):
        assert -0.1 <= x <= width + 0.1, svg
        assert -0.1 <= y <= height + 0.1, svg
    for theme in ("light", "dark"):
        ElementTree.fromstring(themed(svg, theme))


EVIL = "\"><script>alert(1)</script><b x='&\x00"
NAMED: dict[str, tuple[Any, ...]] = {
    "confusion": ([[1, 2], [3, 4]], [EVIL, EVIL]),
    "diversity": ([[0.0, 2.0], [3.0, 0.0]], [EVIL, EVIL]),
    "class scores": ([{"f1": 0.5, "support": 3}], [EVIL]),
    "class balance": ([3], [EVIL]),
    "member weights": ([{"name": EVIL, "weight": 0.5}],),
    "gain": ([{"against": EVIL, "difference": 0.1, "interval": (0.0, 0.2), "verdict": EVIL}],),
    "pareto": ([{"name": EVIL, "accuracy": 0.5, "latency_ms": 1.0, "dataset": EVIL}],),
    "parallel coordinates": ([{"name": EVIL, "accuracy": 0.5, "latency_ms": 1.0}],),
    "lineage": (
        {
            "nodes": [{"id": EVIL, "href": "javascript:alert(1)", "detail": EVIL}, {"id": "b", "href": EVIL}],
            "edges": [{"source": EVIL, "target": "b", "role": EVIL}],
        },
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_names_never_become_markup(name: str) -> None:
    draw, _ = FIGURES[name]

    root = ElementTree.fromstring(draw(*NAMED[name]))

    assert {element.tag.removeprefix(SPACE) for element in root.iter()}.isdisjoint({"script", "b", "a", "style"})
    assert EVIL.replace("\x00", "\N{REPLACEMENT CHARACTER}") in "".join(root.itertext()), "the name itself is told"


def test_a_node_of_a_lineage_links_to_its_page() -> None:
    document = {
        "name": "fused",
        "version": 2,
        "made_from": [{"role": "member", "weight": 0.25, "name": "a", "version": 1, "url": "/v1/models/a/versions/1"}],
        "used_by": [{"role": "teacher", "weight": None, "name": "small", "version": 3, "url": "/v1/x"}],
    }

    root = ElementTree.fromstring(lineage(lineage_graph(document)))

    assert [link.attrib["href"] for link in root.iter(f"{SPACE}a")] == ["/v1/models/a/versions/1", "/v1/x"]
    texts = [element.text for element in root.iter(f"{SPACE}text")]
    assert {"a/1", "fused/2", "small/3", "member 0.25", "teacher"} == set(texts)
    x = {element.text: float(element.attrib["x"]) for element in root.iter(f"{SPACE}text")}
    assert x["a/1"] < x["fused/2"] < x["small/3"], "from what was there to what was made"


@given(st.lists(st.floats(-1e12, 1e12), min_size=1))
def test_ticks_are_even_and_cover_the_range(values: list[float]) -> None:
    ticks = nice_ticks(min(values), max(values))
    steps = [after - before for before, after in pairwise(ticks)]

    slack = 1e-6 * (ticks[-1] - ticks[0])
    assert ticks[0] <= min(values) + slack
    assert ticks[-1] >= max(values) - slack
    assert 2 <= len(ticks) <= 9
    assert max(steps) - min(steps) <= 1e-3 * max(steps)


@given(st.floats(1e-9, 1e9), st.floats(1.001, 1e9))
def test_logarithmic_ticks_cover_the_range(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)

    assert ticks[0] <= low * (1 + 1e-6)
    assert ticks[-1] >= low * ratio * (1 - 1e-6)
    assert list(ticks) == sorted(set(ticks))
    assert 2 <= len(ticks) <= 13


def test_a_wide_range_is_drawn_by_its_logarithm() -> None:
    assert adaptive([1e3, 1e7], 0, 100).logarithmic
    assert not adaptive([1e3, 5e3], 0, 100).logarithmic
    assert not adaptive([0.0, 5e3], 0, 100).logarithmic, "zero has no logarithm"
    scale = adaptive([1e3, 1e7], 0, 100)
    assert scale(1e5) == pytest.approx(50)


def test_a_scale_keeps_what_is_outside_at_its_ends() -> None:
    scale = linear([0.0, 1.0], 10, 20)
    assert (scale(-5.0), scale(0.5), scale(7.0)) == (10, 15, 20)
    assert Scale(1.0, 1.0, 0, 10, ())(1.0) == 5


@pytest.mark.parametrize("value", [0, 1, 0.004, 999.4, 999_999, 1.5e9, -2.5e6])
def test_short_numbers_stay_short(value: float) -> None:
    assert len(short(value)) <= 6
    assert math.isfinite(float(re.sub("[kMGT]", "", short(value))))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_and_lines_are_visible(theme: Any) -> None:
    colours = palette(theme)
    assert min(contrast(colours[name], colours["paper"]) for name in ("ink", "muted")) >= 4.5
    assert min(contrast(colours[f"series-{place}"], colours["paper"]) for place in range(1, 9)) >= 3
    assert all(contrast(colours[f"heat-{shade}"], colours[f"on-heat-{shade}"]) >= 4.5 for shade in range(SHADES))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_shades_grow_steadily_from_the_paper(theme: Any) -> None:
    colours = palette(theme)
    steps = [contrast(colours["paper"], colours[f"heat-{shade}"]) for shade in range(SHADES)]
    assert steps == sorted(set(steps))


def test_every_class_of_a_figure_has_a_colour_in_pages_and_files() -> None:
    used = {
        name
        for svg in (gain([]), pareto([]), reliability_diagram({"bins": []}), curves.sparkline([1.0, 2.0]))
        for classes in re.findall(r'class="([^"]*)"', svg)
        for name in classes.split()
    }
    for style in (page_style(), themed(gain([]))):
        assert [name for name in used if name != "plot" and f".plot .{name} " not in style] == []
    assert "var(--plot-ink, #" in page_style()
    assert "var(" not in themed(gain([])), "a renderer of files knows no variables"


def test_figures_side_by_side_have_ids_of_their_own() -> None:
    both = curves.sparkline([1.0, 2.0]) + curves.sparkline([2.0, 1.0])
    ids = re.findall(r' id="([^"]*)"', both)
    assert len(ids) == len(set(ids)) == 4


def test_a_confusion_of_many_classes_is_shades_alone() -> None:
    few = matrices.confusion_matrix([[9] * 30 for _ in range(30)])
    many = matrices.confusion_matrix([[9] * 200 for _ in range(200)])
    assert few.count("<text") == 30 * 30 + 2 * 30 + 2
    assert many.count("<text") == 2, "only the axes are named"


def test_the_front_is_described_for_those_who_do_not_see_it() -> None:
    svg = pareto(
        [
            {"name": "fast", "version": 1, "accuracy": 0.9, "latency_ms": 1.0},
            {"name": "good", "version": 2, "accuracy": 0.95, "latency_ms": 2.0},
            {"name": "bad", "version": 1, "accuracy": 0.8, "latency_ms": 3.0},
        ]
    )
    assert "3 versions, 2 on the front: fast/1 with 90.0 % at 1 ms; good/2 with 95.0 % at 2 ms." in svg


def test_a_report_has_the_figures_that_it_has_numbers_for() -> None:
    interval = {"against": "other/1", "difference": 0.1, "interval": [0.0, 0.2], "verdict": "better"}
    classification = {
        "metrics": {"accuracy": 0.9, "ece": 0.02},
        "history": [{"epoch": 0, "loss": 1.0}],
        "comparisons": [interval],
        "quality": {
            "by_class": [{"f1": 0.9, "support": 3}],
            "confusion": [[3]],
            "calibration": {"bins": [{"low": 0.0, "high": 1.0, "rows": 3, "confidence": 0.8, "accuracy": 0.9}]},
        },
    }
    regression = {"metrics": {"rmse": 2.0}, "quality": {"mae": 1.5, "r2": 0.5}, "comparisons": [interval]}

    assert set(report_plots(classification)) == {"learning-curves", "gain", "calibration", "confusion", "class-scores"}
    assert list(report_plots(regression)) == ["gain"]
    assert plot_titles({}) == report_plots({}) == {}
    assert "+10.0 %" in report_plots(classification)["gain"]
    assert "+10.0 %" not in report_plots(regression)["gain"], "squared errors are no shares"
