"""What a report says of an ensemble's members: how far they differ, and what each of them is worth."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain import diversity as maths
from app.domain import fusion as fusing
from app.domain.fusion import normalised
from app.serving.graph import Fusion, LogitSum, MetaLearner, WeightedMean
from worker.ensemble.arithmetic import fused_answers
from worker.rows import Array, Data


def diversity_notes(answers: NDArray[Any], data: Data) -> dict[str, Any]:
    """Compare every two members on the report rows, from their answers (members, rows, outputs)."""
    targets = np.asarray(data.y["report"])
    differing = maths.pairwise_disagreement(answers, classification=data.classification)
    if not data.classification:
        predictions = answers[..., 0].astype(np.float64)
        share = np.full(len(predictions), 1 / len(predictions))
        return {
            "distance": differing.tolist(),
            "correlation_of_errors": maths.correlation(predictions - targets.reshape(-1)).tolist(),
            "ambiguity": maths.ambiguity(predictions, share),
        }
    right = answers.argmax(axis=2) == targets
    return {
        "disagreement": differing.tolist(),
        "double_fault": maths.double_fault(right).tolist(),
        "yule_q": maths.yule_q(right).tolist(),
        "correlation": maths.correlation(right).tolist(),
        "mean_disagreement": _mean_of_pairs(differing),
    }


def _mean_of_pairs(matrix: NDArray[np.float64]) -> float | None:
    members = len(matrix)
    return float(matrix[~np.eye(members, dtype=bool)].mean()) if members > 1 else None


def marginal_values(fusion: Fusion, answers: dict[str, NDArray[Any]], data: Data) -> list[dict[str, float] | None]:
    """Return, for every member, how much better the fusion is on the report rows than it would be without it.

    `accuracy` and `nll` (or `rmse`) are gains: above 0 the member helps. The others' weights stay in proportion; a
    meta-learner would have to be fitted again without the member, so that its members have no such value, and neither
    has one without which there is no other weight.
    """
    members = len(next(iter(answers.values())))
    if isinstance(fusion, MetaLearner) or members < 2:
        return [None] * members
    whole = _figures(fused_answers(fusion, answers, data, data.x["report"]), data)
    return [_marginal(place, whole, fusion, answers, data) for place in range(members)]


def _marginal(
    place: int,
    whole: dict[str, float],
    fusion: WeightedMean | LogitSum,
    answers: dict[str, NDArray[Any]],
    data: Data,
) -> dict[str, float] | None:
    kept = [other for other in range(len(fusion.weights)) if other != place]
    left = _only(fusion, kept)
    if left is None:
        return None
    others = {name: values[kept] for name, values in answers.items()}
    without = _figures(fused_answers(left, others, data, data.x["report"]), data)
    sign = {"accuracy": 1.0, "nll": -1.0, "rmse": -1.0}
    return {name: sign[name] * (value - without[name]) for name, value in whole.items()}


def _only(fusion: WeightedMean | LogitSum, kept: list[int]) -> WeightedMean | LogitSum | None:
    weights = tuple(fusion.weights[place] for place in kept)
    if isinstance(fusion, LogitSum):
        return replace(fusion, weights=weights)
    if not sum(weights):
        return None
    temperatures = tuple(fusion.temperatures[place] for place in kept) if fusion.temperatures else ()
    share = tuple(float(weight) for weight in normalised(np.array(weights), len(weights)))
    return replace(fusion, weights=share, temperatures=temperatures)


def _figures(answers: Array, data: Data) -> dict[str, float]:
    targets = np.asarray(data.y["report"])
    if not data.classification:
        return {"rmse": fusing.mean_squared_error(answers, targets.reshape(answers.shape)) ** 0.5}
    return {
        "accuracy": float((answers.argmax(axis=1) == targets).mean()),
        "nll": fusing.negative_log_likelihood(answers, targets),
    }
