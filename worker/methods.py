"""Do what a job spec asks: one function per method, each from an assignment to products."""

from app.domain.presets import build_network
from app.domain.specs import EnsembleSpec, OptimizeSpec, Parallel, SearchSpec, Serial, Stack, TrainSpec
from worker.assignment import Assignment
from worker.context import Context
from worker.ensemble.parallel import fuse_parallel
from worker.ensemble.serial import fuse_serially
from worker.ensemble.stack import fuse_stack
from worker.learning import Single, learn, plain_lesson, plan_stage, single_product, trained_codec
from worker.optimize.dispatch import optimize_with
from worker.package import Product, simplest
from worker.rows import Data, open_data
from worker.search.search import search
from worker.stages import Stages


def run(assignment: Assignment, context: Context) -> list[Product]:
    """Do the job; the job's own version comes last, after versions of members that were trained on the way.

    Raise Stopped when the reporter asked for it, JobError when the method cannot do what was asked.
    """
    data = open_data(assignment.dataset)
    match assignment.spec:
        case TrainSpec() as spec:
            return [train(spec, assignment, context, data)]
        case OptimizeSpec() as spec:
            return [optimize_with(spec, assignment, context, data)]
        case EnsembleSpec() as spec:
            return _fuse(spec, assignment, context, data)
        case SearchSpec() as spec:
            return search(spec, assignment, context, data)


def train(spec: TrainSpec, assignment: Assignment, context: Context, data: Data) -> Product:
    """Train one network from scratch."""
    network = build_network(spec.architecture, data.dataset_schema)
    lesson = plain_lesson(spec, network, data)
    stages = Stages(context, [plan_stage("training", spec.training, len(data.y["train"]))])
    trained = stages.run("training", lambda *state: learn(lesson, *state), trained_codec)
    notes = {"architecture": spec.architecture.model_dump(mode="json")}
    single = Single(network, trained, spec.name, "train", [simplest(data)], notes)
    return single_product(single, assignment, data)


def _fuse(spec: EnsembleSpec, assignment: Assignment, context: Context, data: Data) -> list[Product]:
    match spec.method:
        case Parallel() as method:
            return [fuse_parallel(spec, method, assignment, context, data)]
        case Serial() as method:
            return fuse_serially(spec, method, assignment, context, data)
        case Stack() as method:
            return [fuse_stack(spec, method, assignment, context, data)]
