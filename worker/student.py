"""From an ensemble to one small student, in the same job."""

from collections.abc import Callable

from app.domain.jobs import RECIPE_PROTOCOL
from app.domain.member_jobs import listed_members
from app.domain.models import recipe_digest
from app.domain.specs import EnsembleSpec
from app.domain.then import student_spec, without_student
from worker.assignment import Assignment, VersionInput
from worker.context import Context
from worker.learning import plan_stage
from worker.nested import run_all_nested, run_nested, version_of
from worker.optimize.dispatch import optimize_with
from worker.package import Product
from worker.rows import Data
from worker.stages import Stages

Fuse = Callable[[EnsembleSpec, Assignment, Context, Data], list[Product]]


def fuse_and_distill(
    spec: EnsembleSpec, assignment: Assignment, context: Context, data: Data, *, fuse: Fuse
) -> list[Product]:
    """Fuse, then let the ensemble teach a student; both become versions, the student's is the job's own.

    Each of the two is kept when the job is interrupted.
    """
    alone, student = without_student(spec), student_spec(spec)
    rows = len(data.y["train"])
    stages = Stages(context, [plan_stage("fusion", spec.training, rows), plan_stage("student", student.training, rows)])
    inner = assignment.model_copy(update={"spec": alone, "recipe_digest": _recipe(alone, assignment)})
    made = run_all_nested(stages, "fusion", lambda own, nested: fuse(alone, own, nested, data), inner, context)
    references = {**assignment.references, "teacher": (_teacher(_without(alone, assignment), made),)}
    inner = assignment.model_copy(update={"spec": student, "references": references})
    product = run_nested(
        stages, "student", lambda own, nested: optimize_with(student, own, nested, data), inner, context
    )
    return [*made, product]


def _without(alone: EnsembleSpec, assignment: Assignment) -> EnsembleSpec:
    """Return the ensemble as it was fused: the members that are left."""
    gone = {item.position for item in assignment.left_out}
    if not gone:
        return alone
    members = [member for place, member in enumerate(listed_members(alone)) if place not in gone]
    return alone.model_copy(update={"method": alone.method.model_copy(update={"members": members})})


def _recipe(alone: EnsembleSpec, assignment: Assignment) -> str:
    """Return the recipe of the ensemble alone, so that a job that wants no student takes it."""
    return recipe_digest(alone.model_dump(mode="json"), assignment.dataset.digest, protocol=RECIPE_PROTOCOL)


def _teacher(alone: EnsembleSpec, made: list[Product]) -> VersionInput:
    """Return the fused product as what it will be: the version before the student's."""
    found = version_of(made[-1], recipe=alone.model_dump(mode="json"), name=alone.name)
    return found.model_copy(update={"version_id": f"#{len(made) - 1}"})
