"""Draw what fuses several models into one."""

import math
from collections.abc import Mapping
from typing import Any

from app.domain.stats import wilson_interval
from benchmarks.figures.drawing import Axes, Bar, Dot, Drawing, bars, dots

REPORT_ROWS, SELECTION_ROWS = 359, 360  # of digits
REPORTED = "accuracy of the job below on 359 report rows, with 95 % intervals"
Results = Mapping[str, Mapping[str, Any]]
KINDS = ("a", "b", "c")


def _dot(model: str, accuracy: float, kind: str, *, word: str = "", rows: int = REPORT_ROWS) -> Dot:
    """Return an accuracy with its 95 % interval (Wilson 1927) by the number of rows."""
    interval = wilson_interval(round(accuracy * rows), rows)
    words = f"{100 * accuracy:.1f} %{', ' if word else ''}{word}"
    return Dot(model.partition("/")[0], accuracy, interval, words, kind)


def parallel(results: Results) -> Drawing:
    """Draw members side by side, and what the job gave them as weights and came to."""
    fused = results["parallel"]
    members = fused["method"]["members"]
    told = "Every member answers the same row; their probabilities are weighted and summed."
    drawing = Drawing("parallel", told, 346)
    drawing.named_box(20, 74, (80, 44), ("row",))
    for index, member in enumerate(members):
        y = 18 + 58 * index
        drawing.named_box(160, y, (130, 42), (member["model"].partition("/")[0],), f"{KINDS[index]}-soft")
        drawing.arrow((100, 96), (160, y + 21))
        _probabilities(drawing, (320, y + 36), index)
        drawing.arrow((390, y + 21), (470, 90 + 6 * index))
        drawing.text(420, y + (12 if index < 2 else 46), f"× {member['weight']:.2f}", "small muted")
    drawing.named_box(470, 74, (44, 44), ("Σ",))
    drawing.arrow((514, 96), (556, 96))
    drawing.text(562, 101, "answer", anchor="start")
    given = [_dot(member["model"], member["accuracy"], kind) for member, kind in zip(members, KINDS, strict=True)]
    dots(drawing, 196, [*given, _dot("fused", fused["accuracy"], "a")])
    drawing.text(190, 336, REPORTED, "small muted", anchor="start")
    return drawing


def _probabilities(drawing: Drawing, at: tuple[float, float], which: int) -> None:
    shapes = ((6, 28, 9, 4), (4, 22, 16, 6), (9, 30, 5, 3))[which]
    for index, height in enumerate(shapes):
        drawing.box(at[0] + 16 * index, at[1] - height, 11, height, KINDS[which], round_=1)


def serial(results: Results) -> Drawing:
    """Draw members in a row, and the loss that the job's sum had after each."""
    rounds = results["serial"]["method"]["rounds"]
    told = "Each member learns what the sum of those before it gets wrong; the loss of the sum falls."
    drawing = Drawing("serial", told, 300)
    for index in range(len(rounds)):
        x = 30 + 200 * index
        drawing.named_box(x, 24, (130, 46), (f"member {index + 1}",), f"{KINDS[index]}-soft")
        drawing.arrow((x + 65, 70), (x + 65, 106))
        drawing.text(x + 72, 92, f"× {rounds[index]['weight']:.2f}", "small muted", anchor="start")
        drawing.circle(x + 65, 118, 12, "ground")
        drawing.text(x + 65, 123, "+", "strong")
        if index:
            drawing.arrow((x - 123, 118), (x + 53, 118))
            drawing.curve((x - 123, 112), (x - 60, 60), (x - 6, 50), "line dashed")
            drawing.text(x - 35, 40, "what is left", "small muted")
    drawing.arrow((507, 118), (560, 118))
    drawing.text(566, 123, "answer", anchor="start")
    given = [
        Bar(f"after member {index + 1}", step["selection_loss"], f"{step['selection_loss']:.3f}", kind)
        for (index, step), kind in zip(enumerate(rounds), KINDS, strict=True)
    ]
    bars(drawing, 160, given, width=260)
    words = f"selection loss of the job below; accuracy {100 * results['serial']['accuracy']:.1f} % on the report rows"
    drawing.text(180, 260, words, "small muted", anchor="start")
    drawing.height = 275
    return drawing


def stack(results: Results) -> Drawing:
    """Draw folds, out-of-fold answers and the meta-learner, and what the job came to."""
    made = results["stack"]
    told = "Each fold is answered by members that learned from the others; the meta-learner learns from these answers."
    drawing = Drawing("stack", told, 344)
    for fold in range(3):
        y = 28 + 46 * fold
        for part in range(3):
            drawing.box(20 + 48 * part, y, 44, 28, "b-soft" if part == fold else "a-soft")
        drawing.arrow((168, y + 14), (212, y + 14))
        drawing.named_box(212, y - 4, (104, 36), ("members",), "ground")
        drawing.arrow((316, y + 14), (360, y + 14))
        drawing.box(360 + 34 * fold, y, 32, 28, "b-soft")
    drawing.text(90, 182, "learned from", "a")
    drawing.text(90, 199, "answered for", "b")
    drawing.text(411, 182, "answers for all train rows,", "muted")
    drawing.text(411, 199, "none by who has seen them", "muted")
    drawing.arrow((464, 88), (500, 88))
    drawing.named_box(500, 62, (124, 52), ("meta-learner", "logistic regression"), "c-soft")
    given = [
        _dot(member["model"], member["accuracy"], kind)
        for member, kind in zip(made["method"]["members"], KINDS, strict=False)
    ]
    dots(drawing, 220, [*given, _dot("stacked", made["accuracy"], "c")])
    drawing.text(190, 334, REPORTED, "small muted", anchor="start")
    return drawing


def soup(results: Results) -> Drawing:
    """Draw fine-tunes of one ancestor in the landscape of the loss, and the job's accuracies."""
    made = results["soup"]
    told = "Fine-tunes of one ancestor lie in one valley of the loss; their mean is one network in its middle."
    drawing = Drawing("soup", told, 352)
    for ring in range(4):
        points = []
        for index in range(73):
            angle = math.pi * index / 36
            points.append((320 + (80 + 62 * ring) * math.cos(angle), 104 + (24 + 21 * ring) * math.sin(angle)))
        drawing.path(points, "faint")
    ancestor, ends = (96, 152), ((250, 60), (352, 142), (420, 76))
    for x, y in ends:
        drawing.arrow(ancestor, (x - 6, y), "line dashed")
        drawing.circle(x, y, 6, "b")
    drawing.circle(*ancestor, 7, "a")
    drawing.text(96, 176, "ancestor", "a")
    middle = (sum(x for x, _ in ends) / 3, sum(y for _, y in ends) / 3)
    for end in ends:
        drawing.path((end, middle), "c-line dashed")
    drawing.circle(*middle, 8, "c")
    drawing.text(middle[0] + 34, middle[1] + 24, "soup: their mean", "c", anchor="start")
    drawing.text(430, 66, "fine-tunes", "b", anchor="start")
    given = []
    for member in made["method"]["members"]:
        word = "taken" if member["taken"] else "left out"
        given.append(_dot(member["model"], member["selection_accuracy"], "b", word=word, rows=SELECTION_ROWS))
    after = made["method"]["statistics"]["after"]["selection_accuracy"]
    dots(drawing, 202, [*given, _dot("soup", after, "c", rows=SELECTION_ROWS)])
    words = "accuracy of the job below on 360 selection rows, with 95 % intervals"
    drawing.text(190, 342, words, "small muted", anchor="start")
    return drawing


def snapshot(results: Results) -> Drawing:
    """Draw the learning rate and the selection loss of the job, epoch by epoch, with the members that were kept."""
    made = results["snapshot"]
    rates = made["method"]["learning_rates"]["at_the_start_of_each_epoch"]
    losses = [epoch["selection_loss"] for epoch in made["history"]]
    cycle = made["method"]["epochs_per_cycle"]
    told = "The learning rate falls to zero and starts again from the top; a member is kept at the end of every cycle."
    drawing = Drawing("snapshot", told, 330)
    upper = Axes((0, len(rates)), (0, max(rates)), (60, 28, 540, 110))
    lower = Axes((0, len(rates)), (0, 0.5), (60, 170, 540, 110))
    upper.mark_y(drawing, (0, max(rates)), ("0", f"{max(rates):.1f}"))
    upper.draw(drawing, "", "learning rate at the start of each epoch")
    lower.mark_y(drawing, (0, 0.25, 0.5), ("0", "0.25", "0.5"))
    lower.mark_x(drawing, tuple(range(0, len(rates) + 1, cycle)), [str(n) for n in range(0, len(rates) + 1, cycle)])
    lower.draw(drawing, "epoch", "loss on the selection rows (cut at 0.5)")
    for start in range(0, len(rates), cycle):
        points = [upper.at(start + index, rate) for index, rate in enumerate(rates[start : start + cycle])]
        drawing.path([*points, upper.at(start + cycle, 0)], "a-line")
    drawing.path([lower.at(index + 1, min(loss, 0.5)) for index, loss in enumerate(losses)], "b-line")
    for number, end in enumerate(range(cycle, len(rates) + 1, cycle)):
        x, y = lower.at(end, min(losses[end - 1], 0.5))
        drawing.circle(x, y, 5, "c")
        drawing.text(x - 4, y - 10, f"m{number}", "c", anchor="end")
    return drawing


def cascade(results: Results) -> Drawing:
    """Draw rows that pass a cheap member or go on, with the shares and costs of the job."""
    told_of = results["cascade"]["method"]
    measured, threshold = told_of["measured"], told_of["thresholds"][0]
    last = measured["share_of_the_last"]
    told = f"The cheap member answers {100 * (1 - last):.0f} % of the rows, the dear one the rest."
    drawing = Drawing("cascade", told, 300)
    drawing.named_box(20, 54, (80, 44), ("all rows",))
    drawing.arrow((100, 76), (150, 76))
    drawing.named_box(150, 46, (130, 60), ("digits-mlp", "cheap"), "a-soft")
    drawing.arrow((280, 76), (330, 76))
    drawing.named_box(330, 46, (120, 60), ("sure enough?", f"at least {threshold:.2f}"))
    drawing.arrow((450, 64), (530, 40))
    drawing.text(536, 40, f"yes: {100 * (1 - last):.0f} %", "a", anchor="start")
    drawing.arrow((390, 106), (390, 140))
    drawing.text(400, 128, f"no: {100 * last:.0f} %", "b", anchor="start")
    drawing.named_box(325, 140, (130, 50), ("digits-cnn", "dear"), "b-soft")
    drawing.arrow((455, 165), (530, 165))
    drawing.text(536, 170, "answer", anchor="start")
    always = results["train"]
    per_row = measured["macs_per_row"]
    given = [
        Bar("always the dear one", always["macs"], f"{always['macs']:,} MACs, {100 * always['accuracy']:.1f} %", "b"),
        Bar("cascade", per_row, f"{per_row:,.0f} MACs, {100 * measured['accuracy']:.1f} %", "c"),
    ]
    bars(drawing, 214, given, width=220)
    drawing.text(
        180, 284, "mean work a row and accuracy of the job below on the report rows", "small muted", anchor="start"
    )
    return drawing
