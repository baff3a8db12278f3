import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.diversity import ambiguity, correlation, double_fault, pairwise_disagreement, yule_q
from app.domain.fusion import uncertainty

RIGHT = np.array([[1, 1, 0, 0, 1, 0], [1, 0, 0, 1, 1, 0]], bool)


def test_the_figures_of_two_members_are_those_counted_by_hand() -> None:
    # N11 = 2, N00 = 2, N10 = 1, N01 = 1.
    assert double_fault(RIGHT)[0, 1] == pytest.approx(2 / 6)
    assert yule_q(RIGHT)[0, 1] == pytest.approx((2 * 2 - 1 * 1) / (2 * 2 + 1 * 1))
    assert correlation(RIGHT)[0, 1] == pytest.approx(np.corrcoef(RIGHT)[0, 1])
    answers = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.7, 0.3]]])
    assert pairwise_disagreement(answers, classification=True)[0, 1] == 0.5


@given(st.integers(0, 1_000))
def test_all_figures_are_symmetric_and_bounded(seed: int) -> None:
    right = np.random.default_rng(seed).random((4, 20)) < 0.7
    for found, low in ((double_fault(right), 0), (yule_q(right), -1), (correlation(right), -1)):
        assert np.allclose(found, found.T)
        assert (found >= low).all()
        assert (found <= 1).all()


def test_a_member_that_is_always_right_has_no_correlation_with_others() -> None:
    right = np.array([[True, True, True], [True, False, True]])
    assert correlation(right).tolist() == [[1, 0], [0, 1]]
    assert np.isfinite(yule_q(right)).all()


@given(st.integers(0, 1_000))
def test_the_error_of_a_mean_is_that_of_its_members_less_the_ambiguity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, targets, weights = rng.normal(size=(3, 30)), rng.normal(size=30), rng.dirichlet(np.ones(3))
    fused = np.square(weights @ predictions - targets).mean()
    members = weights @ np.square(predictions - targets).mean(axis=1)
    assert fused == pytest.approx(members - ambiguity(predictions, weights))


@given(st.integers(0, 1_000), st.integers(2, 5))
def test_trap_28_what_members_share_is_no_dispute(seed: int, members: int) -> None:
    own = np.random.default_rng(seed).dirichlet(np.ones(4), size=10)
    assert np.allclose(uncertainty(np.stack([own] * members)).mutual_information, 0, atol=1e-9)


@given(st.integers(0, 1_000))
def test_trap_28_the_total_is_what_no_member_knows_plus_what_they_dispute(seed: int) -> None:
    rng = np.random.default_rng(seed)
    told = uncertainty(rng.dirichlet(np.ones(5) * 0.5, size=(4, 10)), rng.random(4) + 0.1)
    assert (told.mutual_information >= 0).all()
    assert np.allclose(told.entropy, told.mean_member_entropy + told.mutual_information, atol=1e-6)
