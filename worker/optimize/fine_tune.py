"""Fine-tuning as a method: the parent's own network, trained on from its weights."""

from app.domain.optimize_specs import FineTune
from app.domain.specs import OptimizeSpec
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import Lesson, Single, has_zeros, learn, plan_stage, single_product, trained_codec
from worker.optimize.parents import baseline_of, link_to, read_parent, size_notes
from worker.optimize.selection import selection_figures
from worker.optimize.teaching import lesson_rows
from worker.package import Product
from worker.rows import Data
from worker.stages import Stages


def fine_tune(spec: OptimizeSpec, method: FineTune, assignment: Assignment, context: Context, data: Data) -> Product:
    """Train the parent on; exact zeros of its kernels stay zeros, and its input statistics stay its own."""
    parent = read_parent(assignment, data)
    rows, objective = lesson_rows(method.learn_from, spec, parent, data)
    keep_zeros = has_zeros(parent.weights)
    lesson = Lesson(parent.network, rows, objective, spec.training, spec.seed, parent.weights, keep_zeros=keep_zeros)
    stages = Stages(context, [plan_stage("training", spec.training, rows.count)])
    trained = stages.run("training", lambda *state: learn(lesson, *state), trained_codec)
    notes = {
        "parent": size_notes(parent.version),
        "learned_from": method.learn_from,
        "before_fine_tuning": selection_figures(parent.network, parent.weights, data),
        "after_fine_tuning": selection_figures(parent.network, trained.weights, data),
    }
    single = Single(
        parent.network,
        trained,
        spec.name,
        "fine_tune",
        [baseline_of(parent.version, data, role="parent")],
        notes,
        links=(link_to(parent.version, "parent"),),
        max_drop=method.max_drop,
    )
    return single_product(single, assignment, data)
