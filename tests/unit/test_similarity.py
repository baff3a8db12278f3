import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import ortho_group

from app.domain.surgery.similarity import centred_gram, cosine, group_similar, linear_cka

seeds = st.integers(0, 10**6)


def pair(seed: int, rows: int = 30, features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    return x, x @ rng.normal(size=(features, features)) + rng.normal(size=(rows, features))


def textbook_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, equation 4, on centred features."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.01, 100), st.floats(-5, 5))
def test_rotating_scaling_and_shifting_activations_changes_no_alignment(seed, scale, shift):
    x, y = pair(seed)
    turned = scale * x @ ortho_group.rvs(6, random_state=seed) + shift
    assert linear_cka(turned, y) == pytest.approx(linear_cka(x, y), abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_activations_are_wholly_aligned_with_themselves(seed):
    x, y = pair(seed)
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))
    assert -1 <= linear_cka(x, y) <= 1


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_general_linear_map_is_not_an_alignment(seed):
    x = np.random.default_rng(seed).normal(size=(200, 2))
    assert linear_cka(x, x * [1, 100]) < 0.9


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_with_many_rows_alignment_is_that_of_the_textbook(seed):
    x, y = pair(seed, rows=1500, features=4)
    assert linear_cka(x, y) == pytest.approx(textbook_cka(x, y), abs=0.02)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_independent_features_are_not_alike_however_many_there_are(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 40, 2000))
    assert textbook_cka(x, y) > 0.9
    assert abs(linear_cka(x, y)) < 0.2


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_maps_are_compared_by_all_their_numbers(seed):
    x = np.random.default_rng(seed).normal(size=(20, 3, 3, 2))
    assert linear_cka(x, np.moveaxis(x, -1, 1)) == pytest.approx(1)


def test_constant_activations_are_like_nothing():
    x, y = pair(0)
    assert linear_cka(np.ones_like(x), y) == 0


def test_too_few_rows_say_nothing():
    with pytest.raises(ValueError, match="at least 4"):
        centred_gram(np.zeros((3, 5)))


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.01, 100))
def test_the_cosine_of_weights_knows_direction_alone(seed, scale):
    x, y = pair(seed)
    assert cosine(scale * x, y) == pytest.approx(cosine(x, y))
    assert cosine(-x, y) == pytest.approx(-cosine(x, y))
    assert cosine(x, x) == pytest.approx(1)


def test_nothing_is_like_zero():
    assert cosine(np.zeros(3), np.ones(3)) == 0


@st.composite
def similarities(draw: st.DrawFn) -> np.ndarray:
    size = draw(st.integers(2, 8))
    upper = np.triu(draw(arrays(np.float64, (size, size), elements=st.floats(-1, 1), unique=True)), 1)
    return upper + upper.T + np.eye(size)


@settings(max_examples=30, deadline=None)
@given(similarities(), st.floats(-1, 1))
def test_every_pair_of_a_group_is_above_the_threshold(similarity, threshold):
    groups = group_similar(similarity, threshold)
    places = [place for group in groups for place in group]
    assert len(places) == len(set(places))
    assert all(similarity[i, j] >= threshold for group in groups for i in group for j in group)
    left = [place for place in range(len(similarity)) if place not in places]
    assert all(similarity[i, j] < threshold for i in left for j in left if i != j)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 8), st.floats(-0.9, 0.9))
def test_groups_are_those_of_complete_linkage(seed, size, threshold):
    upper = np.triu(np.random.default_rng(seed).uniform(-1, 1, (size, size)), 1)
    similarity = upper + upper.T + np.eye(size)
    labels = fcluster(linkage(squareform(1 - similarity), "complete"), 1 - threshold, "distance")
    together = [np.flatnonzero(labels == label).tolist() for label in set(labels)]
    assert group_similar(similarity, threshold) == sorted(group for group in together if len(group) > 1)
