"""The versions of a search: every point of the front, measured on the report rows and compared with the base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from app.domain.datasets import canonical_json
from app.domain.jobs import RECIPE_PROTOCOL
from app.domain.models import GRAPH, TRAIN_SPEC, recipe_digest
from app.domain.network import Network
from app.domain.presets import build_network
from app.domain.search import apply_point
from app.domain.specs import SearchSpec, TrainSpec
from app.serving.packed import write_graph
from app.serving.runtime import load_engine, predict_rows
from worker.assignment import Assignment
from worker.learning import Single, Trained, single_product
from worker.nn.export import to_onnx
from worker.package import Baseline, Product, compare_answers, simplest
from worker.rows import Data
from worker.search.trials import Trial, load_trained, row_of


@dataclass(frozen=True)
class Front:
    """Hold the end of a search: all trials, those of the front with the most accurate last, and where weights lie."""

    spec: SearchSpec
    trials: tuple[Trial, ...]
    members: tuple[Trial, ...]
    kept: Mapping[int, Path]

    def network(self, trial: Trial, data: Data) -> Network:
        """Return a trial's network."""
        return build_network(apply_point(self.spec, trial.point).architecture, data.dataset_schema)


@dataclass(frozen=True)
class Rivals:
    """Hold what the front is compared with, and the p-value of each of its members, by trial."""

    base: Baseline | None
    p_values: Mapping[int, float]


def find_rivals(front: Front, assignment: Assignment, data: Data) -> Rivals:
    """Compare the front with the spec's own point, if that could be trained, on the report rows."""
    base = front.trials[0]
    if base.state != "finished":
        return Rivals(None, {})
    directory = assignment.scratch / "base"
    directory.mkdir(exist_ok=True)
    write_graph(directory, to_onnx(front.network(base, data), load_trained(front.kept[0]).weights), packed=False)
    baseline = Baseline("the spec's own point (trial 0)", _answers(directory / GRAPH, data), directory / GRAPH)
    others = [trial for trial in front.members if trial.number != 0]
    p_values = {trial.number: _p_value(front, trial, baseline, assignment, data) for trial in others}
    return Rivals(baseline, p_values)


def product_of(front: Front, rivals: Rivals, trial: Trial, assignment: Assignment, data: Data) -> Product:
    """Return a point of the front as a version of its own."""
    chosen = apply_point(front.spec, trial.point)
    single = Single(
        network=front.network(trial, data),
        trained=load_trained(front.kept[trial.number]),
        name=front.spec.name,
        method="search",
        baselines=[rivals.base] if rivals.base is not None and trial.number != 0 else [simplest(data)],
        notes=_notes(front, trial, chosen),
        directory=f"trial-{trial.number}",
        recipe_digest=_recipe(front, trial, chosen, assignment),
        beside=[found for number, found in rivals.p_values.items() if number != trial.number],
    )
    _write_train_spec(assignment.output / single.directory, chosen)
    return single_product(single, assignment, data)


def _notes(front: Front, trial: Trial, chosen: TrainSpec) -> dict[str, Any]:
    place = front.members.index(trial)
    last = place == len(front.members) - 1
    notes = {
        "trial": trial.number,
        "parameters": trial.point,
        "architecture": chosen.architecture.model_dump(mode="json"),
        "training": chosen.training.model_dump(mode="json"),
        "selection": trial.figures,
        "judged_on": "selection rows; only the front and the base are measured on report rows",
        "front": {
            "place": place + 1,
            "points": len(front.members),
            "objectives": list(front.spec.objectives),
            "trials": [member.number for member in front.members],
        },
        "sampler": "tpe",
    }
    return {**notes, "trials": table_of(front.trials, front.members)} if last else notes


def table_of(trials: Sequence[Trial], front: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return all trials as rows."""
    return [row_of(trial, front) for trial in trials]


def _recipe(front: Front, trial: Trial, chosen: TrainSpec, assignment: Assignment) -> str:
    """Name a by-product by the train job that makes it, so that such a job takes it; the last one is the search's."""
    if trial is front.members[-1]:
        return assignment.recipe_digest
    return recipe_digest(chosen.model_dump(mode="json"), assignment.dataset.digest, protocol=RECIPE_PROTOCOL)


def _write_train_spec(directory: Path, chosen: TrainSpec) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / TRAIN_SPEC).write_bytes(canonical_json(chosen.model_dump(mode="json")))


def _p_value(front: Front, trial: Trial, base: Baseline, assignment: Assignment, data: Data) -> float:
    trained: Trained = load_trained(front.kept[trial.number])
    graph = to_onnx(front.network(trial, data), trained.weights).SerializeToString()
    answers = predict_rows(load_engine(graph), data.x["report"], data.output)
    return compare_answers(answers, base.answers, data, against=base.name, seed=assignment.seed).p_value


def _answers(path: Path, data: Data) -> NDArray[Any]:
    return predict_rows(load_engine(path), data.x["report"], data.output)
