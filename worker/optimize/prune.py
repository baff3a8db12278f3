"""Pruning as a method: remove a part, fine-tune, and again, until the share that was asked for is gone."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from app.domain.datasets import canonical_json
from app.domain.network import Network, trace
from app.domain.optimize_specs import Prune
from app.domain.specs import OptimizeSpec
from app.domain.surgery.channels import find_channels, remove_channels
from app.domain.surgery.pruning import (
    Budget,
    Numbers,
    check_prunable,
    choose_channels,
    fill_blocks,
    plan_budget,
    score_by_gradients,
    score_channels,
    share_of_round,
    share_of_zeros,
    zero_smallest,
)
from app.domain.training_specs import TrainingSpec
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import Lesson, Single, Trained, has_zeros, learn, plan_stage, single_product, trained_codec
from worker.nn.architectures import seed_of
from worker.nn.export import to_onnx
from worker.nn.gradients import batch_gradients
from worker.nn.objectives import Objective
from worker.nn.training import Rows
from worker.optimize.parents import Parent, baseline_of, link_to, read_parent, size_notes
from worker.optimize.selection import selection_figures
from worker.optimize.teaching import lesson_rows
from worker.package import Product
from worker.rows import Data
from worker.stages import Codec, Stage, Stages

TAYLOR_BATCHES = 50


@dataclass(frozen=True)
class Cut:
    """Hold a network from which something was removed, and its weights."""

    network: Network
    weights: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Work:
    """Hold what every round needs."""

    spec: OptimizeSpec
    method: Prune
    rows: Rows
    objective: Objective
    budget: Budget
    data: Data


def prune(spec: OptimizeSpec, method: Prune, assignment: Assignment, context: Context, data: Data) -> Product:
    """Prune a parent in rounds, each of which removes a part and fine-tunes what is left."""
    parent = read_parent(assignment, data)
    check_prunable(parent.network, method)
    rows, objective = lesson_rows(method.learn_from, spec, parent, data)
    work = _Work(spec, method, rows, objective, plan_budget(find_channels(parent.network), method.ratio), data)
    pruned, history, rounds = _run_rounds(work, Cut(parent.network, parent.weights), context)
    single = Single(
        pruned.network,
        Trained(pruned.weights, history),
        spec.name,
        "prune",
        [baseline_of(parent.version, data, role="parent")],
        _notes(method, parent, pruned, rounds),
        links=(link_to(parent.version, "parent"),),
        max_drop=method.max_drop,
    )
    return single_product(single, assignment, data)


def split_epochs(training: TrainingSpec, rounds: int) -> list[TrainingSpec]:
    """Split a training over the rounds: half of its epochs, and what is left over, go to the last one.

    Every round has at least one epoch, so that there are at most as many rounds as epochs.
    """
    rounds = min(rounds, training.epochs)
    each = max(1, training.epochs // 2 // max(1, rounds - 1))
    epochs = [each] * (rounds - 1)
    return [training.model_copy(update={"epochs": number}) for number in (*epochs, training.epochs - sum(epochs))]


def _run_rounds(work: _Work, start: Cut, context: Context) -> tuple[Cut, list[dict[str, float]], list[dict[str, Any]]]:
    """Run the rounds as stages; return what is left, the history of all epochs, and a row of figures per round."""
    trainings = split_epochs(work.spec.training, work.method.rounds)
    stages = Stages(context, _plan(trainings, work.rows.count))
    current, history, figures = start, list[dict[str, float]](), list[dict[str, Any]]()
    for number, training in enumerate(trainings, 1):
        cut = stages.run(f"cut{number}", _cutting(work, current, number / len(trainings)), _cut_codec)
        lesson = Lesson(
            cut.network,
            work.rows,
            work.objective,
            training,
            seed_of(work.spec.seed, f"round{number}"),
            cut.weights,
            keep_zeros=work.method.structure == "unstructured" or has_zeros(cut.weights),
        )
        trained = stages.run(f"round{number}", lambda *state, lesson=lesson: learn(lesson, *state), trained_codec)
        current = Cut(cut.network, trained.weights)
        history += [{**epoch, "epoch": len(history) + place} for place, epoch in enumerate(trained.history)]
        figures.append(_round_row(number, cut, current, work))
    return current, history, figures


def _plan(trainings: list[TrainingSpec], rows: int) -> list[Stage]:
    rounds = enumerate(trainings, 1)
    return [stage for n, own in rounds for stage in (Stage(f"cut{n}"), plan_stage(f"round{n}", own, rows))]


def _cutting(work: _Work, current: Cut, done: float) -> Callable[..., Cut]:
    """Return the work of removing what should be gone when this share of the rounds is done."""

    def cut(*_: object) -> Cut:
        if work.method.structure == "unstructured":
            share = share_of_round(work.method.ratio, done)
            return Cut(current.network, zero_smallest(current.weights, share))
        return _without_channels(work, current, done)

    return cut


def _without_channels(work: _Work, current: Cut, done: float) -> Cut:
    channels = find_channels(current.network)
    gone = work.budget.channels - channels.count
    remove = round(work.budget.channels * work.method.ratio * done) - gone
    scores = _scores(work, current)
    kept = choose_channels(channels, scores, remove, work.budget.least)
    if done == 1:
        kept = fill_blocks(current.network, channels, scores, kept, work.budget)
    return Cut(*remove_channels(current.network, current.weights, channels, kept))


def _scores(work: _Work, current: Cut) -> Numbers:
    channels, criterion = find_channels(current.network), work.method.criterion
    if criterion != "taylor":
        return score_channels(channels, current.weights, criterion)
    gradients = batch_gradients(
        current.network,
        current.weights,
        work.rows,
        work.objective,
        seed=work.spec.seed,
        batch_size=work.spec.training.batch_size,
        batches=TAYLOR_BATCHES,
    )
    return score_by_gradients(channels, current.weights, gradients)


def _round_row(number: int, cut: Cut, tuned: Cut, work: _Work) -> dict[str, Any]:
    """Say what a round left, and what that scored on the selection rows before and after its fine-tuning."""
    traced = trace(tuned.network)
    return {
        "round": number,
        "parameters": traced.parameters,
        "macs": traced.macs,
        "zeros": share_of_zeros(tuned.weights),
        "before_fine_tuning": selection_figures(cut.network, cut.weights, work.data),
        "after_fine_tuning": selection_figures(tuned.network, tuned.weights, work.data),
    }


def _notes(method: Prune, parent: Parent, pruned: Cut, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    old, new = trace(parent.network), trace(pruned.network)
    own = _channel_notes if method.structure == "structured" else _zero_notes
    return {
        "structure": method.structure,
        "ratio": method.ratio,
        "parent": size_notes(parent.version),
        "parameters_before": old.parameters,
        "parameters_after": new.parameters,
        "macs_before": old.macs,
        "macs_after": new.macs,
        "learned_from": method.learn_from,
        "rounds": rounds,
        **own(method, parent, pruned),
    }


def _channel_notes(method: Prune, parent: Parent, pruned: Cut) -> dict[str, Any]:
    before, after = find_channels(parent.network), find_channels(pruned.network)
    left = {owner: len(own) for owner, own in after.reached.items()}
    return {
        "criterion": method.criterion,
        "channels_before": before.count,
        "channels_after": after.count,
        "ratio_reached": 1 - after.count / before.count,
        "layers": {owner: [len(own), left[owner]] for owner, own in before.reached.items()},
        "saves": "parameters, multiply-accumulates and bytes; what that does to the time, `speed` has measured",
    }


def _zero_notes(_: Prune, parent: Parent, pruned: Cut) -> dict[str, Any]:
    return {
        "criterion": "magnitude",
        "zeros": share_of_zeros(pruned.weights),
        "gzip_bytes_before": _gzip_bytes(parent.network, parent.weights),
        "gzip_bytes_after": _gzip_bytes(pruned.network, pruned.weights),
        "saves": "compressed bytes only: shapes are as before and zeros are still multiplied, so it is not faster",
    }


def _gzip_bytes(network: Network, weights: dict[str, NDArray[Any]]) -> int:
    """Count the bytes of the plain graph after gzip."""
    return len(gzip.compress(to_onnx(network, weights).SerializeToString(), 6, mtime=0))


def _save_cut(cut: Cut, directory: Path) -> None:
    save_file({name: np.ascontiguousarray(value) for name, value in cut.weights.items()}, directory / "weights")
    (directory / "network.json").write_bytes(canonical_json(cut.network.model_dump(mode="json")))


def _load_cut(directory: Path) -> Cut:
    network = Network.model_validate_json((directory / "network.json").read_bytes())
    return Cut(network, load_file(directory / "weights"))


_cut_codec: Codec[Cut] = Codec(_save_cut, _load_cut)
