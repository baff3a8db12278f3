"""The arithmetic of fusion: members' answers become one answer, and say how far they agree.

Members' answers are arrays of shape (members, rows, outputs): probabilities, logits, or predictions of a regression
(outputs = 1). `row_weights` (rows,), of any scale, say how much each row counts; None means that all count alike.
Nothing here knows a model, a file or a framework.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import InvalidEnsembleError, ShapeMismatchError

Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.integer]
Loss: TypeAlias = Callable[[Floats], float]
Weights: TypeAlias = NDArray[np.floating] | None

SMALLEST_PROBABILITY = 1e-12
PRIOR_ROWS = 30.0


def softmax(logits: Floats) -> Floats:
    """Turn logits (..., classes) into probabilities without overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities


def log_probabilities(probabilities: Floats) -> Floats:
    """Return log p, clipped at 1e-12 so that a probability of exactly 0 stays finite."""
    return np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0))


def negative_log_likelihood(probabilities: Floats, labels: Labels, *, row_weights: Weights = None) -> float:
    """Return the mean of -log p[label] in nats, for probabilities (rows, classes)."""
    picked = np.take_along_axis(probabilities, labels[:, None], axis=-1)[:, 0]
    return float(-np.average(log_probabilities(picked), weights=row_weights))


def mean_squared_error(predictions: Floats, targets: Floats, *, row_weights: Weights = None) -> float:
    """Return the mean squared difference of predictions and targets of equal shape, rows first."""
    squares = np.square(predictions - targets)
    return float(squares.mean() if row_weights is None else np.average(squares, axis=0, weights=row_weights).mean())


def normalised(weights: Floats, members: int) -> Floats:
    """Return the weights scaled to sum to 1; raise InvalidEnsembleError if they cannot be."""
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (members,):
        raise InvalidEnsembleError(f"{members} members need as many weights, not {values.size}.")
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise InvalidEnsembleError("Weights must be finite, not negative and not all zero.")
    share: Floats = values / values.sum()
    return share


def weighted_mean(members: Floats, weights: Floats) -> Floats:
    """Fuse probabilities or predictions (members, rows, outputs) to sum_m w_m p_m, with weights scaled to sum to 1."""
    fused: Floats = np.einsum("m,mnk->nk", normalised(weights, len(members)), members)
    return fused


def serial_logits(logits: Floats, weights: Floats, *, start: Floats | None = None) -> Floats:
    """Fuse logits (members, rows, outputs) of a serial ensemble: start (outputs,) + sum_m w_m z_m."""
    if np.shape(weights) != (len(logits),):
        raise InvalidEnsembleError(f"{len(logits)} members need as many weights, not {np.size(weights)}.")
    total: Floats = np.einsum("m,mnk->nk", np.asarray(weights, dtype=np.float64), logits)
    return total if start is None else total + start


def stacking_features(members: Floats) -> Floats:
    """Lay members' values (members, rows, outputs) side by side: (rows, members * outputs), member by member."""
    return np.moveaxis(members, 0, 1).reshape(members.shape[1], -1)


def stacked_probabilities(probabilities: Floats, kernel: Floats, bias: Floats) -> Floats:
    """Apply a logistic meta-learner, kernel (members * classes, classes), to the members' log-probabilities."""
    features = stacking_features(log_probabilities(probabilities))
    if features.shape[1] != kernel.shape[0]:
        raise ShapeMismatchError(
            f"The meta-learner takes {kernel.shape[0]} features, the members give {features.shape[1]}."
        )
    return softmax(features @ kernel + bias)


def relative_weights(row_weights: Weights, rows: int) -> Floats:
    """Return row weights (rows,) scaled to the mean 1, so that the rows stay as many as they are beside a prior."""
    if row_weights is None:
        return np.ones(rows)
    values = np.asarray(row_weights, dtype=np.float64)
    relative: Floats = values / values.mean()
    return relative


def fit_convex_weights(
    probabilities: Floats, labels: Labels, *, prior_rows: float = PRIOR_ROWS, row_weights: Weights = None
) -> Floats:
    """Return the mixture weights (members,) that maximise the likelihood of the labels, shrunk to the mean.

    Expectation maximisation for the weights of a mixture whose components are fixed (Dempster, Laird & Rubin 1977),
    with a symmetric Dirichlet prior worth `prior_rows` rows: few rows leave the weights near 1/members.
    """
    members = len(probabilities)
    likelihood = np.take_along_axis(probabilities, labels[None, :, None], axis=-1)[..., 0].astype(np.float64)
    likelihood = np.clip(likelihood, SMALLEST_PROBABILITY, 1.0)
    of_row = relative_weights(row_weights, likelihood.shape[1])
    weights: Floats = np.full(members, 1 / members)
    for _ in range(10_000):
        responsibility = weights[:, None] * likelihood
        responsibility /= responsibility.sum(axis=0)
        responsibility *= of_row
        updated = (responsibility.sum(axis=1) + prior_rows / members) / (likelihood.shape[1] + prior_rows)
        converged = np.abs(updated - weights).max() < 1e-9
        weights = updated
        if converged:
            break
    return weights


def fit_convex_weights_squared(
    predictions: Floats, targets: Floats, *, prior_rows: float = PRIOR_ROWS, row_weights: Weights = None
) -> Floats:
    """Return the weights (members,) on the simplex with the least squared error, shrunk to the mean.

    Minimises ||sum_m w_m f_m - y||^2 / rows + c ||w - 1/members||^2 by accelerated projected gradient
    (Beck & Teboulle 2009), where c is the mean squared error of the members times prior_rows / rows.
    """
    members, rows = len(predictions), len(targets)
    residuals = predictions.reshape(members, rows).astype(np.float64) - targets.reshape(1, rows)
    residuals *= np.sqrt(relative_weights(row_weights, rows))
    gram = residuals @ residuals.T / rows
    penalty = float(np.trace(gram)) / members * prior_rows / rows
    step = 1 / (float(np.linalg.eigvalsh(gram)[-1]) + penalty + 1e-12)
    weights = ahead = np.full(members, 1 / members)
    momentum = 1.0
    for _ in range(5_000):
        updated = _project_to_simplex(ahead - step * (gram @ ahead + penalty * (ahead - 1 / members)))
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = updated + (momentum - 1) / following * (updated - weights)
        moved = np.abs(updated - weights).max()
        weights, momentum = updated, following
        if moved < 1e-10:
            break
    return weights


def _project_to_simplex(point: Floats) -> Floats:
    """Return the nearest point with non-negative coordinates that sum to 1 (Duchi et al. 2008)."""
    descending = np.sort(point)[::-1]
    excess = (np.cumsum(descending) - 1) / np.arange(1, len(point) + 1)
    projected: Floats = np.maximum(point - excess[np.count_nonzero(descending > excess) - 1], 0)
    return projected


def greedy_weights(members: Floats, loss: Loss, *, rounds: int = 25) -> Floats:
    """Select members with replacement, each time the one that lowers the loss of the mean most (Caruana et al. 2004).

    A tie prefers a member that is in already. The weights (members,) are the shares of the best round.
    """
    counts = np.zeros(len(members))
    total = np.zeros(members.shape[1:])
    best, best_loss = counts, np.inf
    for size in range(1, rounds + 1):
        losses = np.array([loss((total + member) / size) for member in members])
        tied = np.flatnonzero(losses <= losses.min() + 1e-12)
        chosen = tied[np.argmax(counts[tied] > 0)]
        counts = counts + np.eye(len(members))[chosen]
        total = total + members[chosen]
        if losses[chosen] < best_loss - 1e-12:
            best, best_loss = counts, float(losses[chosen])
    share: Floats = best / best.sum()
    return share


def fit_logit_weight(
    base: Floats, logits: Floats, labels: Labels, *, largest: float = 2.0, row_weights: Weights = None
) -> float:
    """Return the weight in [0, largest] with which adding `logits` to `base` (rows, classes) gives the lowest loss.

    The loss is convex in the weight, so its slope changes sign once: bisection finds the place.
    """

    def slope(weight: float) -> float:
        """Return the derivative of the mean negative log-likelihood of softmax(base + weight * logits)."""
        expected = (softmax(base + weight * logits) * logits).sum(axis=-1)
        found = np.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
        return float(np.average(expected - found, weights=row_weights))

    if slope(0.0) >= 0:
        return 0.0
    low, high = 0.0, largest
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2 if high < largest else largest


def fit_squared_weight(
    base: Floats, predictions: Floats, targets: Floats, *, largest: float = 2.0, row_weights: Weights = None
) -> float:
    """Return the weight in [0, largest] with which adding `predictions` to `base` gives the least squared error."""
    scaled = predictions * relative_weights(row_weights, len(predictions))[:, None]
    power = float((scaled * predictions).sum())
    return float(np.clip(((targets - base) * scaled).sum() / power, 0.0, largest)) if power > 0 else 0.0


class Uncertainty(NamedTuple):
    """Say, per row, how sure an ensemble is; entropies in nats.

    entropy = mean_member_entropy + mutual_information: what the fusion does not know is what no member knows
    (aleatoric) plus what the members dispute (epistemic) (Depeweg et al. 2018). `disagreement` is the share of member
    weight that votes for another class than the fusion.
    """

    entropy: Floats
    mean_member_entropy: Floats
    mutual_information: Floats
    disagreement: Floats


def uncertainty(probabilities: Floats, weights: Floats | None = None) -> Uncertainty:
    """Return the uncertainty of an ensemble from its members' probabilities (members, rows, classes)."""
    members = len(probabilities)
    share = normalised(np.ones(members) if weights is None else weights, members)
    fused = weighted_mean(probabilities, share)
    entropy, within = _entropy(fused), share @ _entropy(probabilities)
    votes = probabilities.argmax(axis=-1) != fused.argmax(axis=-1)
    return Uncertainty(entropy, within, np.maximum(entropy - within, 0.0), share @ votes)


def _entropy(probabilities: Floats) -> Floats:
    entropy: Floats = -(probabilities * log_probabilities(probabilities)).sum(axis=-1)
    return entropy


class Spread(NamedTuple):
    """Say, per row, how far the members of a regression ensemble differ, in the units of the target."""

    mean: Floats
    deviation: Floats
    lowest: Floats
    highest: Floats


def spread(predictions: Floats, weights: Floats | None = None) -> Spread:
    """Return the spread of members' predictions (members, rows, 1); each field has the shape (rows,)."""
    members = len(predictions)
    share = normalised(np.ones(members) if weights is None else weights, members)
    values = predictions[..., 0]
    mean = share @ values
    return Spread(mean, np.sqrt(share @ np.square(values - mean)), values.min(axis=0), values.max(axis=0))
