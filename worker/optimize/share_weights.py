"""Weight sharing as a method: merge groups of equal layers under one variable each, then train it in every place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.network import Network, trace
from app.domain.optimize_specs import ShareWeights
from app.domain.pointing import pointing_at
from app.domain.presets import Architecture, build_network
from app.domain.specs import OptimizeSpec
from app.domain.surgery.rewriting import Weights, check
from app.domain.surgery.sharing import Groups, find_groups, merge, share
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import (
    Lesson,
    Single,
    hard_rows,
    has_zeros,
    learn,
    plan_stage,
    single_product,
    start_of,
    trained_codec,
)
from worker.nn.formats import bytes_by_format
from worker.nn.objectives import Objective, plain_objective
from worker.nn.training import Rows
from worker.optimize.alike import best_member, choose_members, compare_layers, group_compared
from worker.optimize.parents import Parent, baseline_of, link_to, read_parent, size_notes
from worker.optimize.selection import selection_figures
from worker.optimize.teaching import lesson_rows
from worker.package import Product, simplest
from worker.rows import Data
from worker.stages import Stages


@dataclass(frozen=True)
class Plan:
    """Hold what is shared, between which networks, where training starts, and what the report says of the choice."""

    before: Network
    after: Network
    groups: Groups
    start: dict[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)


def share_weights(
    spec: OptimizeSpec, method: ShareWeights, assignment: Assignment, context: Context, data: Data
) -> Product:
    """Share within a trained parent, from what is merged, or within an architecture, from scratch."""
    parent = None if method.parent is None else read_parent(assignment, data)
    plan = _plan(method, parent, data)
    check(plan.after, method="Weight sharing", parameters=assignment.limits.parameters)
    rows, objective = _rows(spec, method, parent, data)
    keep_zeros = has_zeros(plan.start)
    lesson = Lesson(plan.after, rows, objective, spec.training, spec.seed, plan.start, keep_zeros=keep_zeros)
    stages = Stages(context, [plan_stage("training", spec.training, len(data.y["train"]))])
    trained = stages.run("training", lambda *state: learn(lesson, *state), trained_codec)
    notes = {
        "groups": _named_groups(plan.before, plan.groups),
        **plan.notes,
        **_sizes(plan.before, plan.after),
        "bytes": _bytes(plan, parent, trained.weights, assignment),
        **_parent_notes(parent, plan, trained.weights, data),
    }
    baselines = [baseline_of(parent.version, data, role="parent")] if parent else [simplest(data)]
    links = (link_to(parent.version, "parent"),) if parent else ()
    max_drop = method.max_drop if parent else None
    single = Single(plan.after, trained, spec.name, "share_weights", baselines, notes, links=links, max_drop=max_drop)
    return single_product(single, assignment, data)


def _plan(method: ShareWeights, parent: Parent | None, data: Data) -> Plan:
    if parent is None:
        before = build_network(_architecture(method), data.dataset_schema)
        groups = find_groups(before, method.groups)
        after = share(before, groups)
        return Plan(before, after, groups, start_of(after, data))
    groups, notes = _groups_of(method, parent, data)
    after = share(parent.network, groups)
    chosen: dict[str, str] = {}
    if method.merge == "least_loss":
        losses = choose_members(parent, groups, data)
        chosen = {group: best_member(found) for group, found in losses.items()}
        notes |= {"selection_loss_by_member": losses, "chosen": chosen}
    start = start_of(after, data, merge(parent.weights, groups, chosen))
    return Plan(parent.network, after, groups, start, notes | {"merge": method.merge})


def _groups_of(method: ShareWeights, parent: Parent, data: Data) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the groups that were asked for, or those of layers that are alike, with how alike all are."""
    if method.groups != "found":
        return find_groups(parent.network, method.groups), {}
    compared = compare_layers(parent, method.similarity, data)
    notes = {
        "similarity": method.similarity,
        "threshold": method.threshold,
        "compared": [found.entry() for found in compared],
    }
    with pointing_at("/method/threshold"):
        return group_compared(parent.network, compared, method.threshold), notes


def _architecture(method: ShareWeights) -> Architecture:
    if method.architecture is None:
        raise ValueError("neither a parent nor an architecture to share the weights of")
    return method.architecture


def _rows(spec: OptimizeSpec, method: ShareWeights, parent: Parent | None, data: Data) -> tuple[Rows, Objective]:
    if parent is not None:
        return lesson_rows(method.learn_from, spec, parent, data)
    smoothing = spec.training.label_smoothing
    return hard_rows(data), plain_objective(data.dataset_schema.task, label_smoothing=smoothing)


def _named_groups(network: Network, groups: Groups) -> dict[str, list[str]]:
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


def _bytes(plan: Plan, parent: Parent | None, weights: Weights, assignment: Assignment) -> dict[str, dict[str, int]]:
    """Say by format what the network takes, shared and not: each file is written, for some hide copies."""
    apart = parent.weights if parent else {}
    before = bytes_by_format(plan.before, apart, scratch=assignment.scratch, seed=assignment.seed)
    after = bytes_by_format(plan.after, weights, scratch=assignment.scratch, seed=assignment.seed)
    return {name: {"before": size, "after": after[name]} for name, size in before.items()}


def _parent_notes(parent: Parent | None, plan: Plan, trained: Weights, data: Data) -> dict[str, Any]:
    if parent is None:
        return {"started_from": "scratch"}
    merged = selection_figures(plan.after, plan.start, data)
    rows = {
        "parent": selection_figures(plan.before, parent.weights, data),
        "merged": merged,
        "fine_tuned": selection_figures(plan.after, trained, data),
    }
    return {
        "started_from": "a member of each group" if plan.notes["merge"] == "least_loss" else _MEAN,
        "parent": size_notes(parent.version),
        "before_fine_tuning": merged,
        "stages": [{"stage": stage, **figures} for stage, figures in rows.items()],
    }


_MEAN = "the mean of each group's weights in the parent"
