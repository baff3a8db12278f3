"""Parallel fusion: independent members, fused by a weighted sum of their answers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain import fusion as maths
from app.domain.ensemble_specs import Parallel, Snapshot
from app.domain.specs import EnsembleSpec
from app.serving.graph import WeightedMean
from worker.assignment import Assignment, LeftOut
from worker.context import Context
from worker.ensemble.calibrating import calibrate_members
from worker.ensemble.fusing import Fused, fused_product
from worker.ensemble.members import answers_of, loss_of, registered_members
from worker.package import Product
from worker.rows import Data


def fuse_parallel(
    spec: EnsembleSpec, method: Parallel, assignment: Assignment, context: Context, data: Data
) -> Product:
    """Fit the weights on the selection rows, which no member was trained on, and fuse."""
    members = registered_members(assignment.references.get("members", ()), data)
    raw = answers_of([member.graph for member in members], data.x["selection"], data.output)
    answers, temperatures, told = calibrate_members(raw, data, wanted=spec.calibrate)
    weights = find_weights(_without(method, assignment.left_out), answers, data)
    fused = maths.weighted_mean(answers, weights)
    context.reporter.log(f"{spec.name}: weights {', '.join(f'{weight:.3f}' for weight in weights)}")
    context.reporter.progress(1, 1)
    notes = {
        "weights": method.weights if isinstance(method.weights, str) else "given",
        "fitted_on": "selection rows" if method.weights in ("convex", "greedy") else None,
        "selection_loss": _selection_loss(fused, data),
        "selection_loss_of_the_mean": _selection_loss(raw.mean(axis=0), data),
        "calibration": {"members": told},
    }
    fusion = WeightedMean(tuple(float(weight) for weight in weights), temperatures)
    return fused_product(Fused("parallel", members, fusion, notes), assignment, data)


def _without(method: Parallel, left_out: Sequence[LeftOut]) -> Parallel:
    """Return the method without the weights of members that could not be trained."""
    if not left_out or not isinstance(method.weights, list):
        return method
    gone = {item.position for item in left_out}
    kept = [weight for place, weight in enumerate(method.weights) if place not in gone]
    return method.model_copy(update={"weights": kept})


def find_weights(method: Parallel | Snapshot, answers: NDArray[np.float64], data: Data) -> NDArray[np.float64]:
    """Return the members' weights, which sum to 1, from their answers (members, rows, outputs) for selection rows."""
    targets, row_weights = np.asarray(data.y["selection"]), data.weights.get("selection")
    if isinstance(method.weights, list):
        return maths.normalised(np.array(method.weights), len(answers))
    if method.weights == "uniform":
        return maths.normalised(np.ones(len(answers)), len(answers))
    if method.weights == "greedy":
        return maths.greedy_weights(answers, lambda fused: _selection_loss(fused, data))
    if data.classification:
        return maths.fit_convex_weights(answers, targets, row_weights=row_weights)
    return maths.fit_convex_weights_squared(answers, targets, row_weights=row_weights)


def _selection_loss(answers: NDArray[np.float64], data: Data) -> float:
    return loss_of(answers, data.y["selection"], data, row_weights=data.weights.get("selection"))
