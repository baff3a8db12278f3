"""Let a version pass only when it is not shown, nor likely, to be much worse than the one that it replaces."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from app.domain.stats import NonInferiority, non_inferior, non_inferior_errors
from worker.rows import Array, Data


@dataclass(frozen=True)
class Gate:
    """Hold what the gate found, in points of accuracy or percent of RMSE, as the spec's `max_drop` is given."""

    max_drop: float
    against: str
    unit: str
    difference: float
    lower_bound: float
    passed: bool
    smallest_shown: float

    def entry(self) -> dict[str, Any]:
        """Return the gate as a report's entry."""
        return {**asdict(self), "confidence": 0.95}

    @property
    def reason(self) -> str | None:
        """Say why the version is rejected and what to do; None when it passed."""
        if self.passed:
            return None
        wanted = max(self.smallest_shown, -self.lower_bound)
        few = (
            f" So few report rows could not show less than {self.smallest_shown:.2f}: measure on more."
            if self.smallest_shown > self.max_drop
            else ""
        )
        return (
            f"It may be up to {-self.lower_bound:.2f} {self.unit} worse than {self.against} (95 % sure; measured "
            f"{self.difference:+.2f}), and at most {self.max_drop:.2f} is allowed.{few} "
            f"Compress less, train longer, or raise max_drop (to {wanted:.2f} for this one)."
        )


def examine_drop(own: Array, other: Array, data: Data, *, against: str, max_drop: float, seed: int = 0) -> Gate:
    """Compare a version's answers for the report rows with those of the version that it must not fall behind."""
    found = _test(own, other, data, margin=max_drop / 100, seed=seed)
    unit = "points of accuracy" if data.classification else "% of RMSE"
    scaled = (100 * figure for figure in (found.difference, found.lower_bound, found.smallest_margin))
    difference, lower_bound, smallest_shown = scaled
    return Gate(max_drop, against, unit, difference, lower_bound, found.passed, smallest_shown)


def _test(own: Array, other: Array, data: Data, *, margin: float, seed: int) -> NonInferiority:
    targets = np.asarray(data.y["report"])
    if data.classification:
        return non_inferior(own.argmax(axis=1) == targets, other.argmax(axis=1) == targets, margin)
    squared, others = (np.square(answers - targets.reshape(answers.shape))[:, 0] for answers in (own, other))
    return non_inferior_errors(squared, others, margin, seed=seed)
