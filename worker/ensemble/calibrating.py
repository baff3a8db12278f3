"""Temperatures of members and fusions, and the level of prediction sets: all fitted on selection rows."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain import calibration as maths
from app.domain.stats import wilson_interval
from app.serving.graph import Fusion, LogitSum, MetaLearner, WeightedMean
from worker.rows import Data

Floats = NDArray[np.float64]


class CalibratedMembers(NamedTuple):
    """Hold members' answers (members, rows, outputs) after their temperatures, which are none for a regression."""

    answers: Floats
    temperatures: tuple[float, ...]
    told: list[dict[str, Any]]


def calibrate_members(answers: Floats, data: Data, *, wanted: bool) -> CalibratedMembers:
    """Fit a temperature for each member on its answers for the selection rows."""
    if not wanted or not data.classification:
        return CalibratedMembers(answers, (), [])
    labels, row_weights = np.asarray(data.y["selection"]), data.weights.get("selection")
    temperatures = tuple(maths.fit_temperature(own, labels, row_weights=row_weights) for own in answers)
    told = [
        maths.told_temperature(own, labels, each, row_weights=row_weights)._asdict()
        for own, each in zip(answers, temperatures, strict=True)
    ]
    return CalibratedMembers(with_temperatures(answers, temperatures), temperatures, told)


def with_temperatures(answers: Floats, temperatures: tuple[float, ...]) -> Floats:
    """Return members' answers (members, rows, outputs) after their temperatures, if there are any."""
    if not temperatures:
        return answers
    return np.stack([maths.apply_temperature(own, each) for own, each in zip(answers, temperatures, strict=True)])


def calibrate_fusion(fusion: Fusion, fused: Floats, data: Data, *, wanted: bool) -> tuple[Fusion, dict[str, Any]]:
    """Fit a temperature on fused answers for the selection rows; return the fusion with it, and what it did there.

    What ends in logits is divided by it; a weighted mean keeps it as a step of its own.
    """
    if not wanted or not data.classification:
        return fusion, {}
    labels, row_weights = np.asarray(data.y["selection"]), data.weights.get("selection")
    temperature = maths.fit_temperature(fused, labels, row_weights=row_weights)
    told = maths.told_temperature(fused, labels, temperature, row_weights=row_weights)
    return _cooled(fusion, temperature), {"fusion_temperature": told._asdict()}


def _cooled(fusion: Fusion, temperature: float) -> Fusion:
    if isinstance(fusion, WeightedMean):
        return replace(fusion, temperature=temperature)
    if isinstance(fusion, LogitSum):
        weights, start = (tuple(value / temperature for value in each) for each in (fusion.weights, fusion.start))
        return replace(fusion, weights=weights, start=start)
    return _cooled_learner(fusion, np.float32(temperature))


def _cooled_learner(learner: MetaLearner, temperature: np.float32) -> MetaLearner:
    hidden = learner.hidden and replace(learner.hidden, answers=learner.hidden.answers / temperature)
    return replace(learner, kernel=learner.kernel / temperature, bias=learner.bias / temperature, hidden=hidden)


def coverage_notes(selection: Floats, report: Floats, data: Data, miscoverage: float) -> tuple[float, dict[str, Any]]:
    """Return the level of prediction sets by fused answers for selection rows, and how they cover the report rows."""
    level = maths.conformal_level(selection, np.asarray(data.y["selection"]), miscoverage)
    labels, sets = np.asarray(data.y["report"]), maths.prediction_sets(report, level)
    covered = np.take_along_axis(sets, labels[:, None], axis=-1)[:, 0]
    notes = {
        "miscoverage": miscoverage,
        "level": level,
        "selection_rows": len(selection),
        "coverage": float(covered.mean()),
        "coverage_interval": wilson_interval(int(covered.sum()), len(covered)),
        "mean_set_size": float(sets.sum(axis=1).mean()),
        "empty_sets": int((~sets.any(axis=1)).sum()),
        "caution": "The same selection rows fitted the fusion, so that the promise holds nearly, not exactly.",
    }
    return level, {"conformal": notes}
