"""How far the members of an ensemble differ: without that, fusing them gains nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pairwise_disagreement(answers: NDArray[Any], *, classification: bool) -> NDArray[np.float64]:
    """Return how far every two members differ (members, members), from their answers (members, rows, outputs).

    Of classes it is the share of rows with another answer (Skalak 1996), of numbers the root mean square difference.
    """
    if classification:
        votes = answers.argmax(axis=-1)
        differs: NDArray[np.float64] = (votes[:, None] != votes[None]).mean(axis=-1)
        return differs
    return np.stack([np.sqrt(np.square(answers - own).mean(axis=(1, 2))) for own in answers])
