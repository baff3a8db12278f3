"""Train networks on a data set's rows and turn them into products: what every method that trains shares."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from app.domain.datasets import canonical_json
from app.domain.job_errors import MethodNotApplicableError
from app.domain.models import Link
from app.domain.network import Network, SizeLimits, statistics_weights, trace
from app.domain.specs import TrainSpec
from app.domain.training_specs import RowDraw, TrainingSpec
from app.serving.packed import worth_packing, write_graph
from app.serving.runtime import Engine, load_engine
from worker.assignment import Assignment
from worker.context import Reporter
from worker.graph_cost import check_cost
from worker.nn.architectures import build_model, extract_weights
from worker.nn.export import check_parity, to_onnx
from worker.nn.objectives import Objective, plain_objective
from worker.nn.projection import constrain, has_zeros, is_kernel
from worker.nn.training import Rows, fit
from worker.nn.units import units_of
from worker.package import PARITY_ROWS, Baseline, Draft, Product, finish, write_weights
from worker.rows import Array, Data, one_hot
from worker.stages import Codec, Stage

__all__ = [
    "Lesson",
    "Single",
    "Trained",
    "drawn_rows",
    "engine_of",
    "hard_rows",
    "hard_targets",
    "has_zeros",
    "learn",
    "plan_stage",
    "single_product",
    "start_of",
    "trained_codec",
    "weighed_rows",
]

EXPORT_TOLERANCE = 1e-4
# Keeps the draw of a bootstrap apart from a training's other draws by the same seed.
BOOTSTRAP_STREAM = 1_000_033


@dataclass(frozen=True)
class Trained:
    """Hold a trained network's weights by "weights/variable" and one entry of figures per epoch."""

    weights: dict[str, NDArray[Any]]
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Lesson:
    """Say what a network is to learn: from which targets, how, and from which start.

    With `keep_zeros` what is exactly 0 in a kernel of `start` stays 0 (`has_zeros` says whether there is anything to
    keep). `groups[variable]`, of the variable's shape, numbers its entries: those of one number are kept equal, at
    their mean; those of number -1 are free. `around` turns the model into one that is trained in its place: with the
    same variables, and perhaps more.
    """

    network: Network
    rows: Rows
    objective: Objective
    training: TrainingSpec
    seed: int
    start: Mapping[str, NDArray[Any]]
    keep_zeros: bool = False
    groups: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)
    around: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Single:
    """Hold a trained network that becomes a version, and what the report should say of it."""

    network: Network
    trained: Trained
    name: str
    method: str
    baselines: Sequence[Baseline]
    notes: Mapping[str, Any]
    links: tuple[Link, ...] = ()
    directory: str = "model"
    recipe_digest: str | None = None
    max_drop: float | None = None
    beside: Sequence[float] = ()


def plain_lesson(spec: TrainSpec, network: Network, data: Data) -> Lesson:
    """Return what a train job learns: a network of its own, from scratch, from the rows' own labels."""
    return Lesson(
        network=network,
        rows=drawn_rows(hard_rows(data), spec.rows, seed=spec.seed),
        objective=plain_objective(data.dataset_schema.task, label_smoothing=spec.training.label_smoothing),
        training=spec.training,
        seed=spec.seed,
        start=start_of(network, data),
    )


def learn(lesson: Lesson, reporter: Reporter, resume: Path | None) -> Trained:
    """Train a network; the same lesson gives the same weights, whether it was interrupted or not.

    A regression learns standardized targets (see worker.nn.units): its start and the weights that are returned answer
    in the data set's own units, the losses of its history are in variances of the train targets.
    """
    _check_weights(lesson)
    if lesson.network.task != "regression":
        return _fitted(lesson, reporter, resume)
    units = units_of(lesson.network, lesson.rows)
    inward = replace(lesson, objective=units.objective(lesson.objective), start=units.inward(lesson.start))
    trained = _fitted(inward, reporter, resume)
    return replace(trained, weights=units.outward(trained.weights))


def _fitted(lesson: Lesson, reporter: Reporter, resume: Path | None) -> Trained:
    """Train a network on a lesson as it stands."""
    model = build_model(lesson.network, lesson.start, seed=lesson.seed)
    constrain(model, lesson.start, keep_zeros=lesson.keep_zeros, groups=lesson.groups)
    history = fit(
        lesson.around(model) if lesson.around else model,
        lesson.rows,
        objective=lesson.objective,
        training=lesson.training,
        seed=lesson.seed,
        reporter=reporter,
        resume=resume,
    )
    return Trained(extract_weights(model), [dict(epoch) for epoch in history])


def _check_weights(lesson: Lesson) -> None:
    """Raise when a lesson cannot honour row weights: mixed rows have none, and a fold may leave out all that count."""
    rows, weight = lesson.rows, lesson.rows.sample_weight
    if weight is None:
        return
    if lesson.training.augmentation.mixup:
        raise MethodNotApplicableError(
            "The training blends rows by `mixup`, and the rows of the data set have weights of their own.",
            hint="Start from a model that was trained without `mixup`.",
        )
    if not (weight if rows.chosen is None else weight[rows.chosen]).any():
        raise MethodNotApplicableError(
            f"All {rows.count} rows to learn from have the weight 0.",
            hint="Use more folds, or give more rows of the data set a weight above 0.",
        )


def plan_stage(name: str, training: TrainingSpec, rows: int) -> Stage:
    """Plan the training of one network on so many rows."""
    return Stage(name, training.epochs, training.epochs * ceil(rows / training.batch_size))


def hard_targets(data: Data, labels: Array) -> NDArray[np.float32]:
    """Return what the plain objectives learn from: one-hot labels (rows, classes), or target numbers (rows, 1)."""
    if data.classification:
        return one_hot(np.asarray(labels), data.dataset_schema.outputs)
    return np.asarray(labels, dtype=np.float32).reshape(-1, 1)


def drawn_rows(rows: Rows, draw: RowDraw, *, seed: int) -> Rows:
    """Return the rows to learn from: all of them, or as many drawn from them with replacement (Breiman 1996)."""
    if draw == "all":
        return rows
    places = np.arange(rows.count) if rows.chosen is None else rows.chosen
    drawn = np.random.default_rng((seed, BOOTSTRAP_STREAM)).choice(places, size=rows.count)
    return replace(rows, chosen=np.sort(drawn))


def hard_rows(data: Data) -> Rows:
    """Return the train and selection rows with their own labels as targets."""
    return weighed_rows(data, hard_targets(data, data.y["train"]), hard_targets(data, data.y["selection"]))


def weighed_rows(data: Data, train_targets: Array, selection_targets: Array) -> Rows:
    """Return the train and selection rows with these targets, and with the row weights of the data set."""
    return Rows(
        data.x["train"],
        train_targets,
        selection_x=data.x["selection"],
        selection_targets=selection_targets,
        sample_weight=data.weights.get("train"),
        selection_weight=data.weights.get("selection"),
    )


def start_of(
    network: Network, data: Data, weights: Mapping[str, NDArray[Any]] | None = None
) -> dict[str, NDArray[Any]]:
    """Return start values: the statistics of the train rows, and weights that are known already."""
    return {**statistics_weights(network, data.statistics), **(weights or {})}


def engine_of(network: Network, weights: Mapping[str, NDArray[Any]]) -> Engine:
    """Return an engine for trained weights, as they will be served."""
    return load_engine(to_onnx(network, weights).SerializeToString())


def single_product(single: Single, assignment: Assignment, data: Data) -> Product:
    """Export, check against the trained model on real rows, measure and report."""
    traced = trace(single.network, limits=SizeLimits(parameters=assignment.limits.parameters))
    directory = assignment.output / single.directory
    weights = single.trained.weights
    write_weights(directory, single.network, weights)
    graph = to_onnx(single.network, weights)
    rows = np.asarray(data.x["selection"][:PARITY_ROWS])
    model = build_model(single.network, weights, seed=assignment.seed)
    difference = check_parity(model, graph, rows, tolerance=EXPORT_TOLERANCE)
    kernels = [values for name, values in weights.items() if is_kernel(name)]
    check_cost(single.network, traced, graph)
    write_graph(directory, graph, packed=worth_packing(kernels))
    draft = Draft(
        directory=directory,
        kind="single",
        name=single.name,
        method=single.method,
        seed=assignment.seed,
        recipe_digest=single.recipe_digest or assignment.recipe_digest,
        parameters=traced.parameters,
        macs=traced.macs,
        weights_bytes=(directory / "weights.safetensors").stat().st_size,
        parity={"rows": len(rows), "max_difference": difference},
        baselines=single.baselines,
        links=single.links,
        notes=single.notes,
        history=single.trained.history,
        max_drop=single.max_drop,
        beside=single.beside,
    )
    return finish(draft, assignment, data)


def _save_trained(trained: Trained, directory: Path) -> None:
    save_file(trained.weights, directory / "weights.safetensors")
    (directory / "history.json").write_bytes(canonical_json(trained.history))


def _load_trained(directory: Path) -> Trained:
    return Trained(load_file(directory / "weights.safetensors"), json.loads((directory / "history.json").read_bytes()))


trained_codec: Codec[Trained] = Codec(_save_trained, _load_trained)
