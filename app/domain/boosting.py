"""The arithmetic of boosting: which rows or residuals the next member learns from, and what it weighs."""

import numpy as np
from numpy.typing import NDArray

from app.domain.fusion import Floats, Labels, Weights, relative_weights, softmax


def weighted_error(wrong: NDArray[np.bool_], row_weights: Weights) -> float:
    """Return the share of wrong rows by weight."""
    return float(np.average(wrong, weights=row_weights))


def samme_weight(error: float, *, classes: int, rows: int) -> float:
    """Return ln((1 - e) / e) + ln(K - 1) (Zhu et al. 2009, algorithm 2).

    It is positive when the member is better than guessing: e < 1 - 1/K. An error below half a row is taken as that, so
    that a perfect member weighs much, but not all.
    """
    bounded = max(error, 0.5 / rows)
    return float(np.log((1 - bounded) / bounded) + np.log(classes - 1))


def samme_rows(row_weights: Floats, wrong: NDArray[np.bool_], weight: float) -> Floats:
    """Return the rows' weights for the next member: w exp(a [wrong]), scaled to the mean 1 (Zhu et al. 2009)."""
    # That right rows lose what wrong ones should gain comes to the same once it is scaled, and cannot overflow.
    return relative_weights(row_weights * np.where(wrong, 1.0, np.exp(-weight)), len(row_weights))


def log_shares(labels: Labels, *, classes: int, row_weights: Weights = None) -> Floats:
    """Return log of the share of every class by weight, (classes,); a class without rows counts as half a row."""
    counts = np.bincount(labels, relative_weights(row_weights, len(labels)), minlength=classes)
    shares: Floats = np.log(np.maximum(counts, 0.5) / np.maximum(counts, 0.5).sum())
    return shares


def negative_gradient(logits: Floats, targets: Floats) -> Floats:
    """Return y - softmax(z) for one-hot labels (rows, classes): the steepest descent of -log p (Friedman 2001)."""
    gradient: Floats = targets - softmax(logits)
    return gradient
