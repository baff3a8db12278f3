"""Draw what makes a model, and what asks it for a whole data set."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.figures.drawing import Axes, Drawing

Results = Mapping[str, Mapping[str, Any]]


def train(results: Results) -> Drawing:
    """Draw the three sets of rows, and the curves of the job with the epoch that was kept."""
    made = results["train"]
    history = made["history"]
    told = "Train rows fit, selection rows choose the epoch, report rows are only measured."
    drawing = Drawing("train", told, 320)
    drawing.named_box(40, 16, (336, 34), ("train: fits",), "a-soft")
    drawing.named_box(376, 16, (112, 34), ("selection",), "b-soft")
    drawing.named_box(488, 16, (112, 34), ("report",), "c-soft")
    axes = Axes((0, len(history)), (0, 2.5), (60, 84, 540, 180))
    axes.mark_y(drawing, (0, 0.5, 1, 1.5, 2, 2.5), ("0", "0.5", "1", "1.5", "2", "2.5"))
    axes.mark_x(drawing, (0, 5, 10, 15, 20), ("0", "5", "10", "15", "20"))
    axes.draw(drawing, "epoch of the job below", "loss")
    drawing.path([axes.at(epoch["epoch"] + 1, min(epoch["loss"], 2.5)) for epoch in history], "a-line")
    drawing.path([axes.at(epoch["epoch"] + 1, min(epoch["selection_loss"], 2.5)) for epoch in history], "b-line")
    best = max(history, key=lambda epoch: (epoch["selection_accuracy"], -epoch["selection_loss"]))
    x, y = axes.at(best["epoch"] + 1, best["selection_loss"])
    drawing.circle(x, y, 6, "c")
    drawing.arrow((x, y - 58), (x, y - 9))
    drawing.text(x, y - 66, f"kept: {100 * made['accuracy']:.1f} % of the report rows", "c", anchor="end")
    drawing.text(*axes.at(4.3, 1.75), "train rows, with dropout", "a", anchor="start")
    drawing.text(*axes.at(1.6, 0.28), "selection rows", "b", anchor="start")
    return drawing


def search(results: Results) -> Drawing:
    """Draw the job's trials by bytes and accuracy, and the front among them."""
    trials = results["search"]["method"]["trials"]
    told = "Every trial is a point of accuracy and bytes; those that no other beats in every objective are the front."
    drawing = Drawing("search", told, 310)
    points = [(trial["figures"]["bytes"], trial["figures"]["selection_accuracy"], trial["front"]) for trial in trials]
    low, high = min(bytes_ for bytes_, _, _ in points), max(bytes_ for bytes_, _, _ in points)
    axes = Axes((0, 1.15 * high), (min(0.7, min(y for _, y, _ in points) - 0.02), 1.0), (70, 30, 520, 220))
    ticks = [tick for tick in (0.2, 0.4, 0.6, 0.8, 1.0) if tick >= axes.y[0]]
    axes.mark_y(drawing, ticks, [f"{100 * tick:.0f} %" for tick in ticks])
    marks = sorted({low, high})
    axes.mark_x(drawing, marks, [f"{mark:,}" for mark in marks])
    axes.draw(drawing, "bytes of the served file", "accuracy on the selection rows, of the job below")
    stairs = sorted((bytes_, accuracy) for bytes_, accuracy, front in points if front)
    drawing.path([axes.at(*point) for point in stairs], "b-line dashed")
    for bytes_, accuracy, front in sorted(points, key=lambda point: point[2]):
        drawing.circle(*axes.at(bytes_, accuracy), 6 if front else 5, "b" if front else "none")
    drawing.circle(430, 200, 6, "b")
    drawing.text(444, 204, "on the front", "b", anchor="start")
    drawing.circle(430, 222, 5, "none")
    drawing.text(444, 226, "beaten by another", "muted", anchor="start")
    return drawing


def predict(_results: Results) -> Drawing:
    """Draw a set of rows and a version that become a table of answers."""
    told = "Every row of a set goes through one version; the answers become a file of CSV, Parquet or NPZ."
    drawing = Drawing("predict", told, 210)
    for row in range(6):
        for column in range(5):
            drawing.box(24 + 22 * column, 40 + 20 * row, 20, 18, "a-soft", round_=0)
    drawing.text(78, 182, "rows of a data set", "muted")
    drawing.arrow((140, 98), (190, 98))
    drawing.named_box(190, 68, (140, 60), ("digits-trio/1", "one version"), "b-soft")
    drawing.arrow((330, 98), (380, 98))
    names, widths = ("row", "label", "probability", "entropy"), (40, 44, 82, 62)
    left = 384.0
    for name, width in zip(names, widths, strict=True):
        drawing.text(left + width / 2, 34, name, "small muted")
        for row in range(6):
            drawing.box(left, 40 + 20 * row, width - 2, 18, "c-soft", round_=0)
        _column(drawing, name, left, width)
        left += width
    drawing.text(498, 182, "answers.parquet", "muted")
    return drawing


def _column(drawing: Drawing, name: str, left: float, width: float) -> None:
    """Write or draw what stands in a column of the table."""
    for row in range(6):
        y = 40 + 20 * row
        if name in {"row", "label"}:
            drawing.text(left + width / 2, y + 13, str(row if name == "row" else (7 * row + 3) % 10), "small")
        else:
            share = 0.95 - 0.6 * (math.sin(2.1 * row) ** 4)
            drawing.box(
                left + 4, y + 5, (share if name == "probability" else 1.05 - share) * (width - 12), 8, "c", round_=1
            )


def import_(_results: Results) -> Drawing:
    """Draw the way of a foreign file into the registry."""
    told = "A foreign file is looked through in a jail, brought into our form, compared on real rows and measured."
    drawing = Drawing("import", told, 190)
    steps = (
        ("forest.onnx", "your file", "a-soft"),
        ("looked through", "no network, no files", "ground"),
        ("our form", "raw rows in, classes out", "ground"),
        ("compared", "at most 1e-4 apart", "ground"),
    )
    for index, (name, told_of, kind) in enumerate(steps):
        x = 14 + 158 * index
        drawing.named_box(x, 24, (138, 52), (name, told_of), kind)
        if index:
            drawing.arrow((x - 20, 50), (x, 50))
    drawing.arrow((557, 76), (557, 112))
    drawing.named_box(470, 112, (152, 52), ("forest/1", "measured like any other"), "c-soft")
    drawing.arrow((241, 76), (241, 112))
    drawing.named_box(172, 112, (138, 52), ("refused", "with what to do"), "b-soft")
    return drawing
