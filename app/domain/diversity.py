"""How far the members of an ensemble differ: without that, fusing them gains nothing.

Of classes, right and wrong answers are compared (Kuncheva & Whitaker 2003), of numbers the errors.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def pairwise_disagreement(answers: NDArray[Any], *, classification: bool) -> Matrix:
    """Return how far every two members differ (members, members), from their answers (members, rows, outputs).

    Of classes it is the share of rows with another answer (Skalak 1996), of numbers the root mean square difference.
    """
    if classification:
        votes = answers.argmax(axis=-1)
        differs: Matrix = (votes[:, None] != votes[None]).mean(axis=-1)
        return differs
    return np.stack([np.sqrt(np.square(answers - own).mean(axis=(1, 2))) for own in answers])


def double_fault(right: NDArray[np.bool_]) -> Matrix:
    """Return the share of rows on which both of two members are wrong (Giacinto & Roli 2001), from (members, rows)."""
    wrong = (~right).astype(np.float64)
    shares: Matrix = wrong @ wrong.T / right.shape[1]
    return shares


def yule_q(right: NDArray[np.bool_]) -> Matrix:
    """Return Yule's Q of every two members, from (members, rows): 1 where they err together, -1 where never both.

    Q = (N11 N00 - N01 N10) / (N11 N00 + N01 N10) (Yule 1900); 0 where neither product is above 0.
    """
    own = right.astype(np.float64)
    both, neither, one, other = (a @ b.T for a, b in ((own, own), (1 - own, 1 - own), (own, 1 - own), (1 - own, own)))
    agreeing, differing = both * neither, one * other
    total = agreeing + differing
    return np.divide(agreeing - differing, total, out=np.zeros_like(total), where=total > 0)


def correlation(values: NDArray[Any]) -> Matrix:
    """Return Pearson's correlation of every two members' values (members, rows): right answers, or errors.

    A member that is always right, or always wrong, correlates with none: 0; every member correlates with itself: 1.
    """
    centred = values - values.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.square(centred).sum(axis=1))
    products = np.outer(lengths, lengths)
    found = np.divide(centred @ centred.T, products, out=np.zeros_like(products), where=products > 0)
    np.fill_diagonal(found, 1.0)
    bounded: Matrix = np.clip(found, -1.0, 1.0)
    return bounded


def ambiguity(predictions: NDArray[Any], weights: NDArray[np.float64]) -> float:
    """Return the weighted mean squared distance of predictions (members, rows) from their weighted mean.

    With weights that sum to 1, error of the fusion = weighted mean error of the members - ambiguity (Krogh & Vedelsby
    1995).
    """
    fused = weights @ predictions
    return float(weights @ np.square(predictions - fused).mean(axis=1))
