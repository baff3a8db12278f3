"""Convolving as a method: rewrite the parent, start from its weights, and let it teach what these cannot express."""

from typing import Any

from app.domain.network import trace
from app.domain.optimize_specs import Convolve
from app.domain.specs import OptimizeSpec
from app.domain.surgery.convolution import Convolved, convolve, dearer
from app.domain.surgery.rewriting import carry_over, check
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import (
    Lesson,
    Single,
    has_zeros,
    learn,
    plan_stage,
    single_product,
    start_of,
    trained_codec,
)
from worker.optimize.parents import Parent, baseline_of, link_to, read_parent, size_notes
from worker.optimize.selection import selection_figures
from worker.optimize.teaching import lesson_rows
from worker.package import Product
from worker.rows import Data
from worker.stages import Stages


def convolve_parent(
    spec: OptimizeSpec, method: Convolve, assignment: Assignment, context: Context, data: Data
) -> Product:
    """Replace structure of the parent by cheaper convolution and fine-tune, or distil where weights are missing."""
    parent = read_parent(assignment, data)
    convolved = convolve(parent.network, parent.weights, to=method.to, width=method.width)
    traced = check(convolved.network, method="Convolving", parameters=assignment.limits.parameters)
    kept, new = carry_over(convolved.start, traced)
    start = start_of(convolved.network, data, kept)
    rows, objective = lesson_rows("parent" if new else "labels", spec, parent, data)
    keep_zeros = has_zeros(start)
    lesson = Lesson(convolved.network, rows, objective, spec.training, spec.seed, start, keep_zeros=keep_zeros)
    stages = Stages(context, [plan_stage("training", spec.training, len(data.y["train"]))])
    trained = stages.run("training", lambda *state: learn(lesson, *state), trained_codec)
    notes = _notes(method, parent, convolved, new)
    for warning in notes["warnings"]:
        context.reporter.log(warning)
    if not new:
        notes["before_fine_tuning"] = selection_figures(convolved.network, start, data)
    single = Single(
        convolved.network,
        trained,
        spec.name,
        "convolve",
        [baseline_of(parent.version, data, role="parent")],
        notes,
        links=(link_to(parent.version, "parent"),),
        max_drop=method.max_drop,
    )
    return single_product(single, assignment, data)


def _notes(method: Convolve, parent: Parent, convolved: Convolved, new: list[str]) -> dict[str, Any]:
    old, now = trace(parent.network), trace(convolved.network)
    return {
        "to": method.to,
        "replaced": convolved.replaced,
        "kept_as_they_were": convolved.kept,
        "parent": size_notes(parent.version),
        "parameters_before": old.parameters,
        "parameters_after": now.parameters,
        "macs_before": old.macs,
        "macs_after": now.macs,
        "warnings": dearer(old, now),
        "started_at_random": new,
        "learned_from": "the labels and the parent's probabilities" if new else "the labels",
    }
