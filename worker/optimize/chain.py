"""Several methods in one job, each on what the one before it made; only the last product becomes a version."""

import shutil
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from app.domain.models import served_file
from app.domain.optimize_order import check_chain_order, name_of
from app.domain.optimize_specs import (
    Chain,
    Cluster,
    Convolve,
    Distill,
    Factorize,
    FineTune,
    OptimizeMethod,
    Prune,
    Quantize,
    ShareWeights,
    Step,
)
from app.domain.pointing import within_step
from app.domain.specs import OptimizeSpec
from worker.assignment import Assignment, VersionInput
from worker.context import Context
from worker.nested import report_of, run_nested, version_of
from worker.optimize.parents import baseline_of, link_to, referred, size_notes
from worker.package import Draft, Product, finish
from worker.rows import Data
from worker.stages import Stage, Stages

Optimize = Callable[[OptimizeSpec, Assignment, Context, Data], Product]
_METHODS: dict[str, type[Any]] = {
    "share_weights": ShareWeights,
    "convolve": Convolve,
    "prune": Prune,
    "factorize": Factorize,
    "cluster": Cluster,
    "fine_tune": FineTune,
    "quantize": Quantize,
}
_FIGURES = (
    *("accuracy", "accuracy_interval", "nll", "rmse", "served_bytes", "gzip_bytes", "weights_bytes"),
    *("parameters", "macs", "latency_ms_batch_1", "latency_ms_batch_32"),
)
REPORT = "report.json"


def run_chain(
    spec: OptimizeSpec, method: Chain, assignment: Assignment, context: Context, data: Data, *, optimize: Optimize
) -> Product:
    """Do the steps in order; compare what comes out, and gate it, against the parent of the whole chain.

    `optimize` does one step, given as a job of its own. A finished step is kept when the job is interrupted.
    """
    check_chain_order(method.steps)
    parent = referred(assignment, "parent", data)
    stages = Stages(context, [_stage(place, step, spec, data) for place, step in enumerate(method.steps, 1)])
    made: list[Product] = []
    version = parent
    for place, step in enumerate(method.steps, 1):
        step_spec = spec_of_step(spec, method, step)

        def do_step(own: Assignment, inner: Context, step_spec: OptimizeSpec = step_spec) -> Product:
            return optimize(step_spec, own, inner, data)

        inputs = _assignment(assignment, step_spec, version)
        with within_step(place, name_of(step)):
            product = run_nested(stages, _stage_name(place, step), do_step, inputs, context)
        made.append(product)
        recipe = step_spec.model_dump(mode="json")
        version = version_of(product, recipe=recipe, name=f"step {place} ({name_of(step)})")
    return _finish(spec, method, parent, made, assignment, data)


def spec_of_step(spec: OptimizeSpec, chain: Chain, step: Step) -> OptimizeSpec:
    """Return a step as a job of its own: its method in full, without a gate of its own."""
    training = step.training or spec.training
    return spec.model_copy(update={"method": _method(chain, step), "training": training, "seeds": 1})


def _method(chain: Chain, step: Step) -> OptimizeMethod:
    options = {name: value for name, value in step if name != "training"}
    if step.method == "distill":
        return Distill(**options, teacher=chain.parent, max_drop=None)
    # What quantization may lose before layers fall back to float is what the whole chain may lose.
    max_drop = chain.max_drop if step.method == "quantize" else None
    full: OptimizeMethod = _METHODS[step.method](**options, parent=chain.parent, max_drop=max_drop)
    return full


def _assignment(assignment: Assignment, spec: OptimizeSpec, version: VersionInput) -> Assignment:
    references = {"teacher" if isinstance(spec.method, Distill) else "parent": (version,)}
    return assignment.model_copy(update={"spec": spec, "references": references})


def _stage_name(place: int, step: Step) -> str:
    return f"step{place}-{step.method}"


def _stage(place: int, step: Step, spec: OptimizeSpec, data: Data) -> Stage:
    """Plan a step; where it takes more or fewer steps than one training, its reporter scales them."""
    training = step.training or spec.training
    steps = training.epochs * ceil(len(data.y["train"]) / training.batch_size)
    return Stage(_stage_name(place, step), training.epochs, 1 if step.method == "quantize" else steps)


def _finish(
    spec: OptimizeSpec,
    method: Chain,
    parent: VersionInput,
    made: Sequence[Product],
    assignment: Assignment,
    data: Data,
) -> Product:
    """Measure the last product again as the chain's own, beside the parent of the chain."""
    last = made[-1]
    report, metrics = report_of(last), last.manifest.metrics
    directory = assignment.output / "model"
    shutil.copytree(last.directory, directory, ignore=shutil.ignore_patterns(REPORT))
    draft = Draft(
        directory=directory,
        kind=last.kind,
        name=spec.name,
        method="chain",
        seed=assignment.seed,
        recipe_digest=assignment.recipe_digest,
        parameters=metrics.parameters,
        macs=metrics.macs,
        weights_bytes=metrics.weights_bytes,
        parity=report["parity"],
        baselines=[baseline_of(parent, data, role="parent")],
        links=(link_to(parent, "parent"),),
        notes={
            "parent": size_notes(parent),
            "steps": [step_row(step, product) for step, product in zip(method.steps, made, strict=True)],
        },
        history=report["history"],
        max_drop=method.max_drop,
    )
    return finish(draft, assignment, data)


def step_row(step: Step, product: Product) -> dict[str, Any]:
    """Return what a step came to, all of it measured on the file that the digest names."""
    manifest = product.manifest
    figures = manifest.metrics.model_dump(mode="json", include=set(_FIGURES), exclude_none=True)
    file = served_file(manifest.files)
    details = {name: value for name, value in report_of(product)["method"].items() if name != "method"}
    return {
        "method": step.method,
        "file": file,
        "digest": manifest.files[file].sha256,
        **figures,
        "details": details,
    }
