"""Draw what makes a model lean."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.figures.drawing import Axes, Bar, Drawing, bars

Results = Mapping[str, Mapping[str, Any]]


def share_weights(results: Results) -> Drawing:
    """Draw layers that use one variable, and the bytes of four formats before and after."""
    sizes = results["share_weights"]["method"]["bytes"]
    told = "Two of three equal layers use one variable; each format's file becomes smaller, the work stays."
    drawing = Drawing("share_weights", told, 300)
    for side, shared in ((0, False), (330, True)):
        names = ("W1", "V", "V") if shared else ("W1", "W2", "W3")
        for index, name in enumerate(names):
            x = 20 + side + 98 * index
            drawing.named_box(x, 60, (78, 44), (f"layer {index + 1}",))
            kind = "b-soft" if name == "V" else "a-soft"
            if not (shared and index == 2):
                at = x + (49 if shared and index == 1 else 0)
                drawing.named_box(at, 10, (78, 28), (name,), kind)
            if index < 2:
                drawing.arrow((x + 78, 82), (x + 98, 82))
            drawing.arrow(
                (x + 39 + (25 if shared and index == 1 else -25 if shared and index == 2 else 0), 38), (x + 39, 60)
            )
    drawing.text(157, 126, "three variables", "muted")
    drawing.text(487, 126, "two variables, three layers", "muted")
    given = []
    for name in ("onnx", "safetensors", "tflite", "keras"):
        before, after = sizes[name]["before"], sizes[name]["after"]
        given.append(Bar(f".{name}", after, f"{after:,} of {before:,} bytes", "b"))
    bars(drawing, 160, given, width=250)
    drawing.text(180, 286, "files of the job below, each really written", "small muted", anchor="start")
    return drawing


def convolve(results: Results) -> Drawing:
    """Draw a full convolution beside its separable form, with the multiply-accumulates of the job."""
    before, after = results["train"], results["convolve"]
    told = "A convolution over places and channels at once becomes one per channel, then one across channels."
    drawing = Drawing("convolve", told, 300)
    _cube(drawing, (70, 60), channels=5, kind="a-soft")
    drawing.text(115, 165, "every place and channel at once", "muted")
    drawing.text(115, 183, "K² m n", "strong")
    drawing.arrow((225, 105), (285, 105))
    for index in range(5):
        _plate(drawing, (315 + 15 * index, 66 + 11 * index), "b-soft")
    drawing.text(360, 165, "each channel alone", "muted")
    drawing.text(360, 183, "K² m", "strong")
    drawing.text(455, 110, "+", "strong")
    for index in range(5):
        drawing.box(490 + 15 * index, 66 + 11 * index, 12, 12, "c-soft", round_=0)
    drawing.text(535, 165, "across channels", "muted")
    drawing.text(535, 183, "m n", "strong")
    given = [
        Bar("digits-cnn", before["macs"], f"{before['macs']:,} multiply-accumulates"),
        Bar("digits-separable", after["macs"], f"{after['macs']:,}", "b"),
    ]
    bars(drawing, 220, given, width=240)
    drawing.text(
        180, 290, f"{before['parameters']:,} and {after['parameters']:,} parameters", "small muted", anchor="start"
    )
    return drawing


def _cube(drawing: Drawing, at: tuple[float, float], *, channels: int, kind: str) -> None:
    for index in range(channels):
        _plate(drawing, (at[0] + 15 * index, at[1] + 11 * index - 6), kind)


def _plate(drawing: Drawing, at: tuple[float, float], kind: str) -> None:
    for row in range(3):
        for column in range(3):
            drawing.box(at[0] + 12 * column, at[1] + 12 * row, 12, 12, kind, round_=0)


def distill(results: Results) -> Drawing:
    """Draw teacher and student on the same rows, and what the job's figures were."""
    gap = results["distill"]["method"]["gap"]
    told = "Teacher and student see the same rows; the student learns labels and the teacher's softened probabilities."
    drawing = Drawing("distill", told, 320)
    drawing.named_box(20, 82, (90, 50), ("rows",))
    drawing.named_box(190, 20, (150, 74), ("teacher", "frozen"), "a-soft")
    drawing.named_box(190, 128, (150, 40), ("student",), "b-soft")
    drawing.arrow((110, 100), (190, 62))
    drawing.arrow((110, 114), (190, 146))
    for index, (teacher, student) in enumerate(((8, 6), (34, 30), (16, 14), (5, 9), (11, 8))):
        drawing.box(392 + 18 * index, 80 - teacher, 12, teacher, "a", round_=1)
        drawing.box(392 + 18 * index, 168 - student, 12, student, "b", round_=1)
    drawing.arrow((340, 58), (384, 58))
    drawing.arrow((340, 148), (384, 148))
    drawing.named_box(520, 78, (104, 52), ("α T² KL", "be alike"))
    drawing.arrow((484, 66), (520, 92))
    drawing.arrow((484, 146), (520, 120))
    drawing.named_box(520, 146, (104, 44), ("(1 − α) CE", "labels"))
    drawing.arrow((484, 156), (520, 164))
    names = (("teacher, fused", "teacher", "a"), ("student", "student", "b"), ("labels alone", "control", "none"))
    given = [Bar(name, gap[key], f"{100 * gap[key]:.1f} %", kind) for name, key, kind in names]
    bars(drawing, 218, given, width=250)
    drawing.text(180, 312, "accuracy of the job below on the report rows", "small muted", anchor="start")
    return drawing


def prune(results: Results) -> Drawing:
    """Draw both structures as matrices, and the channels that the job's layers kept."""
    layers = results["prune"]["method"]["layers"]
    told = "Structured pruning takes whole rows and columns out; unstructured pruning leaves zeros where weights were."
    drawing = Drawing("prune", told, 310)
    for row in range(8):
        for column in range(8):
            gone = (row * 5 + column * 3 + row * column) % 5 in {0, 2}
            drawing.box(265 + 14 * column, 26 + 14 * row, 12, 12, "a", round_=1)
            if row not in {1, 4, 6} and column not in {2, 5}:
                drawing.box(52 + 14 * _left(column, (2, 5)), 47 + 14 * _left(row, (1, 4, 6)), 12, 12, "b", round_=1)
            drawing.box(486 + 14 * column, 26 + 14 * row, 12, 12, "none" if gone else "c", round_=1)
    drawing.arrow((250, 82), (158, 82))
    drawing.arrow((388, 82), (472, 82))
    drawing.text(320, 160, "a layer's weights", "muted")
    drawing.text(94, 160, "structured: smaller", "muted")
    drawing.text(541, 160, "unstructured: zeros", "muted")
    given = []
    for name, (before, after) in layers.items():
        given.append(Bar(name, after / before, f"{after} of {before} channels", "b"))
    bars(drawing, 195, given, width=250)
    before, after = results["train"], results["prune"]
    words = f"the job below: {before['macs']:,} to {after['macs']:,} multiply-accumulates a row"
    drawing.text(180, 195 + 26 * len(given) + 16, words, "small muted", anchor="start")
    return drawing


def _left(place: int, gone: tuple[int, ...]) -> int:
    """Return a place's number after those that are gone have been taken out."""
    return place - sum(other < place for other in gone)


def quantize(results: Results) -> Drawing:
    """Draw a curve and its steps, and the bytes of the job."""
    told = "Every number is rounded to one of 256 evenly spaced steps; the served file takes a quarter of the bytes."
    drawing = Drawing("quantize", told, 290)
    axes = Axes((-3, 3), (-1, 1), (60, 30, 520, 120))
    axes.draw(drawing, "number of the float graph", "int8")
    smooth = [(-3 + index / 20, math.tanh(-3 + index / 20)) for index in range(121)]
    steps = [point for x, y in smooth for point in ((x - 0.025, round(y * 6) / 6), (x + 0.025, round(y * 6) / 6))]
    drawing.path([axes.at(x, y) for x, y in smooth], "a-line")
    drawing.path([axes.at(max(-3, min(3, x)), y) for x, y in steps], "b-line")
    drawing.text(90, 66, "float32", "a", anchor="start")
    drawing.text(90, 84, "rounded (12 steps drawn)", "b", anchor="start")
    before, after = results["train"], results["quantize"]
    given = [
        Bar("digits-cnn", before["served_bytes"], f"{before['served_bytes']:,} bytes"),
        Bar("digits-int8", after["served_bytes"], f"{after['served_bytes']:,} bytes", "b"),
    ]
    bars(drawing, 205, given, width=270)
    times = before["latency_ms_batch_1"], after["latency_ms_batch_1"]
    words = f"one row: {times[0]:.3f} and {times[1]:.3f} ms; so small a net gains no time"
    drawing.text(180, 276, words, "small muted", anchor="start")
    return drawing


def factorize(results: Results) -> Drawing:
    """Draw a matrix and its two halves, and the ranks of the job's layers."""
    ranks = results["factorize"]["method"]["ranks"]
    told = "A matrix of m by n numbers becomes a product of m by r and r by n numbers."
    drawing = Drawing("factorize", told, 320)
    drawing.named_box(60, 30, (120, 120), ("W", "m × n"), "a-soft")
    drawing.text(222, 96, "≈", "strong")
    drawing.named_box(262, 30, (40, 120), ("U Σ",), "b-soft")
    drawing.text(324, 96, "×", "strong")
    drawing.named_box(346, 70, (120, 40), ("Vᵀ",), "c-soft")
    drawing.text(282, 168, "m × r", "muted")
    drawing.text(406, 130, "r × n", "muted")
    drawing.text(490, 84, "r (m + n) < m n", "strong", anchor="start")
    drawing.text(490, 104, "or it stays as it is", "muted", anchor="start")
    given = [Bar(name, rank, f"rank {rank}", "b") for name, rank in ranks.items()]
    bars(drawing, 195, given, width=250)
    before, after = results["train_mlp"], results["factorize"]
    words = f"the job below: {before['parameters']:,} to {after['parameters']:,} parameters"
    drawing.text(180, 195 + 26 * len(given) + 14, words, "small muted", anchor="start")
    return drawing


def cluster(results: Results) -> Drawing:
    """Draw weights that move to few values, and the bytes of the job's kernels."""
    told = "Weights of a kernel move to the nearest of few values; what is stored is the codebook and the places in it."
    drawing = Drawing("cluster", told, 310)
    axes = Axes((-3, 3), (0, 1.05), (60, 20, 520, 100))
    for index in range(61):
        x = -3 + index / 10
        (left, top), (_, bottom) = axes.at(x, math.exp(-x * x / 2)), axes.at(x, 0)
        drawing.box(left - 3, top, 6, bottom - top, "a-soft", round_=0)
    drawing.path((axes.at(-3, 0), axes.at(3, 0)))
    for value in (-2.1, -1.4, -0.8, -0.3, 0.25, 0.8, 1.4, 2.2):
        (x, bottom) = axes.at(value, 0)
        drawing.path(((x, 24), (x, bottom)), "b-line")
        drawing.circle(x, bottom, 4, "b")
    drawing.text(320, 142, "weights of a kernel, and the values of its codebook", "muted")
    kernels = results["cluster"]["method"]["kernels"]
    given = []
    for name, kernel in sorted(kernels.items()):
        words = f"{kernel['coded_bytes']:,} of {kernel['float32_bytes']:,} bytes, {kernel['values']} values"
        given.append(Bar(name, kernel["coded_bytes"], words, "b"))
    bars(drawing, 170, given, width=200)
    drawing.text(180, 170 + 26 * len(given) + 14, "kernels of the job below, as coded", "small muted", anchor="start")
    return drawing


def fine_tune(results: Results) -> Drawing:
    """Draw the loss of the parent's training and of the one that goes on from it."""
    parent = [epoch["selection_loss"] for epoch in results["train"]["history"]]
    further = [epoch["selection_loss"] for epoch in results["fine_tune"]["history"]]
    told = "The loss on the selection rows goes on from where the parent's training ended."
    drawing = Drawing("fine_tune", told, 260)
    epochs = len(parent) + len(further)
    axes = Axes((0, epochs), (0, 2.0), (60, 30, 540, 180))
    axes.mark_y(drawing, (0, 0.5, 1, 1.5, 2), ("0", "0.5", "1", "1.5", "2"))
    axes.mark_x(drawing, (0, len(parent), epochs), ("0", str(len(parent)), str(epochs)))
    axes.draw(drawing, "epoch", "loss on the selection rows")
    drawing.path([axes.at(index + 1, min(loss, 2)) for index, loss in enumerate(parent)], "a-line")
    drawing.path([axes.at(len(parent) + index + 1, loss) for index, loss in enumerate(further)], "b-line")
    x, _ = axes.at(len(parent) + 0.5, 0)
    drawing.path(((x, 30), (x, 210)), "faint dashed")
    drawing.text(x - 10, 60, "parent", "a", anchor="end")
    drawing.text(x + 10, 60, "fine_tune", "b", anchor="start")
    drawing.text(x + 10, 78, "at a smaller learning rate", "small muted", anchor="start")
    return drawing


def chain(results: Results) -> Drawing:
    """Draw the steps of the chain, and the bytes of the file that each made."""
    steps = results["chain"]["method"]["steps"]
    told = "Each step starts from what the one before made; the served file becomes smaller with every step."
    drawing = Drawing("chain", told, 230)
    names = ["parent", *(step["method"] for step in steps)]
    for index, name in enumerate(names):
        drawing.named_box(40 + 215 * index, 24, (130, 44), (name,), ("a-soft", "b-soft", "c-soft")[index % 3])
        if index:
            drawing.arrow((170 + 215 * (index - 1), 46), (40 + 215 * index, 46))
    before = results["train"]["served_bytes"]
    given = [Bar("parent", before, f"{before:,} bytes, {100 * results['train']['accuracy']:.1f} %")]
    for step, kind in zip(steps, ("b", "c"), strict=True):
        size = step["served_bytes"]
        words = f"{size:,} bytes ({before / size:.1f}x less), {100 * step['accuracy']:.1f} %"
        given.append(Bar(f"after {step['method']}", size, words, kind))
    bars(drawing, 106, given, width=240)
    drawing.text(
        180, 210, "bytes and accuracy of the job below, measured on each step's file", "small muted", anchor="start"
    )
    return drawing
