"""The student that an ensemble's job distills from what it fused."""

from app.domain.applicable import Planned
from app.domain.datasets import DatasetSchema
from app.domain.ensemble_specs import Parallel
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import SizeLimits, trace
from app.domain.optimize_specs import Distill
from app.domain.pointing import pointing_at
from app.domain.presets import build_network
from app.domain.specs import BaseSpec, EnsembleSpec, OptimizeSpec


def student_name(spec: EnsembleSpec) -> str:
    """Return the name of the model that the student becomes a version of."""
    return spec.then.name if spec.then and spec.then.name else f"{spec.name}-student"


def student_spec(spec: EnsembleSpec) -> OptimizeSpec:
    """Return the distillation as a job of its own, taught by the ensemble."""
    if spec.then is None:
        raise ValueError("the ensemble is not to be distilled")
    options = {name: value for name, value in spec.then if name not in ("training", "name")}
    shared = {name: getattr(spec, name) for name in BaseSpec.model_fields}
    return OptimizeSpec(
        **{**shared, "name": student_name(spec), "training": spec.then.training or spec.training, "seeds": 1},
        kind="optimize",
        method=Distill(**options, teacher=spec.name, max_drop=None),
    )


def without_student(spec: EnsembleSpec) -> EnsembleSpec:
    """Return the spec of the ensemble alone."""
    return spec.model_copy(update={"then": None})


def check_then(spec: EnsembleSpec, schema: DatasetSchema, *, limits: SizeLimits) -> list[Planned]:
    """Return what is trained after the fusion; raise, with its field, what cannot be done."""
    if (then := spec.then) is None:
        return []
    with pointing_at("/then/hints"):
        if then.hints is not None:
            raise MethodNotApplicableError(
                "Hints follow a layer of the teacher, and an ensemble has no layers of its own.", hint="Leave them out."
            )
    method = spec.method.method
    with pointing_at("/then/transfer/labels"):
        if then.transfer.labels == "out_of_fold" and not isinstance(spec.method, Parallel):
            raise MethodNotApplicableError(
                f"Only a parallel ensemble's members can be trained again without a fold, not those of {method}.",
                hint='Leave `transfer.labels` at "teacher".',
            )
    with pointing_at("/then/student"):
        student = build_network(then.student, schema)
        trace(student, limits=limits)
    pointer = "/then/training" if then.training else "/training"
    return [Planned(student, then.training or spec.training, pointer, times=2 if then.control else 1)]
