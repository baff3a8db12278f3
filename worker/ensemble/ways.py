"""Ways to teach the next member of a serial ensemble: by residuals, by reweighted rows, by the gradient."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain import fusion as maths
from app.domain.boosting import log_shares, negative_gradient, samme_rows, samme_weight, weighted_error
from app.domain.datasets import RowSet
from app.domain.ensemble_specs import Serial
from app.domain.training_specs import TrainingSpec
from worker.ensemble.members import loss_of
from worker.learning import hard_rows, hard_targets, weighed_rows
from worker.nn.objectives import Objective, gradient_objective, plain_objective, residual_objective
from worker.nn.training import Rows
from worker.rows import Data

Floats = NDArray[np.float64]
Answers = Mapping[RowSet, Floats]
FITTED_SETS: tuple[RowSet, ...] = ("train", "selection")
# The first member's weight is a temperature for its logits; later ones are steps, and a longer one would overshoot.
LARGEST_FIRST_WEIGHT, LARGEST_STEP = 2.0, 1.0
# Residuals lie between -1 and 1, logits do not: Newton's step is about 1 / (p (1 - p)) times as long as the gradient.
LARGEST_GRADIENT_STEP = 10.0
ROUNDING = 1e-9


@dataclass(frozen=True)
class Sum:
    """Hold a sum of members: `total[set]` logits or predictions (rows, outputs), to be multiplied by `scale`.

    `weights` are the members', as they are in `total`; `row_weights[set]` what rows count when the next one learns;
    `start` is the sum of no members, where that is not 0; `complete` says why no member can follow.
    """

    total: Answers
    weights: tuple[float, ...] = ()
    scale: float = 1.0
    row_weights: Answers = field(default_factory=dict)
    start: tuple[float, ...] = ()
    notes: Mapping[str, float] = field(default_factory=dict)
    complete: str = ""

    @property
    def told(self) -> dict[str, Any]:
        """Return what a report adds of a sum that has a start or a scale."""
        return ({"start": self.start} if self.start else {}) | ({"scale": self.scale} if self.row_weights else {})

    def answers(self, name: RowSet) -> Floats:
        """Return the sum's logits or predictions (rows, outputs) for a row set."""
        return self.scale * self.total[name]


class Way(Protocol):
    """Teach one member after another."""

    def start(self, data: Data) -> Sum:
        """Return the sum of no members."""
        ...

    def taught(self, before: Sum, training: TrainingSpec, data: Data) -> tuple[Rows, Objective]:
        """Return what the next member learns, and from which rows."""
        ...

    def add(self, before: Sum, own: Answers, data: Data) -> Sum | str:
        """Return the sum with a member of these answers, or why that member must not be kept."""
        ...


def way_of(method: Serial) -> Way:
    """Return how a serial ensemble teaches its members."""
    match method.type:
        case "samme":
            return Samme()
        case "gradient":
            return Gradient(method.shrinkage)
        case _:
            return Residual()


class Residual:
    """Train on top of the frozen logits of the sum, or on what a regression's sum leaves; the first one plainly."""

    def start(self, data: Data) -> Sum:
        """Return zeros."""
        return Sum({name: np.zeros((len(data.y[name]), data.dataset_schema.outputs)) for name in FITTED_SETS})

    def taught(self, before: Sum, training: TrainingSpec, data: Data) -> tuple[Rows, Objective]:
        """Pack labels and the sum's logits side by side; a regression learns the difference itself."""
        if not before.weights or not data.classification:
            return _left(before, data), _plain(training, data)
        return _beside(before, data), residual_objective(training.label_smoothing)

    def add(self, before: Sum, own: Answers, data: Data) -> Sum | str:
        """Add the member by the weight with the lowest loss on the selection rows."""
        largest = LARGEST_STEP if before.weights else LARGEST_FIRST_WEIGHT
        return _plus(before, own, _line_search(before, own, data, largest=largest))


@dataclass(frozen=True)
class Gradient:
    """Fit the negative gradient of the loss by least squares, and take a share of the best step (Friedman 2001).

    The sum starts from the constant of lowest loss: log class shares, or the mean of the targets.
    """

    shrinkage: float

    def start(self, data: Data) -> Sum:
        """Return the constant."""
        labels, weights = np.asarray(data.y["train"]), data.weights.get("train")
        if data.classification:
            constant = log_shares(labels, classes=data.dataset_schema.outputs, row_weights=weights)
        else:
            constant = np.average(labels.astype(np.float64).reshape(-1, 1), axis=0, weights=weights)
        total = {name: np.tile(constant, (len(data.y[name]), 1)) for name in FITTED_SETS}
        return Sum(total, start=tuple(float(value) for value in constant))

    def taught(self, before: Sum, training: TrainingSpec, data: Data) -> tuple[Rows, Objective]:
        """Pack labels and the sum's logits side by side, of which the objective makes y - p; or y - sum."""
        if not data.classification:
            return _left(before, data), _plain(training, data)
        return _beside(before, data), gradient_objective(training.label_smoothing)

    def add(self, before: Sum, own: Answers, data: Data) -> Sum | str:
        """Add the member by its share of the step with the lowest loss on the selection rows."""
        largest = LARGEST_GRADIENT_STEP if data.classification else LARGEST_STEP
        return _plus(before, own, self.shrinkage * _line_search(before, own, data, largest=largest))


class Samme:
    """Train on rows that weigh more where the members before are wrong (Zhu et al. 2009).

    The members' log-probabilities are summed by weight, as SAMME.R sums them where SAMME counts votes:
    p = softmax(t sum_m a_m log p_m), where a_m = ln((1 - e) / e) + ln(K - 1). The scale t has the lowest loss on the
    selection rows: votes say who wins, not how surely.
    """

    def start(self, data: Data) -> Sum:
        """Return zeros, and rows that count what the data set says."""
        none = Residual().start(data)
        weights = {name: maths.relative_weights(data.weights.get(name), len(data.y[name])) for name in FITTED_SETS}
        return replace(none, row_weights=weights)

    def taught(self, before: Sum, training: TrainingSpec, data: Data) -> tuple[Rows, Objective]:
        """Weigh the rows; those of selection by the same rule, or the best epoch would be one that ignores it."""
        train, selection = (before.row_weights[name].astype(np.float32) for name in FITTED_SETS)
        rows = replace(hard_rows(data), sample_weight=train, selection_weight=selection)
        return rows, _plain(training, data)

    def add(self, before: Sum, own: Answers, data: Data) -> Sum | str:
        """Add the member by the formula's weight; refuse one no better than guessing, and end with a perfect one."""
        classes = data.dataset_schema.outputs
        wrong = {name: own[name].argmax(axis=1) != np.asarray(data.y[name]) for name in FITTED_SETS}
        error = weighted_error(wrong["train"], before.row_weights["train"])
        if error >= 1 - 1 / classes - ROUNDING:
            return f"it is wrong on {error:.1%} of the train rows by weight, no better than guessing"
        weight = samme_weight(error, classes=classes, rows=len(wrong["train"]))
        rows = {name: samme_rows(before.row_weights[name], wrong[name], weight) for name in FITTED_SETS}
        found = _plus(before, own, weight)
        zeros = np.zeros_like(found.total["selection"])
        scale = _logit_weight(zeros, found.total["selection"], data, largest=LARGEST_FIRST_WEIGHT)
        return replace(
            found,
            scale=scale,
            row_weights=rows,
            notes={"error": error},
            complete="" if error else "it is wrong on no train row, so there is nothing left to weigh",
        )


def figures_of(before: Sum, after: Sum, data: Data) -> dict[str, float]:
    """Return what a member had to learn (the root mean square of what was left) and the sum's losses with it."""
    return {
        "target_norm": residual_norm(before, data),
        "train_loss": sum_loss(after, "train", data),
        "selection_loss": sum_loss(after, "selection", data),
        **after.notes,
    }


def sum_loss(own: Sum, name: RowSet, data: Data) -> float:
    """Return the mean -log p or squared error of a sum, by row weight of the data set."""
    answers = maths.softmax(own.answers(name)) if data.classification else own.answers(name)
    return loss_of(answers, data.y[name], data, row_weights=data.weights.get(name))


def residual_norm(own: Sum, data: Data) -> float:
    """Return the root mean square of what is left to learn: label minus probability, or target minus sum."""
    targets, answers = hard_targets(data, data.y["train"]).astype(np.float64), own.answers("train")
    left = negative_gradient(answers, targets) if data.classification else targets - answers
    return float(np.sqrt(np.square(left).sum(axis=1).mean()))


def _plain(training: TrainingSpec, data: Data) -> Objective:
    return plain_objective(data.dataset_schema.task, label_smoothing=training.label_smoothing)


def _left(before: Sum, data: Data) -> Rows:
    """Return rows whose targets are the labels, or what the sum leaves of a regression's."""
    targets = [hard_targets(data, data.y[name]) for name in FITTED_SETS]
    if not data.classification:
        sums = (before.total[name].astype(np.float32) for name in FITTED_SETS)
        targets = [wanted - own for wanted, own in zip(targets, sums, strict=True)]
    return weighed_rows(data, *targets)


def _beside(before: Sum, data: Data) -> Rows:
    """Return rows whose targets are [one-hot labels | the sum's logits]."""
    packed = (
        np.concatenate([hard_targets(data, data.y[name]), before.total[name].astype(np.float32)], axis=1)
        for name in FITTED_SETS
    )
    return weighed_rows(data, *packed)


def _plus(before: Sum, own: Answers, weight: float) -> Sum:
    total = {name: before.total[name] + weight * own[name] for name in FITTED_SETS}
    return replace(before, total=total, weights=(*before.weights, weight))


def _line_search(before: Sum, own: Answers, data: Data, *, largest: float) -> float:
    base, step = before.total["selection"], own["selection"]
    if data.classification:
        return _logit_weight(base, step, data, largest=largest)
    targets = np.asarray(data.y["selection"]).reshape(step.shape)
    return maths.fit_squared_weight(base, step, targets, largest=largest, row_weights=data.weights.get("selection"))


def _logit_weight(base: Floats, step: Floats, data: Data, *, largest: float) -> float:
    labels, row_weights = np.asarray(data.y["selection"]), data.weights.get("selection")
    return maths.fit_logit_weight(base, step, labels, largest=largest, row_weights=row_weights)
