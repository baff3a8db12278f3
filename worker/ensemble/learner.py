"""What a meta-learner answers, by arithmetic: the reference for its nodes in the graph, and what fitting needs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.fusion import log_probabilities, softmax, stacking_features
from app.serving.meta_nodes import MetaLearner, Passed
from worker.rows import Array

Floats = NDArray[np.float64]


class Answered(NamedTuple):
    """Hold members' answers (members, rows, outputs), what they should be, and how much each row counts, if unequal.

    `passed` (rows, numbers) are the rows' own numbers, standardized, where the meta-learner sees them.
    """

    answers: Floats
    targets: Array
    row_weights: Array | None = None
    passed: Floats | None = None


def features_of(rows: Answered, *, classification: bool) -> Floats:
    """Return what a meta-learner sees (rows, features): log-probabilities or predictions, then what is passed."""
    own = stacking_features(log_probabilities(rows.answers) if classification else rows.answers)
    return own if rows.passed is None else np.concatenate([own, rows.passed], axis=1)


def learner_values(learner: MetaLearner, features: Floats) -> Floats:
    """Return a meta-learner's logits or predictions (rows, outputs): f K + b + tanh(f U + c) V."""
    values: Floats = features @ learner.kernel + learner.bias
    if learner.hidden is None:
        return values
    hidden = np.tanh(features @ learner.hidden.kernel + learner.hidden.bias)
    return np.asarray(values + hidden @ learner.hidden.answers)


def meta_answers(learner: MetaLearner, answers: Floats, rows: Array, *, classification: bool) -> Floats:
    """Return what a stack answers to rows for which its members gave `answers` (members, rows, outputs)."""
    passed = standardized(learner.passed, rows) if learner.passed else None
    features = features_of(Answered(answers, np.zeros(0), passed=passed), classification=classification)
    values = learner_values(learner, features)
    return softmax(values) if classification else values


def passed_by(train: Array, *, scale: float = 1.0) -> Passed:
    """Return how to standardize the numbers of a row, each by the train rows; a constant one is only centred.

    A `scale` is the deviation that they get: that of the targets, so that they stand in the units of predictions.
    """
    flat = train.reshape(len(train), -1)
    mean, deviation = flat.mean(axis=0, dtype=np.float64), flat.std(axis=0, dtype=np.float64)
    deviation[deviation <= 1e-7 * np.abs(mean)] = 1.0
    return Passed(mean.astype(np.float32), (deviation / scale).astype(np.float32))


def standardized(passed: Passed, rows: Array) -> Floats:
    """Return the rows' own numbers (rows, numbers) as a meta-learner sees them."""
    flat = np.asarray(rows, np.float64).reshape(len(rows), -1)
    found: Floats = (flat - passed.mean) / passed.deviation
    return found
