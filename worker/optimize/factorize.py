"""Low rank as a method: split layers by their singular values, then fine-tune both halves."""

from typing import Any

from app.domain.network import trace
from app.domain.optimize_specs import Factorize
from app.domain.pointing import pointing_at
from app.domain.specs import OptimizeSpec
from app.domain.surgery.factorization import Factorized, factorize
from app.domain.surgery.rewriting import check
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import Lesson, Single, has_zeros, learn, plan_stage, single_product, trained_codec
from worker.optimize.parents import Parent, baseline_of, link_to, read_parent, size_notes
from worker.optimize.selection import selection_figures
from worker.optimize.teaching import lesson_rows
from worker.package import Product
from worker.rows import Data
from worker.stages import Stages


def factorize_parent(
    spec: OptimizeSpec, method: Factorize, assignment: Assignment, context: Context, data: Data
) -> Product:
    """Split what becomes smaller by it into two layers of low rank, and fine-tune."""
    parent = read_parent(assignment, data)
    with pointing_at("/method/energy"):
        split = factorize(parent.network, parent.weights, energy=method.energy)
    check(split.network, method="Factorizing", parameters=assignment.limits.parameters)
    rows, objective = lesson_rows(method.learn_from, spec, parent, data)
    keep_zeros = has_zeros(split.start)
    lesson = Lesson(split.network, rows, objective, spec.training, spec.seed, split.start, keep_zeros=keep_zeros)
    stages = Stages(context, [plan_stage("training", spec.training, rows.count)])
    trained = stages.run("training", lambda *state: learn(lesson, *state), trained_codec)
    notes = {
        **_notes(method, parent, split),
        "before_fine_tuning": selection_figures(split.network, split.start, data),
        "after_fine_tuning": selection_figures(split.network, trained.weights, data),
    }
    single = Single(
        split.network,
        trained,
        spec.name,
        "factorize",
        [baseline_of(parent.version, data, role="parent")],
        notes,
        links=(link_to(parent.version, "parent"),),
        max_drop=method.max_drop,
    )
    return single_product(single, assignment, data)


def _notes(method: Factorize, parent: Parent, split: Factorized) -> dict[str, Any]:
    old, new = trace(parent.network), trace(split.network)
    return {
        "energy": method.energy,
        "ranks": split.ranks,
        "kept_as_they_were": split.kept,
        "parent": size_notes(parent.version),
        "parameters_before": old.parameters,
        "parameters_after": new.parameters,
        "macs_before": old.macs,
        "macs_after": new.macs,
        "learned_from": method.learn_from,
    }
