"""How much of its teacher's lead a student keeps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.stats import share_of_lead
from worker.rows import Array, Data

NAMES = ("student", "teacher", "control")


def gap_notes(student: Array, others: Sequence[Array], data: Data, *, seed: int = 0) -> dict[str, Any]:
    """Say which share of the teacher's lead over the control the student has, and the figures behind it.

    Others are the teacher's answers and, where there is one, the control's, all for the report rows. The share is one
    of accuracies, for a regression of mean squared errors. `gap_kept` is None without a control or a lead, and
    `gap_kept_interval` where these rows do not show the lead.
    """
    scores = {name: _scores(answers, data) for name, answers in zip(NAMES, (student, *others), strict=False)}
    share, interval = None, None
    if "control" in scores:
        share, interval = share_of_lead(scores["student"], scores["teacher"], scores["control"], seed=seed)
    means = {name: float(values.mean()) for name, values in scores.items()}
    if data.classification:
        gap: dict[str, Any] = {"measure": "accuracy", **means}
    else:
        gap = {"measure": "rmse", **{name: (-mean) ** 0.5 for name, mean in means.items()}}
    return {"gap_kept": share, "gap_kept_interval": interval, "gap": gap}


def gap_over_runs(reports: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of the mean lead over several runs, which no run without a lead of its own can upset."""
    gaps = [report.get("method", {}).get("gap", {}) for report in reports]
    if not all(name in gap for gap in gaps for name in NAMES):
        return None
    student, teacher, control = (np.mean([_score(gap, name) for gap in gaps]) for name in NAMES)
    return float((student - control) / (teacher - control)) if teacher > control else None


def _score(gap: Mapping[str, Any], name: str) -> float:
    return float(gap[name]) if gap["measure"] == "accuracy" else -(float(gap[name]) ** 2)


def _scores(answers: Array, data: Data) -> NDArray[np.float64]:
    """Return a score per row, more is better: whether it is right, or the negated squared error."""
    targets = np.asarray(data.y["report"])
    if data.classification:
        return np.asarray(answers.argmax(axis=1) == targets, dtype=np.float64)
    errors = np.square(answers.astype(np.float64) - targets.reshape(answers.shape))
    return np.asarray(-errors[:, 0])
