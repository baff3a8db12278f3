"""The hidden layer of a stack: its slopes, what it starts from, and the traps of stacking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.fusion import negative_log_likelihood, softmax
from tests.worker.methods.test_meta import answers_for, noisy_digits, stacks
from worker.ensemble.learner import Answered, features_of, learner_values, meta_answers
from worker.ensemble.meta import fit_classifier, fit_in_any_order, fit_regression
from worker.ensemble.meta_mlp import _parts, _problem, mlp_fit

__all__ = ["noisy_digits", "stacks"]


def classified(rows, *, seed=0, members=2):
    """Return answers of which the first member is right where the passed number is above 0, the second where below."""
    rng = np.random.default_rng(seed)
    labels, passed = rng.integers(3, size=rows), rng.normal(size=(rows, 1))
    right = np.eye(3)[labels] * 0.85 + 0.05
    guess = rng.dirichlet(np.ones(3), size=(members, rows))
    place = (passed[:, 0] < 0).astype(int)
    answers = np.where((np.arange(members)[:, None] == place)[..., None], right, guess)
    return Answered(answers, labels, passed=passed)


def loss_of(fitted, rows):
    values = learner_values(fitted.learner, features_of(rows, classification=True))
    return negative_log_likelihood(softmax(values), rows.targets)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), classification=st.booleans())
def test_the_slopes_are_those_of_the_loss(seed, classification):
    rng = np.random.default_rng(seed)
    if classification:
        train = classified(12, seed=seed)
    else:
        train = Answered(rng.normal(size=(2, 12, 1)), 5 + 3 * rng.normal(size=12), rng.exponential(size=12))
    linear = (fit_classifier if classification else fit_regression)(train, train).learner
    problem = _problem(train, linear, classification=classification)
    inputs, outputs = linear.kernel.shape
    shapes = [(inputs, 2), (2,), (2, outputs), (outputs,)]
    point = rng.normal(0, 0.5, sum(int(np.prod(shape)) for shape in shapes))
    _, slopes = problem.loss(_parts(point, shapes), 0.1)
    found = np.concatenate([slope.ravel() for slope in slopes])
    steps = 1e-6 * np.eye(len(point))
    expected = [
        (problem.loss(_parts(point + step, shapes), 0.1)[0] - problem.loss(_parts(point - step, shapes), 0.1)[0]) / 2e-6
        for step in steps
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_hidden_layer_learns_where_which_member_is_right():
    train, selection, report = (classified(rows, seed=rows) for rows in (600, 300, 301))
    linear = fit_classifier(train, selection)
    curved = mlp_fit(seed=0, classification=True)(train, selection)
    assert loss_of(curved, report) < 0.75 * loss_of(linear, report)


def test_a_regression_answers_in_the_units_of_its_targets():
    rng = np.random.default_rng(0)
    targets = 100 + 10 * rng.normal(size=60)
    answers = np.stack([targets, targets])[..., None] + rng.normal(size=(2, 60, 1))
    fitted = mlp_fit(seed=0, classification=False)(Answered(answers, targets), Answered(answers, targets))
    found = meta_answers(fitted.learner, answers, np.zeros((60, 1)), classification=False)
    np.testing.assert_allclose(found, answers.mean(axis=0), atol=2)
    assert fitted.selection_loss < np.square(answers[0, :, 0] - targets).mean()


def test_equal_seeds_give_equal_meta_learners():
    train, selection = classified(100), classified(50, seed=1)
    first, second, other = (mlp_fit(seed=seed, classification=True)(train, selection) for seed in (3, 3, 4))
    for name, values in first.learner.tensors.items():
        np.testing.assert_array_equal(values, second.learner.tensors[name])
    assert np.abs(first.learner.hidden.kernel - other.learner.hidden.kernel).max() > 0


@pytest.mark.parametrize("kind", ["logistic", "ridge", "mlp", "mlp of a regression"])
def test_trap_21_the_order_of_members_does_not_change_what_is_fitted(kind):
    rng = np.random.default_rng(0)
    classification = kind in ("logistic", "mlp")
    fit = {"logistic": fit_classifier, "ridge": fit_regression}.get(kind) or mlp_fit(
        seed=0, classification=classification
    )
    if classification:
        train, selection = classified(150, members=3), classified(80, seed=1, members=3)
    else:
        train, selection = (
            Answered(rng.normal(size=(3, rows, 1)), rng.normal(size=rows), passed=rng.normal(size=(rows, 1)))
            for rows in (150, 80)
        )
    order = [2, 0, 1]
    named = fit_in_any_order(fit, train, selection)
    moved = fit_in_any_order(fit, *(each._replace(answers=each.answers[order]) for each in (train, selection)))
    answers = [
        learner_values(found.learner, features_of(rows, classification=classification))
        for found, rows in ((named, selection), (moved, selection._replace(answers=selection.answers[order])))
    ]
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_trap_19_out_of_fold_answers_beat_leaky_ones_with_a_hidden_layer_too(noisy_digits, stacks):
    (x, y), (selection_x, selection_y), (report_x, report_y) = noisy_digits
    *_, fitted, held_out = stacks
    fit = mlp_fit(seed=0, classification=True)
    selection = Answered(answers_for(fitted, selection_x), selection_y)
    leaky = fit(*[Answered(answers_for(fitted, x), y)] * 2)
    honest = fit(Answered(held_out, y), selection)
    answers = answers_for(fitted, report_x)
    scores = [
        (meta_answers(found.learner, answers, report_x, classification=True).argmax(axis=1) == report_y).mean()
        for found in (leaky, honest)
    ]
    assert scores[1] > scores[0] + 0.05
    best = max((own.argmax(axis=1) == report_y).mean() for own in answers)
    assert scores[1] > best - 0.02
