"""Snapshots: one training with warm restarts, a member at the end of every cycle, fused by a weighted mean."""

from math import ceil
from typing import Any

from numpy.typing import NDArray

from app.domain import fusion as maths
from app.domain.datasets import digest_of
from app.domain.diversity import pairwise_disagreement
from app.domain.ensemble_specs import Snapshot
from app.domain.network import Network
from app.domain.presets import build_network
from app.domain.specs import EnsembleSpec
from app.domain.surgery.rewriting import Weights
from app.domain.training_specs import TrainingSpec
from app.serving.graph import WeightedMean
from worker.assignment import Assignment
from worker.context import Context
from worker.ensemble.calibrating import calibrate_members
from worker.ensemble.fusing import Fused, fused_product
from worker.ensemble.members import answers_of, loss_of, made_members
from worker.ensemble.parallel import find_weights
from worker.ensemble.serial import replace_seed
from worker.learning import (
    Lesson,
    Single,
    Trained,
    hard_rows,
    learn,
    plan_stage,
    single_product,
    start_of,
    trained_codec,
)
from worker.nn.objectives import plain_objective
from worker.nn.optimizers import rates_of_epochs
from worker.package import Product, simplest
from worker.rows import Data
from worker.stages import Stages


def fuse_snapshots(
    spec: EnsembleSpec, method: Snapshot, assignment: Assignment, context: Context, data: Data
) -> list[Product]:
    """Train the cycles, register a member at the end of each, and fuse them; the fused version comes last."""
    network = build_network(method.architecture, data.dataset_schema)
    cycles = _train_cycles(spec, method, network, context, data)
    products = [
        single_product(
            _member(spec, number, network, trained, assignment, data),
            replace_seed(assignment, method.seed + number),
            data,
        )
        for number, trained in enumerate(cycles)
    ]
    members = made_members(products)
    raw = answers_of([member.graph for member in members], data.x["selection"], data.output)
    answers, temperatures, told = calibrate_members(raw, data, wanted=spec.calibrate)
    weights = find_weights(method, answers, data)
    notes = {
        "cycles": method.cycles,
        "epochs_per_cycle": spec.training.epochs,
        "weights": method.weights,
        "fitted_on": None if method.weights == "uniform" else "selection rows",
        "selection_loss": _selection_loss(maths.weighted_mean(answers, weights), data),
        "selection_losses_of_members": [_selection_loss(own, data) for own in raw],
        "calibration": {"members": told},
        "pairwise_disagreement": pairwise_disagreement(raw, classification=data.classification).tolist(),
        "learning_rates": _rates(spec.training, method.cycles, data),
    }
    history = [epoch for trained in cycles for epoch in trained.history]
    fusion = WeightedMean(tuple(float(weight) for weight in weights), temperatures)
    return [*products, fused_product(Fused("snapshot", members, fusion, notes, history), assignment, data)]


def _train_cycles(
    spec: EnsembleSpec, method: Snapshot, network: Network, context: Context, data: Data
) -> list[Trained]:
    """Train cycle after cycle, each from where the one before came to rest.

    The optimizer starts anew with every cycle: at a learning rate near zero its moments tell of a minimum that the
    restart is to leave.
    """
    training = spec.training.model_copy(update={"keep": "last"})
    names = [f"cycle{number}" for number in range(method.cycles)]
    stages = Stages(context, [plan_stage(name, training, len(data.y["train"])) for name in names])
    cycles: list[Trained] = []
    for number, name in enumerate(names):
        start = cycles[-1].weights if cycles else start_of(network, data)
        lesson = _lesson(network, training, start, method.seed + number, data)
        cycles.append(stages.run(name, lambda *state, own=lesson: learn(own, *state), trained_codec))
    return cycles


def _lesson(network: Network, training: TrainingSpec, start: Weights, seed: int, data: Data) -> Lesson:
    objective = plain_objective(data.dataset_schema.task, label_smoothing=training.label_smoothing)
    return Lesson(network, hard_rows(data), objective, training, seed, start)


def _rates(training: TrainingSpec, cycles: int, data: Data) -> dict[str, Any]:
    """Say with which learning rate every epoch began, and at which epochs it was the highest."""
    steps_per_epoch = ceil(len(data.y["train"]) / training.batch_size)
    rates = rates_of_epochs(training, steps_per_epoch=steps_per_epoch) * cycles
    highest = max(rates)
    return {
        "at_the_start_of_each_epoch": rates,
        "highest": highest,
        "highest_at_epochs": [epoch for epoch, rate in enumerate(rates) if rate == highest],
    }


def _selection_loss(answers: NDArray[Any], data: Data) -> float:
    return loss_of(answers, data.y["selection"], data, row_weights=data.weights.get("selection"))


def _member(
    spec: EnsembleSpec, number: int, network: Network, trained: Trained, assignment: Assignment, data: Data
) -> Single:
    return Single(
        network=network,
        trained=trained,
        name=f"{spec.name}-m{number}",
        method="snapshot_member",
        baselines=[simplest(data)],
        notes={"cycle": number, "kept": "the weights of the cycle's last epoch"},
        directory=f"member-{number}",
        recipe_digest=digest_of({"snapshot": assignment.recipe_digest, "cycle": number}),
    )
