"""Serial fusion: every member learns what the sum of the members before it gets wrong; the logits are summed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain import fusion as maths
from app.domain.datasets import RowSet, digest_of
from app.domain.ensemble_specs import NewMember, Serial
from app.domain.models import served_file
from app.domain.network import Network
from app.domain.presets import build_network
from app.domain.specs import EnsembleSpec
from app.domain.training_specs import TrainingSpec
from app.serving.graph import LogitSum
from app.serving.runtime import predict_rows
from worker.assignment import Assignment
from worker.context import Context, Reporter
from worker.ensemble.fusing import Fused, fused_product
from worker.ensemble.members import Member, loss_of
from worker.learning import (
    Lesson,
    Single,
    Trained,
    engine_of,
    hard_targets,
    learn,
    plan_stage,
    single_product,
    start_of,
    trained_codec,
    weighed_rows,
)
from worker.nn.objectives import plain_objective, residual_objective
from worker.package import Product, simplest
from worker.rows import Data
from worker.stages import Stages

Answers = dict[RowSet, NDArray[np.float64]]
FITTED_SETS: tuple[RowSet, ...] = ("train", "selection")
# The first member's weight is a temperature for its logits; later ones are steps, and a longer one would overshoot.
LARGEST_FIRST_WEIGHT, LARGEST_STEP = 2.0, 1.0
SMALLEST_FALL = 1e-6


@dataclass(frozen=True)
class Round:
    """Hold one member of the sum: its network, weights and weight, and the sum's figures with it."""

    network: Network
    trained: Trained
    member: NewMember
    weight: float
    notes: dict[str, float]


def fuse_serially(
    spec: EnsembleSpec, method: Serial, assignment: Assignment, context: Context, data: Data
) -> list[Product]:
    """Train member after member on the residual of the sum, stop when the selection loss stops falling, and fuse.

    Returns the members' versions and, last, the fused one.
    """
    trainings = [member.training or spec.training for member in method.members]
    names = [f"round{number}" for number in range(len(trainings))]
    rows = len(data.y["train"])
    stages = Stages(context, [plan_stage(*named, rows) for named in zip(names, trainings, strict=True)])
    rounds: list[Round] = []
    total = base_of(data)
    for name, member, training in zip(names, method.members, trainings, strict=True):
        teaching = _Teaching(member, training, total, data, first=not rounds)
        trained = stages.run(name, teaching.train, trained_codec)
        found, total = _step(teaching, trained)
        if rounds and not _falls(found, rounds[-1], data):
            context.reporter.log(f"{name}: the selection loss no longer falls, so the sum ends before this member")
            break
        rounds.append(found)
    products = [_member_product(spec, place, found, assignment, data) for place, found in enumerate(rounds)]
    return [*products, _fused(rounds, products, len(method.members), assignment, data)]


def _falls(found: Round, before: Round, data: Data) -> bool:
    """Say whether the selection loss falls by enough: nats, or a share, since squared errors may be in any units."""
    new, old = (each.notes["selection_loss"] for each in (found, before))
    return new <= old - SMALLEST_FALL * (1.0 if data.classification else old)


def base_of(data: Data) -> Answers:
    """Return the sum of no members: zeros."""
    return {name: np.zeros((len(data.y[name]), data.dataset_schema.outputs)) for name in FITTED_SETS}


def residual_norm(total: NDArray[np.float64], labels: NDArray[Any], data: Data) -> float:
    """Return the root mean square of what is left to learn: label minus probability, or target minus sum."""
    targets = hard_targets(data, labels)
    left = targets - (maths.softmax(total) if data.classification else total)
    return float(np.sqrt(np.square(left).sum(axis=1).mean()))


@dataclass(frozen=True)
class _Teaching:
    """Hold what a member is taught: its spec and the sum so far, which stays as it is."""

    member: NewMember
    training: TrainingSpec
    total: Answers
    data: Data
    first: bool

    @property
    def network(self) -> Network:
        """Return the member's network."""
        return build_network(self.member.architecture, self.data.dataset_schema)

    def train(self, reporter: Reporter, resume: Path | None) -> Trained:
        """Train the member on top of the sum."""
        data = self.data
        task, smoothing = data.dataset_schema.task, self.training.label_smoothing
        plain = self.first or not data.classification
        lesson = Lesson(
            network=self.network,
            rows=weighed_rows(data, self._targets("train"), self._targets("selection")),
            objective=plain_objective(task, label_smoothing=smoothing) if plain else residual_objective(smoothing),
            training=self.training,
            seed=self.member.seed,
            start=start_of(self.network, data),
        )
        return learn(lesson, reporter, resume)

    def _targets(self, name: RowSet) -> NDArray[np.float32]:
        """Pack labels and the sum's logits side by side; a regression learns the difference itself."""
        targets, total = hard_targets(self.data, self.data.y[name]), self.total[name].astype(np.float32)
        if not self.data.classification:
            return targets - total
        return targets if self.first else np.concatenate([targets, total], axis=1)


def _step(teaching: _Teaching, trained: Trained) -> tuple[Round, Answers]:
    """Find the member's weight on the selection rows; return the round and the sum with it."""
    data, before = teaching.data, teaching.total
    engine = engine_of(teaching.network, trained.weights)
    output = "logits" if data.classification else "prediction"
    own = {name: predict_rows(engine, data.x[name], output).astype(np.float64) for name in FITTED_SETS}
    weight = _weight(before["selection"], own["selection"], teaching)
    total = {name: before[name] + weight * own[name] for name in FITTED_SETS}
    notes = {
        "target_norm": residual_norm(before["train"], data.y["train"], data),
        "train_loss": _loss(total, "train", data),
        "selection_loss": _loss(total, "selection", data),
    }
    return Round(teaching.network, trained, teaching.member, weight, notes), total


def _weight(total: NDArray[np.float64], own: NDArray[np.float64], teaching: _Teaching) -> float:
    largest = LARGEST_FIRST_WEIGHT if teaching.first else LARGEST_STEP
    targets, row_weights = np.asarray(teaching.data.y["selection"]), teaching.data.weights.get("selection")
    if teaching.data.classification:
        return maths.fit_logit_weight(total, own, targets, largest=largest, row_weights=row_weights)
    return maths.fit_squared_weight(total, own, targets.reshape(own.shape), largest=largest, row_weights=row_weights)


def _loss(total: Answers, name: RowSet, data: Data) -> float:
    answers = maths.softmax(total[name]) if data.classification else total[name]
    return loss_of(answers, data.y[name], data, row_weights=data.weights.get(name))


def _member_product(spec: EnsembleSpec, place: int, found: Round, assignment: Assignment, data: Data) -> Product:
    single = Single(
        network=found.network,
        trained=found.trained,
        name=f"{spec.name}-m{place}",
        method="serial_member",
        baselines=[simplest(data)],
        notes={
            "round": place,
            "weight": found.weight,
            "caution": None if place == 0 else "This member corrects the ones before it; alone it is no good model.",
            **found.notes,
        },
        directory=f"member-{place}",
        recipe_digest=digest_of({"serial": assignment.recipe_digest, "round": place}),
    )
    return single_product(single, replace_seed(assignment, found.member.seed), data)


def replace_seed(assignment: Assignment, seed: int) -> Assignment:
    """Return the assignment with a member's own seed."""
    return assignment.model_copy(update={"seed": seed})


def _fused(
    rounds: Sequence[Round], products: Sequence[Product], planned: int, assignment: Assignment, data: Data
) -> Product:
    members = [
        Member(
            f"#{place}",
            product.name_hint,
            None,
            product.manifest.digest,
            product.directory / served_file(product.manifest.files),
            product.manifest.metrics,
        )
        for place, product in enumerate(products)
    ]
    notes = {
        "type": "residual",
        "rounds": [{"weight": found.weight, **found.notes} for found in rounds],
        "planned_rounds": planned,
        "ended_early": len(rounds) < planned,
        "fitted_on": "members on train rows, their weights on selection rows",
    }
    history = [epoch for found in rounds for epoch in found.trained.history]
    fusion = LogitSum(tuple(found.weight for found in rounds))
    return fused_product(Fused("serial", members, fusion, notes, history), assignment, data)
