"""What a student learns from a teacher: targets made from the teacher's served answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.domain.fusion import log_probabilities, softmax, weighted_mean
from app.domain.optimize_specs import LearnFrom
from app.domain.specs import OptimizeSpec
from app.serving.runtime import Engine, batches_of, load_engine
from worker.assignment import VersionInput
from worker.learning import hard_rows, hard_targets, weighed_rows
from worker.nn.objectives import Objective, distillation_objective, plain_objective
from worker.nn.training import Rows
from worker.optimize.parents import Parent, served_path
from worker.rows import Array, Data

# Below this mean entropy (nats) the teacher says little more than the labels do.
SMALLEST_ENTROPY = 0.05
# What is fine-tuned on its parent's answers learns from them and the labels in equal parts, at a mild temperature.
TEMPERATURE, ALPHA = 2.0, 0.5
BATCH_ROWS = 256

Mean = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class Teaching:
    """Hold a transfer set with packed targets, the objective that reads them, and the teacher's mean entropy on it."""

    rows: Rows
    objective: Objective
    entropy: float | None

    @property
    def warnings(self) -> list[str]:
        """Warn of a teacher that has memorised the rows it teaches on."""
        return entropy_warnings(self.entropy)


def entropy_warnings(entropy: float | None) -> list[str]:
    """Say what to do when a teacher's mean entropy (nats) shows that it has memorised the rows it teaches on."""
    if entropy is None or entropy >= SMALLEST_ENTROPY:
        return []
    return [
        f"The teacher is almost certain on the transfer rows (mean entropy {entropy:.3f} nats, below "
        f"{SMALLEST_ENTROPY}): it has memorised them and teaches little beyond their labels. Let it teach on rows that "
        f"it has not seen (`transfer`: `unlabelled`, `augmented_copies`, or `labels: out_of_fold`), or name a teacher "
        f"with stronger regularization or an ensemble."
    ]


@dataclass(frozen=True)
class Voice:
    """Speak for a teacher: one engine, the outputs that are asked for, and how they become one answer."""

    engine: Engine
    outputs: tuple[str, ...]
    weights: NDArray[np.float64]
    mean: Mean
    classification: bool
    told: str

    def answer(self, rows: Array) -> NDArray[np.float32]:
        """Return log-probabilities, or predictions, (rows, outputs) for raw rows, which may be memory-mapped."""
        parts = [
            np.stack(self.engine.run(np.ascontiguousarray(batch, self.engine.dtype), self.outputs))
            for batch in batches_of(rows, BATCH_ROWS)
        ]
        answers = np.concatenate(parts, axis=1).astype(np.float64)
        return mixed(answers, self.weights, mean=self.mean, classification=self.classification)


def voice_of(teacher: VersionInput, data: Data, *, mean: Mean = "probabilities") -> Voice:
    """Return how a registered teacher speaks: by its served file.

    An ensemble whose members' logits are averaged is asked for its members' probabilities: log p is a member's logits
    up to a constant per row. A serial one sums logits already, so its probabilities say the same.
    """
    engine = load_engine(served_path(teacher))
    members = [name for name in engine.outputs if name.startswith("member.") and name.endswith(".probabilities")]
    if mean == "logits" and members:
        told = "mean of the members' logits, weighted as fused"
        return Voice(engine, tuple(members), weights_of(teacher, len(members)), mean, data.classification, told)
    ensemble = teacher.manifest.kind == "ensemble"
    told = f"fused {data.output}" if ensemble and data.classification else data.output
    return Voice(engine, (data.output,), np.ones(1), "probabilities", data.classification, told)


def weights_of(teacher: VersionInput, members: int) -> NDArray[np.float64]:
    """Return the weights (members,) by which an ensemble fuses; a meta-learner has none, so its members count alike."""
    links = sorted((link for link in teacher.manifest.links if link.role == "member"), key=lambda link: link.position)
    weights = [link.weight for link in links]
    if len(weights) != members or any(weight is None for weight in weights):
        return np.full(members, 1 / members)
    return np.array(weights, dtype=np.float64)


def mixed(
    answers: NDArray[np.float64], weights: NDArray[np.float64], *, mean: Mean, classification: bool
) -> NDArray[np.float32]:
    """Return the log-probabilities of the mean of members' probabilities (members, rows, classes), or of their logits.

    The predictions of a regression are averaged as they are.
    """
    if not classification:
        return weighted_mean(answers, weights).astype(np.float32)
    if mean == "probabilities":
        return log_probabilities(weighted_mean(answers, weights)).astype(np.float32)
    logits = weighted_mean(log_probabilities(answers), weights)
    return log_probabilities(softmax(logits)).astype(np.float32)


def pack(hard: NDArray[np.float32], soft: NDArray[np.float32], data: Data, *, alpha: float) -> NDArray[np.float32]:
    """Return the targets of a student: labels and log-probabilities side by side (rows, 2 * classes).

    A regression learns (1 - alpha) y + alpha t: the squared error to it has the gradient of the weighted sum of both
    errors. Where `hard` has fewer rows, the rest has no label, and only the teacher teaches on it.
    """
    if not data.classification:
        wanted = soft.copy()
        wanted[: len(hard)] = (1 - alpha) * hard + np.float32(alpha) * soft[: len(hard)]
        return wanted
    labels = np.zeros_like(soft)
    labels[: len(hard)] = hard
    return np.concatenate([labels, soft], axis=1)


def entropy_of(soft: Sequence[NDArray[np.float32]]) -> float:
    """Return the mean entropy, in nats, of log-probabilities, given in parts (rows, classes)."""
    total = sum(-float((np.exp(logs) * logs).sum(dtype=np.float64)) for logs in soft)
    return total / sum(len(logs) for logs in soft)


def teach(teacher: VersionInput, data: Data, *, temperature: float, alpha: float) -> Teaching:
    """Ask the teacher once for every train and selection row, and pack its answers beside the labels."""
    voice = voice_of(teacher, data)
    train, selection = (voice.answer(data.x[name]) for name in ("train", "selection"))
    rows = weighed_rows(
        data,
        pack(hard_targets(data, data.y["train"]), train, data, alpha=alpha),
        pack(hard_targets(data, data.y["selection"]), selection, data, alpha=alpha),
    )
    if not data.classification:
        return Teaching(rows, plain_objective("regression"), None)
    objective = distillation_objective(temperature=temperature, alpha=alpha)
    return Teaching(rows, objective, entropy_of([train]))


def lesson_rows(learn_from: LearnFrom, spec: OptimizeSpec, parent: Parent, data: Data) -> tuple[Rows, Objective]:
    """Return what a rewritten parent is fine-tuned on: the labels, or the labels and the parent's probabilities."""
    if learn_from == "parent":
        teaching = teach(parent.version, data, temperature=TEMPERATURE, alpha=ALPHA)
        return teaching.rows, teaching.objective
    return hard_rows(data), plain_objective(data.dataset_schema.task, label_smoothing=spec.training.label_smoothing)
