"""Do what a job spec asks: one function per method, each from an assignment to products."""

from app.domain.ensemble_specs import Cascade, Parallel, Serial, Snapshot, Soup, Stack
from app.domain.network import Network
from app.domain.presets import build_network
from app.domain.specs import EnsembleSpec, ImportSpec, OptimizeSpec, SearchSpec, TrainSpec, TrainTogetherSpec
from app.serving.runtime import predict_rows
from worker.assignment import Assignment
from worker.context import Context
from worker.ensemble.aligning import align_members
from worker.ensemble.cascading import build_cascade
from worker.ensemble.parallel import fuse_parallel
from worker.ensemble.serial import fuse_serially
from worker.ensemble.snapshot import fuse_snapshots
from worker.ensemble.stack import fuse_stack
from worker.group import train_group
from worker.importing import import_graph
from worker.leaks import judge_permuted, refuse_shared_rows, rejection, with_permuted_labels
from worker.learning import Single, engine_of, learn, plain_lesson, plan_stage, single_product, trained_codec
from worker.optimize.dispatch import optimize_with
from worker.optimize.soup import stir_soup
from worker.package import Product, amend, simplest
from worker.repeats import run_repeats
from worker.rows import Data, open_data
from worker.search.search import search
from worker.stages import Stages
from worker.student import fuse_and_distill

LEAK_CHECK = "leak_check"


def run(assignment: Assignment, context: Context) -> list[Product]:
    """Do the job; the job's own version comes last, after versions of members that were trained on the way.

    Raise Stopped when the reporter asked for it, JobError when the method cannot do what was asked.
    """
    data = open_data(assignment.dataset)
    refuse_shared_rows(data)
    assignment = align_members(assignment, data)
    if assignment.spec.seeds > 1:
        return run_repeats(lambda own, inner: run_once(own, inner, data), assignment, context, data)
    return run_once(assignment, context, data)


def run_once(assignment: Assignment, context: Context, data: Data) -> list[Product]:
    """Do the job with its one seed."""
    match assignment.spec:
        case TrainSpec() as spec:
            return [train(spec, assignment, context, data)]
        case OptimizeSpec() as spec:
            return [optimize_with(spec, assignment, context, data)]
        case EnsembleSpec() as spec if spec.then is not None:
            return fuse_and_distill(spec, assignment, context, data, fuse=_fuse)
        case EnsembleSpec() as spec:
            return _fuse(spec, assignment, context, data)
        case TrainTogetherSpec() as spec:
            return train_group(spec, assignment, context, data)
        case SearchSpec() as spec:
            return search(spec, assignment, context, data)
        case ImportSpec() as spec:
            return [import_graph(spec, assignment, context, data)]


def train(spec: TrainSpec, assignment: Assignment, context: Context, data: Data) -> Product:
    """Train one network from scratch."""
    network = build_network(spec.architecture, data.dataset_schema)
    lesson = plain_lesson(spec, network, data)
    names = ["training", *([LEAK_CHECK] if spec.leak_check else [])]
    stages = Stages(context, [plan_stage(name, spec.training, len(data.y["train"])) for name in names])
    trained = stages.run("training", lambda *state: learn(lesson, *state), trained_codec)
    notes = {"architecture": spec.architecture.model_dump(mode="json")}
    single = Single(network, trained, spec.name, "train", [simplest(data)], notes)
    product = single_product(single, assignment, data)
    return check_leaks(product, spec, network, stages, data) if spec.leak_check else product


def check_leaks(product: Product, spec: TrainSpec, network: Network, stages: Stages, data: Data) -> Product:
    """Train the same network on permuted labels; reject the version if that is better than chance."""
    lesson = plain_lesson(spec, network, with_permuted_labels(data, seed=spec.seed))
    trained = stages.run(LEAK_CHECK, lambda *state: learn(lesson, *state), trained_codec)
    answers = predict_rows(engine_of(network, trained.weights), data.x["report"], data.output)
    found = judge_permuted(answers, data)
    return amend(product, {"leak_check": found}, rejected=rejection(found))


def _fuse(spec: EnsembleSpec, assignment: Assignment, context: Context, data: Data) -> list[Product]:
    match spec.method:
        case Parallel() as method:
            return [fuse_parallel(spec, method, assignment, context, data)]
        case Serial() as method:
            return fuse_serially(spec, method, assignment, context, data)
        case Cascade() as method:
            return [build_cascade(spec, method, assignment, context, data)]
        case Stack() as method:
            return [fuse_stack(spec, method, assignment, context, data)]
        case Soup() as method:
            return [stir_soup(spec, method, assignment, context, data)]
        case Snapshot() as method:
            return fuse_snapshots(spec, method, assignment, context, data)
