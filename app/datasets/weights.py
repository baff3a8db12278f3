"""Row weights: how much each row counts when something is learned from it."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from app.datasets.split import SELECTION, SET_NAMES, TRAIN
from app.domain.errors import FieldError
from app.domain.upload_errors import NonFiniteValuesError, WeightOutOfRangeError

Array: TypeAlias = np.ndarray[Any, Any]
_RANGE = "Row weights are numbers from 0 to 3.4e38, one of them at least above 0; a row of weight 0 teaches nothing."


def check_weights(weights: Array, places: Sequence[str], *, name: str) -> Array:
    """Return the weights as float32 (rows,); raise with the first ten places when one is no finite number from 0 up."""
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite and is reported as such
        stored = np.ascontiguousarray(weights, dtype=np.float32) + np.float32(0)
    for kind, wrong, reason in (
        (NonFiniteValuesError, ~np.isfinite(stored), "NaN or infinite (float32 holds numbers up to 3.4e38)"),
        (WeightOutOfRangeError, stored < 0, "below 0"),
    ):
        bad = np.flatnonzero(wrong)
        if len(bad):
            raise kind(
                f"The row weight {weights[bad[0]]:g} at {places[bad[0]]} in `{name}` is {reason}.",
                hint=f"{_RANGE} Mend the weight or drop the row.",
                errors=[FieldError("/file", f"{places[row]}, `{name}`", kind.slug) for row in bad[:10].tolist()],
            )
    if not stored.any():
        raise _weightless(f"All {len(stored)} row weights in `{name}` are 0", "Name another column or array.")
    return stored


def check_sets_weigh(weights: Array, sets: Array) -> None:
    """Raise when a set that something is learned from, or chosen on, has rows of weight 0 alone."""
    for number in (TRAIN, SELECTION):
        if not weights[sets == number].any():
            count = int(np.count_nonzero(sets == number))
            raise _weightless(
                f"All {count} rows of the {SET_NAMES[number]} set have the weight 0",
                "Give more rows a weight above 0, or choose another `seed` or `split`.",
            )


def _weightless(what: str, remedy: str) -> WeightOutOfRangeError:
    return WeightOutOfRangeError(
        f"{what}, so nothing could be learned.",
        hint=f"{_RANGE} {remedy}",
        errors=[FieldError("/options/weight", what, WeightOutOfRangeError.slug)],
    )
