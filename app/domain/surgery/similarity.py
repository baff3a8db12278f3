"""How alike two layers are: by what they answer for the same rows, or by their weights; and groups of alike layers."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain.surgery.rewriting import Weights, variables_of

Floats: TypeAlias = NDArray[np.float64]
FEWEST_ROWS = 4


def centred_gram(activations: NDArray[Any]) -> Floats:
    """Return the U-centred Gram matrix (rows, rows) of activations (rows, ...): diagonal and sums of rows are zero.

    Its inner products estimate HSIC without the bias that makes layers of many features look alike on few rows (Song et
    al. 2012). Raise ValueError for fewer than four rows, which determine nothing.
    """
    rows = len(activations)
    if rows < FEWEST_ROWS:
        raise ValueError(f"activations of {rows} rows say nothing of similarity; at least {FEWEST_ROWS} are needed")
    features = np.asarray(activations, dtype=np.float64).reshape(rows, -1)
    features = features - features.mean(axis=0)  # it changes nothing but the rounding
    gram: Floats = features @ features.T
    np.fill_diagonal(gram, 0)
    sums = gram.sum(axis=0) / (rows - 2)
    gram = gram - sums[:, None] - sums[None] + sums.sum() / (rows - 1)
    np.fill_diagonal(gram, 0)
    return gram


def cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the cosine between two arrays of one shape, in [-1, 1]; 0 where one of them is zero."""
    a, b = (np.asarray(array, dtype=np.float64).ravel() for array in (one, other))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / size, -1, 1)) if size > 0 else 0.0


def linear_cka(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the linear centred kernel alignment of activations (rows, ...) of the same rows (Kornblith et al. 2019).

    Orthogonal transforms, scaling and shifts of either do not change it; it is 1 for activations that differ by no more
    than these, about 0 for independent ones (Nguyen et al. 2021).
    """
    return cosine(centred_gram(one), centred_gram(other))


def similarity_matrix(parts: Sequence[NDArray[Any]]) -> Floats:
    """Return the cosines (parts, parts) between arrays of one shape: Gram matrices, or weights."""
    matrix = np.eye(len(parts))
    for i, one in enumerate(parts):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = cosine(one, parts[j])
    return matrix


def weight_vector(weights: Weights, owner: str) -> NDArray[Any]:
    """Return all variables of a layer as one vector, in the order of their names."""
    return np.concatenate([value.ravel() for _, value in sorted(variables_of(weights, owner).items())])


def group_similar(similarity: Floats, threshold: float) -> list[list[int]]:
    """Return groups of two or more places of which every pair is at least `threshold` alike, in order.

    Clusters are joined from the closest on, as long as their least similar members allow (complete linkage).
    """
    groups = [[place] for place in range(len(similarity))]
    linked = np.array(similarity, dtype=np.float64)
    while True:
        np.fill_diagonal(linked, -np.inf)
        if len(groups) < 2 or linked.max() < threshold:
            return sorted(sorted(group) for group in groups if len(group) > 1)
        first, second = sorted(np.unravel_index(linked.argmax(), linked.shape))
        groups[first] += groups.pop(second)
        linked[first] = linked[:, first] = np.minimum(linked[first], linked[second])
        linked = np.delete(np.delete(linked, second, axis=0), second, axis=1)
