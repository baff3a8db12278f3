"""Stacking's arithmetic with scikit-learn members: quick, and as bad as members can be."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from app.domain.fusion import stacked_probabilities
from worker.ensemble.learner import Answered
from worker.ensemble.meta import fit_classifier, fit_regression
from worker.ensemble.splits import fold_numbers


@pytest.fixture(scope="module")
def noisy_digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 16, y[order]
    train, selection, report = slice(0, 700), slice(700, 1000), slice(1000, None)
    noisy = y.copy()
    wrong = np.random.default_rng(1).random(len(y)) < 0.3
    noisy[wrong] = np.random.default_rng(2).integers(10, size=int(wrong.sum()))
    return (x[train], noisy[train]), (x[selection], noisy[selection]), (x[report], y[report])


def members():
    return [
        KNeighborsClassifier(1),
        LogisticRegression(C=0.1, max_iter=200),
        DecisionTreeClassifier(max_depth=8, random_state=0),
    ]


def answers_for(models, x):
    return np.stack([model.predict_proba(x) for model in models])


@pytest.fixture(scope="module")
def stacks(noisy_digits):
    """Return the leaky and the out-of-fold meta-learner, and all members fitted on all train rows."""
    (x, y), (selection_x, selection_y), _ = noisy_digits
    fitted = [model.fit(x, y) for model in members()]
    selection = answers_for(fitted, selection_x)
    folds = fold_numbers(np.arange(len(x)), y, folds=5, seed=0, stratified=True)
    held_out = np.zeros((3, len(x), 10))
    for number in range(5):
        part = folds != number
        held_out[:, ~part] = answers_for([model.fit(x[part], y[part]) for model in members()], x[~part])
    leaky = fit_classifier(*[Answered(answers_for(fitted, x), y)] * 2)
    honest = fit_classifier(Answered(held_out, y), Answered(selection, selection_y))
    return leaky.learner, honest.learner, fitted, held_out


def test_trap_19_out_of_fold_stacking_beats_leaky_stacking(noisy_digits, stacks):
    leaky, honest, fitted, _ = stacks
    _, _, (x, y) = noisy_digits
    answers = answers_for(fitted, x)
    scores = [
        (stacked_probabilities(answers, learner.kernel, learner.bias).argmax(1) == y).mean()
        for learner in (leaky, honest)
    ]
    best = max((own.argmax(1) == y).mean() for own in answers)
    assert scores[1] > scores[0] + 0.05
    assert scores[1] > best - 0.02


def test_trap_19_a_memorising_member_gets_less_than_its_share(stacks):
    _, honest, *_ = stacks
    blocks = honest.kernel.reshape(3, 10, 10)
    pull = np.array([np.trace(block) for block in blocks])
    assert pull[0] / pull.sum() < 1 / 3


def test_trap_21_the_order_of_members_does_not_change_a_stack(noisy_digits, stacks):
    (x, y), (selection_x, selection_y), (report_x, _) = noisy_digits
    *_, fitted, _ = stacks
    train, selection, report = (answers_for(fitted, rows) for rows in (x, selection_x, report_x))
    order = [2, 0, 1]
    first = fit_classifier(Answered(train, y), Answered(selection, selection_y))
    moved = fit_classifier(Answered(train[order], y), Answered(selection[order], selection_y))
    np.testing.assert_allclose(
        stacked_probabilities(report, first.learner.kernel, first.learner.bias),
        stacked_probabilities(report[order], moved.learner.kernel, moved.learner.bias),
        atol=2e-3,
    )


def test_few_rows_leave_a_stack_near_the_geometric_mean():
    rng = np.random.default_rng(0)
    answers = rng.dirichlet(np.ones(3), size=(2, 6))
    labels = rng.integers(3, size=6)
    chosen = fit_classifier(Answered(answers, labels), Answered(answers[:, ::-1], labels))
    assert np.abs(chosen.learner.kernel - np.tile(np.eye(3) / 2, (2, 1))).max() < 0.5


def test_a_stack_of_regressions_weights_the_better_member():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(400, 1))
    answers = np.stack([targets + rng.normal(size=targets.shape) * scale for scale in (0.1, 1.0)])
    train, selection = (Answered(answers[:, part], targets[part]) for part in (slice(300), slice(300, None)))
    learner = fit_regression(train, selection).learner
    assert learner.kernel.shape == (2, 1)
    assert learner.kernel[0, 0] > 0.8
    assert learner.kernel[1, 0] < 0.2


@pytest.mark.parametrize("fit", [fit_classifier, fit_regression])
def test_a_stack_learns_from_a_row_of_weight_2_as_from_that_row_twice(fit):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    if fit is fit_classifier:
        targets, answers = labels, rng.dirichlet(np.ones(3), size=(2, 80)) + np.eye(3)[labels] / 4
        answers /= answers.sum(axis=2, keepdims=True)
    else:
        targets, answers = labels[:, None], labels[:, None] + rng.normal(size=(2, 80, 1))
    weights = rng.integers(0, 4, 80)
    weighted, repeated = (
        [Answered(answers[:, rows], targets[rows], own) for rows, own in parts]
        for parts in (
            [(slice(50), 5 * weights[:50]), (slice(50, None), weights[50:])],
            [(np.repeat(np.arange(50), weights[:50]), None), (np.repeat(np.arange(50, 80), weights[50:]), None)],
        )
    )
    found, expected = fit(*weighted), fit(*repeated)
    np.testing.assert_allclose(found.learner.kernel, expected.learner.kernel, atol=1e-3)
    np.testing.assert_allclose(found.learner.bias, expected.learner.bias, atol=1e-3)
    assert found.strength == expected.strength
    assert found.selection_loss == pytest.approx(expected.selection_loss, rel=1e-4)
