"""What cross-validation says of an ensemble's members: their losses by fold, and whether the best one is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.stats import corrected_resampled_t, decide, holm
from worker.ensemble.members import loss_of
from worker.rows import Data


def compare_by_folds(
    held_out: NDArray[np.float64], folds: NDArray[np.int64], data: Data, *, share: float | None = None
) -> dict[str, Any]:
    """Compare members by out-of-fold answers (members, train rows, outputs), each with the one of least loss.

    `difference` > 0 means that the member's loss (mean -log p, or squared error) is lower than the best one's, which
    by its choice is rare. Folds share train rows, so the t-test is the corrected one, adjusted for the comparisons.
    `share` is that of the rows that a fold tests; by default one in as many as there are folds.
    """
    labels = np.asarray(data.y["train"])
    numbers = range(int(folds.max()) + 1)
    losses = np.array(
        [
            [loss_of(answers[folds == number], labels[folds == number], data) for number in numbers]
            for answers in held_out
        ]
    )
    best = int(losses.mean(axis=1).argmin())
    others = [place for place in range(len(losses)) if place != best]
    tests = [corrected_resampled_t(list(losses[best] - losses[place]), share or 1 / len(numbers)) for place in others]
    adjusted = holm([p_value for *_, p_value in tests])
    return {
        "losses": losses.tolist(),
        "best": best,
        "comparisons": [
            {
                "member": place,
                "difference": difference,
                "interval": interval,
                "p_value": p_value,
                "adjusted_p_value": corrected,
                "verdict": decide(difference, corrected),
            }
            for place, (difference, interval, p_value), corrected in zip(others, tests, adjusted, strict=True)
        ],
    }
