"""What a fusion answers, by arithmetic on the members' answers: what its graph is compared with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain import fusion as maths
from app.domain.calibration import apply_temperature
from app.serving.graph import Fusion, LogitSum, WeightedMean
from worker.ensemble.calibrating import with_temperatures
from worker.ensemble.learner import meta_answers
from worker.rows import Array, Data


def fused_answers(fusion: Fusion, answers: Mapping[str, NDArray[Any]], data: Data, rows: Array) -> NDArray[np.float64]:
    """Return what a fusion answers to rows, by arithmetic on the members' outputs (members, rows, outputs) by name."""
    if isinstance(fusion, WeightedMean):
        members = with_temperatures(answers[data.output], fusion.temperatures)
        fused = maths.weighted_mean(members, np.array(fusion.weights))
        return apply_temperature(fused, fusion.temperature)
    if isinstance(fusion, LogitSum):
        start = np.array(fusion.start) if fusion.start else None
        if not data.classification:
            return maths.serial_logits(answers["prediction"], np.array(fusion.weights), start=start)
        return maths.softmax(maths.serial_logits(answers["logits"], np.array(fusion.weights), start=start))
    return meta_answers(fusion, answers[data.output], rows, classification=data.classification)


def needed_outputs(fusion: Fusion, data: Data) -> list[str]:
    """Return the members' outputs that a fusion is made of."""
    return ["logits"] if isinstance(fusion, LogitSum) and data.classification else [data.output]
