import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import fusion
from app.domain.errors import InvalidEnsembleError, ShapeMismatchError

seeds = st.integers(0, 2**31 - 1)
members_rows_classes = st.tuples(st.integers(1, 5), st.integers(5, 60), st.integers(2, 6))


def random_members(seed: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return fusion.softmax(rng.normal(size=shape) * 3), rng.integers(shape[2], size=shape[1])


@given(seeds, members_rows_classes)
def test_a_weighted_mean_of_probabilities_is_a_probability(seed, shape):
    probabilities, _ = random_members(seed, shape)
    fused = fusion.weighted_mean(probabilities, np.random.default_rng(seed).uniform(0.1, 5, shape[0]))
    assert fused.shape == shape[1:]
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    assert (fused <= probabilities.max(axis=0) + 1e-12).all()
    assert (fused >= probabilities.min(axis=0) - 1e-12).all()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_cannot_be_shares_are_refused(weights):
    with pytest.raises(InvalidEnsembleError):
        fusion.weighted_mean(np.full((2, 3, 2), 0.5), np.array(weights))


@given(seeds, members_rows_classes)
def test_convex_weights_are_shares_that_no_other_mixture_beats(seed, shape):
    probabilities, labels = random_members(seed, shape)
    weights = fusion.fit_convex_weights(probabilities, labels, prior_rows=1.0)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()

    def posterior(share: np.ndarray) -> float:
        loss = fusion.negative_log_likelihood(fusion.weighted_mean(probabilities, share), labels)
        return -loss * shape[1] + np.log(share / share.sum()).sum() / shape[0]

    rng = np.random.default_rng(seed)
    for other in (np.ones(shape[0]), *rng.dirichlet(np.ones(shape[0]), 5) + 1e-9):
        assert posterior(weights) >= posterior(other) - 1e-6


@given(seeds, members_rows_classes)
def test_convex_weights_follow_their_member_and_ignore_the_order_of_classes(seed, shape):
    probabilities, labels = random_members(seed, shape)
    rng = np.random.default_rng(seed)
    order, classes = rng.permutation(shape[0]), rng.permutation(shape[2])
    weights = fusion.fit_convex_weights(probabilities, labels)
    moved = fusion.fit_convex_weights(probabilities[order][..., classes], np.argsort(classes)[labels])
    np.testing.assert_allclose(moved, weights[order], atol=1e-6)


def test_few_rows_leave_the_convex_weights_near_the_mean_and_many_do_not():
    good, bad = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    few, many = (
        fusion.fit_convex_weights(np.stack([np.tile(good, (n, 1)), np.tile(bad, (n, 1))]), np.zeros(n, int))
        for n in (3, 3000)
    )
    assert 0.5 < few[0] < 0.65
    assert many[0] > 0.95


@given(seeds, st.integers(1, 5), st.integers(5, 50))
def test_convex_weights_of_a_regression_are_shares_that_no_other_mixture_beats(seed, members, rows):
    rng = np.random.default_rng(seed)
    predictions, targets = rng.normal(size=(members, rows, 1)), rng.normal(size=(rows, 1))
    weights = fusion.fit_convex_weights_squared(predictions, targets, prior_rows=0.0)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    loss = fusion.mean_squared_error(fusion.weighted_mean(predictions, weights), targets)
    for other in (np.ones(members), *np.eye(members), *rng.dirichlet(np.ones(members), 5)):
        assert loss <= fusion.mean_squared_error(fusion.weighted_mean(predictions, other), targets) + 1e-6


@given(seeds, members_rows_classes)
def test_greedy_weights_never_lose_to_the_best_single_member_on_the_rows_they_saw(seed, shape):
    probabilities, labels = random_members(seed, shape)

    def loss(fused: np.ndarray) -> float:
        return fusion.negative_log_likelihood(fused, labels)

    weights = fusion.greedy_weights(probabilities, loss)
    assert weights.sum() == pytest.approx(1)
    assert loss(fusion.weighted_mean(probabilities, weights)) <= min(map(loss, probabilities)) + 1e-9


def test_greedy_selection_prefers_members_that_are_in_already():
    probabilities, labels = random_members(1, (1, 20, 3))
    twins = np.concatenate([probabilities, probabilities, probabilities])
    weights = fusion.greedy_weights(twins, lambda fused: fusion.negative_log_likelihood(fused, labels))
    np.testing.assert_array_equal(weights, [1, 0, 0])


@given(seeds, st.integers(5, 60), st.integers(2, 6))
def test_the_weight_of_a_serial_member_is_the_best_in_its_range(seed, rows, classes):
    rng = np.random.default_rng(seed)
    base, logits, labels = (
        rng.normal(size=(rows, classes)),
        rng.normal(size=(rows, classes)),
        rng.integers(classes, size=rows),
    )

    def loss(weight: float) -> float:
        return fusion.negative_log_likelihood(fusion.softmax(base + weight * logits), labels)

    weight = fusion.fit_logit_weight(base, logits, labels)
    assert 0 <= weight <= 2
    assert loss(weight) <= min(loss(other) for other in np.linspace(0, 2, 21)) + 1e-9


def test_the_weight_of_a_serial_regression_member_is_the_projection():
    target, member = np.array([[2.0], [4.0]]), np.array([[2.0], [2.0]])
    assert fusion.fit_squared_weight(np.zeros((2, 1)), member, target) == pytest.approx(1.5)
    assert fusion.fit_squared_weight(np.zeros((2, 1)), -member, target) == 0
    assert fusion.fit_squared_weight(np.zeros((2, 1)), 0 * member, target) == 0


@given(seeds, members_rows_classes)
def test_serial_logits_of_ones_are_the_sum(seed, shape):
    logits = np.random.default_rng(seed).normal(size=shape)
    np.testing.assert_allclose(fusion.serial_logits(logits, np.ones(shape[0])), logits.sum(axis=0))


def test_a_meta_learner_of_identities_multiplies_the_members():
    probabilities, _ = random_members(3, (2, 7, 4))
    stacked = fusion.stacked_probabilities(probabilities, np.concatenate([np.eye(4), np.eye(4)]), np.zeros(4))
    product = probabilities.prod(axis=0)
    np.testing.assert_allclose(stacked, product / product.sum(axis=1, keepdims=True))


def test_a_meta_learner_of_another_number_of_members_is_refused():
    with pytest.raises(ShapeMismatchError):
        fusion.stacked_probabilities(np.full((2, 3, 2), 0.5), np.zeros((6, 2)), np.zeros(2))


@given(seeds, st.integers(5, 40), st.integers(2, 5))
def test_trap_10_the_mean_of_softmaxes_is_not_the_softmax_of_the_mean(seed, rows, classes):
    logits = np.random.default_rng(seed).normal(size=(2, rows, classes)) * 4
    fused = fusion.weighted_mean(fusion.softmax(logits), np.ones(2))
    np.testing.assert_allclose(fused, (fusion.softmax(logits[0]) + fusion.softmax(logits[1])) / 2)
    assert np.abs(fused - fusion.softmax(logits.mean(axis=0))).max() > 1e-4


@given(seeds, members_rows_classes)
def test_trap_17_the_reported_loss_is_the_mean_of_minus_log_p(seed, shape):
    probabilities, labels = random_members(seed, shape)
    by_hand = -np.mean([np.log(row[label]) for row, label in zip(probabilities[0], labels, strict=True)])
    assert fusion.negative_log_likelihood(probabilities[0], labels) == pytest.approx(by_hand)


@given(seeds, st.integers(2, 5), st.integers(5, 40), st.integers(2, 5))
def test_trap_24_a_loud_member_moves_the_fusion_by_its_weight_at_most(seed, members, rows, classes):
    logits = np.random.default_rng(seed).normal(size=(members, rows, classes))
    loud = logits.copy()
    loud[0] *= 10
    fused, shouted = (fusion.weighted_mean(fusion.softmax(z), np.ones(members)) for z in (logits, loud))
    assert np.abs(fused - shouted).max() <= 1 / members + 1e-12


@given(seeds, members_rows_classes)
def test_trap_24_permuting_the_classes_permutes_the_fusion(seed, shape):
    probabilities, _ = random_members(seed, shape)
    order = np.random.default_rng(seed).permutation(shape[2])
    weights = np.arange(1.0, shape[0] + 1)
    moved = fusion.weighted_mean(probabilities[..., order], weights)
    np.testing.assert_allclose(moved, fusion.weighted_mean(probabilities, weights)[:, order])


def test_trap_27_a_probability_of_zero_stays_finite():
    assert np.isfinite(fusion.log_probabilities(np.array([0.0, 1.0]))).all()
    certain = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    assert np.isfinite(fusion.fit_convex_weights(certain, np.array([1]))).all()
    assert fusion.negative_log_likelihood(certain[0], np.array([1])) == pytest.approx(-np.log(1e-12))


@given(seeds, members_rows_classes)
def test_trap_28_total_uncertainty_is_aleatoric_plus_epistemic(seed, shape):
    probabilities, _ = random_members(seed, shape)
    told = fusion.uncertainty(probabilities)
    assert (told.mutual_information >= 0).all()
    assert ((told.disagreement >= 0) & (told.disagreement <= 1)).all()
    np.testing.assert_allclose(told.entropy, told.mean_member_entropy + told.mutual_information, atol=1e-6)


@given(seeds, st.integers(1, 5))
def test_trap_28_identical_members_have_nothing_to_dispute(seed, members):
    probabilities, _ = random_members(seed, (1, 20, 4))
    told = fusion.uncertainty(np.repeat(probabilities, members, axis=0))
    np.testing.assert_allclose(told.mutual_information, 0, atol=1e-12)
    np.testing.assert_array_equal(told.disagreement, 0)


def test_the_spread_of_a_regression_names_its_ends():
    told = fusion.spread(np.array([[[1.0]], [[3.0]]]))
    assert (told.mean[0], told.deviation[0], told.lowest[0], told.highest[0]) == (2, 1, 1, 3)


@given(seeds)
def test_softmax_survives_any_scale(seed):
    logits = np.random.default_rng(seed).normal(size=(4, 3)) * 1e4
    probabilities = fusion.softmax(logits)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(probabilities, fusion.softmax(logits + 123.0))


def fits_of(rows, seed, **weights):
    """Return, for some rows of a draw, everything that is a mean over rows or is fitted to one."""
    rng = np.random.default_rng(seed)
    labels, numbers = rng.integers(3, size=30)[rows], rng.normal(size=(30, 1))[rows]
    logits = rng.normal(size=(2, 30, 3))[:, rows]
    probabilities, (first, second) = fusion.softmax(logits), logits
    squared = second[:, :1], numbers
    return [
        fusion.negative_log_likelihood(probabilities[0], labels, **weights),
        fusion.mean_squared_error(*squared, **weights),
        fusion.fit_logit_weight(first, second, labels, **weights),
        fusion.fit_squared_weight(first[:, :1], *squared, **weights),
        *fusion.fit_convex_weights(probabilities, labels, prior_rows=0.0, **weights),
        *fusion.fit_convex_weights_squared(logits[..., :1], numbers, prior_rows=0.0, **weights),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_row_of_weight_2_counts_as_that_row_twice(seed):
    own = np.random.default_rng(seed).integers(0, 4, 30)
    weighted = fits_of(np.arange(30), seed, row_weights=own / 8)
    assert weighted == pytest.approx(fits_of(np.repeat(np.arange(30), own), seed), abs=1e-5)


def test_row_weights_leave_a_prior_what_it_is_worth():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 40))
    labels = np.zeros(40, int)
    expected = fusion.fit_convex_weights(probabilities, labels)
    for scale in (1e-3, 1.0, 1e3):
        assert fusion.fit_convex_weights(probabilities, labels, row_weights=np.full(40, scale)) == pytest.approx(
            expected
        )
