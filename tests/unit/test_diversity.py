import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.diversity import pairwise_disagreement

shapes = st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(2, 4))


@settings(deadline=None)
@given(shapes, st.integers(0, 10**6), st.booleans())
def test_disagreement_is_a_distance_between_members(shape, seed, classification) -> None:
    answers = np.random.default_rng(seed).normal(size=shape if classification else (*shape[:2], 1))
    found = pairwise_disagreement(answers, classification=classification)
    assert found.shape == (shape[0], shape[0])
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 0)
    assert (found[:, :, None] <= found[:, None, :] + found.T[None] + 1e-12).all()  # no way round is shorter
    order = np.random.default_rng(seed).permutation(shape[0])
    moved = pairwise_disagreement(answers[order], classification=classification)
    np.testing.assert_allclose(moved, found[np.ix_(order, order)])


def test_it_is_the_share_of_rows_with_another_answer_or_the_root_mean_square_difference() -> None:
    votes = np.eye(3)[[[0, 1, 2, 0], [0, 1, 1, 1]]]
    assert pairwise_disagreement(votes, classification=True)[0, 1] == 0.5
    numbers = np.array([[[1.0], [2.0]], [[4.0], [6.0]]])
    assert pairwise_disagreement(numbers, classification=False)[0, 1] == pytest.approx(np.sqrt((9 + 16) / 2))
