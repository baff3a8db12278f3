"""Every figure that a version's report has numbers for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from app.plots.bars import class_scores, member_name, member_weights
from app.plots.calibration import reliability_diagram
from app.plots.curves import learning_curves
from app.plots.forest import gain
from app.plots.matrices import confusion_matrix, diversity_matrix

Report = Mapping[str, Any]


class _Plot(NamedTuple):
    title: str
    draw: Callable[[Report, Sequence[str]], str]
    has: Callable[[Report], bool]


def _quality(report: Report) -> Mapping[str, Any]:
    return report.get("quality") or {}


def _members(report: Report) -> Sequence[Mapping[str, Any]]:
    found = _method(report).get("members") or ()
    return [member for member in found if isinstance(member, Mapping)]


def _method(report: Report) -> Mapping[str, Any]:
    return report.get("method") or {}


def _member_names(report: Report) -> list[str]:
    return [member_name(member, place) for place, member in enumerate(_members(report))]


def _distances(report: Report) -> tuple[str, Sequence[Sequence[float]]]:
    """Return how far every two members differ: in answers, or of a regression in predictions."""
    diversity = _method(report).get("diversity") or {}
    return (
        ("disagreement", diversity["disagreement"])
        if diversity.get("disagreement")
        else (
            "distance",
            diversity.get("distance") or (),
        )
    )


def _draw_diversity(report: Report, _labels: Sequence[str]) -> str:
    measure, values = _distances(report)
    return diversity_matrix(values, _member_names(report), measure=measure)


def _comparisons(report: Report) -> Sequence[Mapping[str, Any]]:
    """Return all comparisons; reports of old have one baseline alone."""
    return report.get("comparisons") or [one for one in [report.get("baseline")] if one]


def _is_classification(report: Report) -> bool:
    return (report.get("metrics") or {}).get("accuracy") is not None


_PLOTS: Mapping[str, _Plot] = {
    "learning-curves": _Plot(
        "Learning curves",
        lambda report, _: learning_curves(report["history"]),
        lambda report: bool(report.get("history")),
    ),
    "gain": _Plot(
        "Gain over other models",
        lambda report, _: gain(_comparisons(report), points=_is_classification(report)),
        lambda report: bool(_comparisons(report)),
    ),
    "calibration": _Plot(
        "Calibration",
        lambda report, _: reliability_diagram(
            _quality(report)["calibration"], ece=(report.get("metrics") or {}).get("ece")
        ),
        lambda report: bool((_quality(report).get("calibration") or {}).get("bins")),
    ),
    "confusion": _Plot(
        "Confusion",
        lambda report, labels: confusion_matrix(_quality(report)["confusion"], labels),
        lambda report: bool(_quality(report).get("confusion")),
    ),
    "class-scores": _Plot(
        "F1 by class",
        lambda report, labels: class_scores(_quality(report)["by_class"], labels),
        lambda report: bool(_quality(report).get("by_class")),
    ),
    "member-weights": _Plot(
        "Weights of the members",
        lambda report, _: member_weights(_members(report)),
        lambda report: any(member.get("weight") is not None for member in _members(report)),
    ),
    "diversity": _Plot("Diversity of the members", _draw_diversity, lambda report: len(_distances(report)[1]) > 1),
}


def plot_titles(report: Report) -> dict[str, str]:
    """Return the names and titles of the figures that a report has numbers for."""
    return {name: plot.title for name, plot in _PLOTS.items() if plot.has(report)}


def report_plot(report: Report, name: str, labels: Sequence[str] = ()) -> str | None:
    """Return one figure of a report, or None when it has no numbers for it; `labels` are the names of the classes."""
    plot = _PLOTS.get(name)
    return plot.draw(report, labels) if plot is not None and plot.has(report) else None


def report_plots(report: Report, labels: Sequence[str] = ()) -> dict[str, str]:
    """Return every figure that a report has numbers for, by name."""
    return {name: plot.draw(report, labels) for name, plot in _PLOTS.items() if plot.has(report)}
