"""What serial ensembles teach their members, without training any: the sum is fed answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.boosting import log_shares, negative_gradient, samme_rows, samme_weight, weighted_error
from app.domain.fusion import negative_log_likelihood, softmax
from app.domain.training_specs import TrainingSpec
from tests.worker.methods.jobs import digits, wave
from worker.ensemble.ways import Gradient, Residual, Samme, figures_of, residual_norm, sum_loss
from worker.rows import one_hot, open_data

SETS = ("train", "selection")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_data(digits(tmp_path_factory.mktemp("ways") / "digits", train=300))


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    return open_data(wave(tmp_path_factory.mktemp("ways") / "wave"))


def answers(data, *, right: float, seed: int = 0, sure: float = 3.0):
    """Return logits that prefer the label in so many of the rows, and else another class."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in SETS:
        labels = np.asarray(data.y[name])
        other = (labels + rng.integers(1, 10, len(labels))) % 10
        found[name] = sure * one_hot(np.where(rng.random(len(labels)) < right, labels, other), 10).astype(np.float64)
    return found


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 12), share=st.floats(0.05, 0.6))
def test_trap_22_weights_are_those_of_the_formula(seed, classes, share):
    rng = np.random.default_rng(seed)
    weights, wrong = rng.exponential(size=200), rng.random(200) < share
    error = weighted_error(wrong, weights)
    assert error == pytest.approx(weights[wrong].sum() / weights.sum())
    weight = samme_weight(error, classes=classes, rows=200)
    assert weight == pytest.approx(np.log((1 - error) / error) + np.log(classes - 1))
    following = samme_rows(weights, wrong, weight)
    expected = weights * np.exp(weight * wrong)
    np.testing.assert_allclose(following, expected / expected.mean(), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 12))
def test_trap_22_the_next_member_sees_the_last_one_as_no_better_than_guessing(seed, classes):
    """After reweighting, its error is 1 - 1/K exactly: that is what ln(K - 1) is for."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(300) < 0.3
    weight = samme_weight(weighted_error(wrong, None), classes=classes, rows=300)
    assert weighted_error(wrong, samme_rows(np.ones(300), wrong, weight)) == pytest.approx(1 - 1 / classes)


def test_trap_22_a_perfect_learner_is_kept_and_ends_the_sum(data):
    way = Samme()
    after = way.add(way.start(data), answers(data, right=1.0), data)
    assert after.complete
    assert after.notes["error"] == 0
    assert after.weights[0] == pytest.approx(samme_weight(0, classes=10, rows=300))
    assert np.isfinite(after.weights[0])


def test_trap_22_a_member_that_is_no_better_than_guessing_is_not_kept(data):
    way = Samme()
    assert "no better than guessing" in way.add(way.start(data), answers(data, right=0.05), data)
    assert not isinstance(way.add(way.start(data), answers(data, right=0.2), data), str)


def test_trap_22_the_next_member_learns_from_reweighted_rows(data):
    way, own = Samme(), answers(data, right=0.7)
    after = way.add(way.start(data), own, data)
    rows, _ = way.taught(after, TrainingSpec(), data)
    wrong = own["train"].argmax(axis=1) != data.y["train"]
    heavy, light = rows.sample_weight[wrong], rows.sample_weight[~wrong]
    np.testing.assert_allclose(heavy / light[0], np.exp(after.weights[0]), rtol=1e-5)
    assert rows.sample_weight.mean() == pytest.approx(1)
    wrong = own["selection"].argmax(axis=1) != data.y["selection"]
    assert rows.selection_weight[wrong].min() > rows.selection_weight[~wrong].max()


def test_a_sum_by_samme_is_scaled_to_the_lowest_selection_loss(data):
    way = Samme()
    after = way.add(way.start(data), answers(data, right=0.8), data)
    labels = np.asarray(data.y["selection"])
    losses = {
        scale: negative_log_likelihood(softmax(scale * after.total["selection"]), labels)
        for scale in (after.scale, after.scale * 0.95, after.scale * 1.05)
    }
    assert min(losses, key=losses.get) == after.scale
    assert sum_loss(after, "selection", data) == pytest.approx(losses[after.scale])


def test_a_gradient_starts_from_the_shares_of_the_classes(data):
    start = Gradient(0.3).start(data)
    shares = np.bincount(data.y["train"], minlength=10) / 300
    np.testing.assert_allclose(softmax(np.array(start.start)), shares)
    np.testing.assert_array_equal(start.total["train"], np.tile(start.start, (300, 1)))


def test_a_class_without_rows_has_a_share_all_the_same():
    assert np.isfinite(log_shares(np.array([0, 0, 2]), classes=3)).all()


def test_a_gradient_of_a_regression_starts_from_the_mean(regression):
    start = Gradient(0.3).start(regression)
    assert start.start == pytest.approx([regression.y["train"].mean()])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_gradient_is_the_slope_of_the_loss(seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(1, 4)), rng.integers(4, size=1)
    found = negative_gradient(logits, np.eye(4)[labels])[0]

    def loss(moved):
        return negative_log_likelihood(softmax(moved), labels)

    slopes = [(loss(logits - step) - loss(logits + step)) / 2e-6 for step in 1e-6 * np.eye(4)]
    np.testing.assert_allclose(found, slopes, atol=1e-6)


@pytest.mark.parametrize("way", [Residual(), Gradient(0.5), Gradient(1.0)])
def test_trap_23_every_step_lowers_the_loss_and_what_is_left(data, way):
    figures, before = [], way.start(data)
    for seed in range(3):
        after = way.add(before, answers(data, right=0.6, seed=seed, sure=0.9), data)
        figures.append(figures_of(before, after, data))
        before = after
    for name in ("train_loss", "target_norm"):
        values = [found[name] for found in figures]
        assert values == sorted(values, reverse=True)
        assert values[1] < values[0]


def test_trap_23_a_member_takes_only_its_share_of_a_step(data):
    own = answers(data, right=0.6, sure=0.9)
    whole, part = (way.add(way.start(data), own, data) for way in (Gradient(1.0), Gradient(0.1)))
    assert part.weights[0] == pytest.approx(whole.weights[0] / 10)
    assert whole.weights[0] > 1, "gradients are shorter than the best step along them"


def test_a_regression_by_gradient_learns_what_is_left(regression):
    way = Gradient(0.5)
    start = way.start(regression)
    own = {name: np.asarray(regression.y[name], np.float64) - start.total[name] for name in SETS}
    after = way.add(start, own, regression)
    assert after.weights == pytest.approx((0.5,))
    assert residual_norm(after, regression) == pytest.approx(residual_norm(start, regression) / 2, rel=1e-5)
    rows, _ = way.taught(after, TrainingSpec(), regression)
    np.testing.assert_allclose(rows.train_targets, own["train"] / 2, atol=1e-5)
