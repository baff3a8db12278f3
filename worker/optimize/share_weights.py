"""Weight sharing as a method: merge groups of equal layers under one variable each, then train it in every place."""

from typing import Any

import numpy as np

from app.domain.network import Network, trace
from app.domain.optimize_specs import ShareWeights
from app.domain.presets import Architecture, build_network
from app.domain.specs import OptimizeSpec
from app.domain.surgery.rewriting import Weights, check
from app.domain.surgery.sharing import find_groups, merge, share
from app.serving.runtime import predict_rows
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import (
    Lesson,
    Single,
    engine_of,
    hard_rows,
    learn,
    plan_stage,
    single_product,
    start_of,
    trained_codec,
)
from worker.nn.objectives import plain_objective
from worker.optimize.parents import Parent, baseline_of, link_to, read_parent, size_notes
from worker.package import Product, simplest
from worker.rows import Data
from worker.stages import Stages


def share_weights(
    spec: OptimizeSpec, method: ShareWeights, assignment: Assignment, context: Context, data: Data
) -> Product:
    """Share within a trained parent, from the mean of what is merged, or within an architecture, from scratch."""
    parent = None if method.parent is None else read_parent(assignment, data)
    before = parent.network if parent else build_network(_architecture(method), data.dataset_schema)
    groups = find_groups(before, method.groups)
    network = share(before, groups)
    check(network, method="Weight sharing", parameters=assignment.limits.parameters)
    merged = merge(parent.weights, groups) if parent else {}
    start = start_of(network, data, merged)
    lesson = Lesson(
        network=network,
        rows=hard_rows(data),
        objective=plain_objective(data.dataset_schema.task, label_smoothing=spec.training.label_smoothing),
        training=spec.training,
        seed=spec.seed,
        start=start,
    )
    stages = Stages(context, [plan_stage("training", spec.training, len(data.y["train"]))])
    trained = stages.run("training", lambda *state: learn(lesson, *state), trained_codec)
    notes = {
        "groups": _named_groups(before, groups),
        **_sizes(before, network),
        **_parent_notes(parent, network, start, data),
    }
    baselines = [baseline_of(parent.version, data, role="parent")] if parent else [simplest(data)]
    links = (link_to(parent.version, "parent"),) if parent else ()
    single = Single(network, trained, spec.name, "share_weights", baselines, notes, links=links)
    return single_product(single, assignment, data)


def _architecture(method: ShareWeights) -> Architecture:
    if method.architecture is None:
        raise ValueError("neither a parent nor an architecture to share the weights of")
    return method.architecture


def _named_groups(network: Network, groups: dict[str, list[str]]) -> dict[str, list[str]]:
    return {
        name: [layer.name for layer in network.layers if layer.weights_name in members]
        for name, members in groups.items()
    }


def _sizes(before: Network, after: Network) -> dict[str, Any]:
    """Say what sharing saves: parameters, never work, so that nothing here can be read as a speed-up."""
    old, new = trace(before), trace(after)
    return {
        "parameters_before": old.parameters,
        "parameters_after": new.parameters,
        "macs_before": old.macs,
        "macs_after": new.macs,
        "saves": "bytes, not time: every place still computes its layer",
    }


def _parent_notes(parent: Parent | None, network: Network, start: Weights, data: Data) -> dict[str, Any]:
    if parent is None:
        return {"started_from": "scratch"}
    return {
        "started_from": "the mean of each group's weights in the parent",
        "parent": size_notes(parent.version),
        "before_fine_tuning": figures_before(network, start, data),
    }


def figures_before(network: Network, start: Weights, data: Data) -> dict[str, float]:
    """Return what a rewritten network scores on the selection rows before any training."""
    answers = predict_rows(engine_of(network, start), data.x["selection"], data.output)
    targets = np.asarray(data.y["selection"])
    if data.classification:
        return {"selection_accuracy": float((answers.argmax(axis=1) == targets).mean())}
    return {"selection_rmse": float(np.square(answers - targets.reshape(answers.shape)).mean() ** 0.5)}
