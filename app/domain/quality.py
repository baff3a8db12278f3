"""How good answers are: the figures of a classification by class and by confidence, and those of a regression.

Probabilities have the shape (rows, classes), labels (rows,), predictions and targets (rows, 1).
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating]
Labels: TypeAlias = NDArray[np.integer]
Counts: TypeAlias = NDArray[np.int64]
BINS = 15


@dataclass(frozen=True)
class Bin:
    """Hold the rows whose largest probability lies in (low, high]: how sure the model was, and how often right."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ClassFigures:
    """Hold the figures of one class; what no row decides is None. `support` counts its rows."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


def brier_score(probabilities: Floats, labels: Labels) -> float:
    """Return the mean over rows of sum_k (p_k - y_k)^2, between 0 and 2 (Brier 1950)."""
    values = np.asarray(probabilities, dtype=np.float64)
    picked = np.take_along_axis(values, labels[:, None], axis=1)[:, 0]
    return float((np.square(values).sum(axis=1) - 2 * picked + 1).mean())


def expected_calibration_error(probabilities: Floats, labels: Labels, *, bins: int = BINS) -> float:
    """Return the mean gap of confidence and accuracy over bins of equal width, by rows (Naeini et al. 2015)."""
    return _weighted_gap(reliability(probabilities, labels, bins=bins), len(labels))


def adaptive_calibration_error(probabilities: Floats, labels: Labels, *, bins: int = BINS) -> float:
    """Return the same over bins that hold equally many rows (Nixon et al. 2019).

    Rows of equal confidence count as equally often right, so that their order does not matter.
    """
    confidence, right = _confidence(probabilities, labels)
    _, place, rows = np.unique(confidence, return_inverse=True, return_counts=True)
    right = (np.bincount(place, weights=right) / rows)[place]
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(abs(float((confidence[part] - right[part]).sum())) for part in parts)) / max(len(labels), 1)


def reliability(probabilities: Floats, labels: Labels, *, bins: int = BINS) -> list[Bin]:
    """Return the bins of equal width of a reliability diagram (Guo et al. 2017)."""
    confidence, right = _confidence(probabilities, labels)
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    rows, sure, correct = (
        np.bincount(places, weights=weights, minlength=bins) for weights in (None, confidence, right)
    )
    return [
        Bin(
            low=place / bins,
            high=(place + 1) / bins,
            rows=int(rows[place]),
            confidence=_share(sure[place], rows[place]),
            accuracy=_share(correct[place], rows[place]),
        )
        for place in range(bins)
    ]


def confusion_matrix(labels: Labels, answered: Labels, *, classes: int) -> Counts:
    """Count the rows by label (first axis) and answer (second axis)."""
    counts = np.bincount(np.asarray(labels, np.int64) * classes + answered, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def class_figures(confusion: Counts) -> list[ClassFigures]:
    """Return precision, recall and F1 of every class from the counts of `confusion_matrix`."""
    right, called, support = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    return [
        ClassFigures(
            precision=_share(right[place], called[place]),
            recall=_share(right[place], support[place]),
            f1=_share(2 * right[place], called[place] + support[place]),
            support=int(support[place]),
        )
        for place in range(len(confusion))
    ]


def macro_f1(confusion: Counts) -> float:
    """Return the mean F1 of the classes that occur, in labels or answers."""
    found = [figures.f1 for figures in class_figures(confusion) if figures.f1 is not None]
    return float(np.mean(found)) if found else 0.0


def balanced_accuracy(confusion: Counts) -> float:
    """Return the mean recall of the classes that have rows."""
    found = [figures.recall for figures in class_figures(confusion) if figures.recall is not None]
    return float(np.mean(found)) if found else 0.0


def matthews_correlation(confusion: Counts) -> float:
    """Return the correlation of labels and answers, between -1 and 1; 0 for a constant answer (Gorodkin 2004)."""
    counts = confusion.astype(np.float64)
    total, right = counts.sum(), np.trace(counts)
    called, support = counts.sum(axis=0), counts.sum(axis=1)
    scale = np.sqrt(total**2 - called @ called) * np.sqrt(total**2 - support @ support)
    return float((right * total - called @ support) / scale) if scale > 0 else 0.0


def mean_absolute_error(predictions: Floats, targets: Floats) -> float:
    """Return the mean distance of predictions and targets of equal shape."""
    return float(np.abs(np.asarray(predictions, np.float64) - targets).mean())


def determination(predictions: Floats, targets: Floats) -> float | None:
    """Return R^2, the share of the targets' variance that the predictions explain; None for constant targets."""
    targets = np.asarray(targets, dtype=np.float64)
    variation = float(np.square(targets - targets.mean()).sum())
    return 1 - float(np.square(predictions - targets).sum()) / variation if variation > 0 else None


def _confidence(probabilities: Floats, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.asarray(probabilities, dtype=np.float64)
    return np.clip(values.max(axis=1), 0, 1), (values.argmax(axis=1) == labels).astype(np.float64)


def _weighted_gap(bins: list[Bin], rows: int) -> float:
    gaps = [
        found.rows * abs(found.confidence - found.accuracy)
        for found in bins
        if found.confidence is not None and found.accuracy is not None
    ]
    return float(sum(gaps)) / max(rows, 1)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
