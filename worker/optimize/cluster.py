"""Clustering as a method: few values per kernel, fine-tuned together, stored as codebook and coded indices."""

from typing import Any

from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import trace
from app.domain.optimize_specs import Cluster
from app.domain.specs import OptimizeSpec
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import Lesson, Single, Trained, learn, plan_stage, single_product, trained_codec
from worker.nn.projection import is_kernel
from worker.optimize.clustering import Clustered, cluster_kernels, code_sizes
from worker.optimize.parents import Parent, baseline_of, link_to, read_parent, size_notes
from worker.optimize.selection import selection_figures
from worker.optimize.teaching import lesson_rows
from worker.package import Product
from worker.rows import Data
from worker.stages import Stages


def cluster_parent(
    spec: OptimizeSpec, method: Cluster, assignment: Assignment, context: Context, data: Data
) -> Product:
    """Cluster the weights of every kernel and fine-tune the values that they share; zeros stay zeros."""
    parent = read_parent(assignment, data)
    kernels = [name for name in trace(parent.network).variables if is_kernel(name)]
    if not kernels:
        raise MethodNotApplicableError("The network has no kernel whose weights could be clustered.")
    clustered = cluster_kernels(parent.weights, kernels, clusters=method.clusters, seed=spec.seed)
    rows, objective = lesson_rows(method.learn_from, spec, parent, data)
    lesson = Lesson(
        parent.network,
        rows,
        objective,
        spec.training,
        spec.seed,
        clustered.weights,
        keep_zeros=True,
        groups=clustered.groups,
    )
    stages = Stages(context, [plan_stage("training", spec.training, rows.count)])
    trained = stages.run("training", lambda *state: learn(lesson, *state), trained_codec)
    single = Single(
        parent.network,
        trained,
        spec.name,
        "cluster",
        [baseline_of(parent.version, data, role="parent")],
        _notes(method, parent, clustered, trained, data),
        links=(link_to(parent.version, "parent"),),
        max_drop=method.max_drop,
    )
    return single_product(single, assignment, data)


def _notes(method: Cluster, parent: Parent, clustered: Clustered, trained: Trained, data: Data) -> dict[str, Any]:
    return {
        "clusters": method.clusters,
        "kernels": {name: code_sizes(trained.weights[name]) for name in clustered.groups},
        "saves": "bytes, not time: the weights are decoded when the file is loaded",
        "parent": size_notes(parent.version),
        "before_fine_tuning": selection_figures(parent.network, clustered.weights, data),
        "after_fine_tuning": selection_figures(parent.network, trained.weights, data),
        "learned_from": method.learn_from,
    }
