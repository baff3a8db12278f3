"""What a student learns from a teacher: targets made from the teacher's served answers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import RowSet
from app.domain.fusion import log_probabilities
from app.domain.optimize_specs import LearnFrom
from app.domain.specs import OptimizeSpec
from worker.assignment import VersionInput
from worker.learning import hard_rows, hard_targets
from worker.nn.objectives import Objective, distillation_objective, plain_objective
from worker.nn.training import Rows
from worker.optimize.parents import Parent, answers_for
from worker.rows import Data

# Below this mean entropy (nats) the teacher says little more than the labels do.
SMALLEST_ENTROPY = 0.05
# What is fine-tuned on its parent's answers learns from them and the labels in equal parts, at a mild temperature.
TEMPERATURE, ALPHA = 2.0, 0.5


@dataclass(frozen=True)
class Teaching:
    """Hold a transfer set with packed targets, the objective that reads them, and the teacher's mean entropy on it."""

    rows: Rows
    objective: Objective
    entropy: float | None

    @property
    def warnings(self) -> list[str]:
        """Warn of a teacher that has memorised the rows it teaches on."""
        if self.entropy is None or self.entropy >= SMALLEST_ENTROPY:
            return []
        return [
            f"The teacher is almost certain on the transfer rows (mean entropy {self.entropy:.3f} nats, below "
            f"{SMALLEST_ENTROPY}): it has memorised them and teaches little beyond their labels. A teacher with "
            f"stronger regularization, or an ensemble, teaches more."
        ]


def teach(teacher: VersionInput, data: Data, *, temperature: float, alpha: float) -> Teaching:
    """Ask the teacher once for every train and selection row, and pack its answers beside the labels.

    A classifier teaches log p of the probabilities that it serves (an ensemble: of the fused ones), which are its
    logits up to a constant per row. A regression teaches (1 - alpha) y + alpha t: the squared error to it has the
    gradient of the weighted sum of both errors.
    """
    rows = Rows(
        data.x["train"],
        _targets(teacher, "train", data, alpha),
        selection_x=data.x["selection"],
        selection_targets=_targets(teacher, "selection", data, alpha),
    )
    if not data.classification:
        return Teaching(rows, plain_objective("regression"), None)
    logs = rows.train_targets[:, data.dataset_schema.outputs :].astype(np.float64)
    entropy = float(-(np.exp(logs) * logs).sum(axis=1).mean())
    return Teaching(rows, distillation_objective(temperature=temperature, alpha=alpha), entropy)


def lesson_rows(learn_from: LearnFrom, spec: OptimizeSpec, parent: Parent, data: Data) -> tuple[Rows, Objective]:
    """Return what a rewritten parent is fine-tuned on: the labels, or the labels and the parent's probabilities."""
    if learn_from == "parent":
        teaching = teach(parent.version, data, temperature=TEMPERATURE, alpha=ALPHA)
        return teaching.rows, teaching.objective
    return hard_rows(data), plain_objective(data.dataset_schema.task, label_smoothing=spec.training.label_smoothing)


def _targets(teacher: VersionInput, name: RowSet, data: Data, alpha: float) -> NDArray[Any]:
    hard, soft = hard_targets(data, data.y[name]), answers_for(teacher, data.x[name], data)
    if not data.classification:
        return (1 - alpha) * hard + np.float32(alpha) * soft
    return np.concatenate([hard, log_probabilities(soft.astype(np.float64)).astype(np.float32)], axis=1)
