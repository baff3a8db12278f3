"""Stacking: a meta-learner trained on answers that no member gave for rows that it had learned from."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.datasets.write import describe
from app.domain.datasets import RowSet, Statistics
from app.domain.ensemble_checks import split_of
from app.domain.ensemble_specs import Stack
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import Network
from app.domain.presets import build_network
from app.domain.specs import EnsembleSpec, TrainSpec, job_spec_adapter
from app.domain.training_specs import RowDraw, TrainingSpec
from app.serving.meta_nodes import Passed
from app.serving.runtime import Engine, predict_rows
from worker.assignment import Assignment, VersionInput
from worker.context import Context, Reporter
from worker.ensemble.folds import compare_by_folds
from worker.ensemble.fusing import Fused, fused_product
from worker.ensemble.learner import Answered, passed_by, standardized
from worker.ensemble.members import answers_of, loss_of, registered_members
from worker.ensemble.meta import Fit, FittedMeta, fit_classifier, fit_in_any_order, fit_regression
from worker.ensemble.meta_mlp import mlp_fit
from worker.ensemble.splits import Cut, cut_rows, numbers_of, share_tested
from worker.learning import Lesson, drawn_rows, engine_of, hard_rows, learn, plan_stage, start_of
from worker.nn.objectives import Objective, plain_objective
from worker.nn.training import Rows
from worker.package import Product
from worker.rows import Data
from worker.stages import Codec, Stages

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """Say how a member is trained again on a part of the rows."""

    network: Network
    training: TrainingSpec
    seed: int
    rows: RowDraw = "all"


def fuse_stack(spec: EnsembleSpec, method: Stack, assignment: Assignment, context: Context, data: Data) -> Product:
    """Train every member once per fold without the fold, fit the meta-learner on its answers for the fold, and fuse.

    The members that are fused are the registered ones, which saw all train rows.
    """
    versions = assignment.references.get("members", ())
    members = registered_members(versions, data)
    recipes = [recipe_of(version, data) for version in versions]
    cuts = cut_rows(method, data, seed=spec.seed)
    held_out = out_of_fold(recipes, cuts, context, data)
    selection = answers_of([member.graph for member in members], data.x["selection"], data.output)
    meta = fit_learner(method, held_out, selection, cuts, data, seed=spec.seed)
    context.reporter.log(f"{spec.name}: meta-learner with penalty {meta.strength:g}")
    notes = {
        **_notes(method, meta, held_out, cuts, data),
        "by_fold": compare_by_folds(held_out, numbers_of(cuts), data, share=share_tested(cuts)),
    }
    return fused_product(Fused("stack", members, meta.learner, notes), assignment, data)


def fit_learner(
    method: Stack, held_out: Floats, selection: Floats, cuts: list[Cut], data: Data, *, seed: int
) -> FittedMeta:
    """Fit the meta-learner on the answers (members, rows, outputs) for train rows that some fold holds out."""
    passed = passed_by(data.x["train"], scale=_unit(data)) if method.passthrough else None
    answered = np.flatnonzero(numbers_of(cuts) >= 0)
    train = _answered("train", held_out[:, answered], answered, passed, data)
    chosen = _answered("selection", selection, np.arange(selection.shape[1]), passed, data)
    fitted = fit_in_any_order(_fit_of(method, data, seed), train, chosen)
    return fitted._replace(learner=replace(fitted.learner, passed=passed))


def _answered(name: RowSet, answers: Floats, rows: NDArray[np.intp], passed: Passed | None, data: Data) -> Answered:
    weights = data.weights.get(name)
    return Answered(
        answers,
        np.asarray(data.y[name])[rows],
        None if weights is None else weights[rows],
        standardized(passed, data.x[name][rows]) if passed else None,
    )


def _fit_of(method: Stack, data: Data, seed: int) -> Fit:
    if method.meta == "mlp":
        return mlp_fit(seed=seed, classification=data.classification)
    return fit_classifier if data.classification else fit_regression


def _unit(data: Data) -> float:
    return 1.0 if data.classification else float(np.std(data.y["train"], dtype=np.float64)) or 1.0


def recipe_of(version: VersionInput, data: Data) -> Recipe:
    """Return how a registered version is trained; raise MethodNotApplicableError when it cannot be trained again."""
    if version.training_recipe is None or "network.json" not in version.files:
        raise MethodNotApplicableError(
            f"{version.name}/{version.version} cannot be trained again on a part of the rows.",
            hint="Name a single model that Leanfuse trained; ensembles and imported models go without folds.",
        )
    spec = job_spec_adapter.validate_python(version.training_recipe)
    if isinstance(spec, TrainSpec):
        return Recipe(build_network(spec.architecture, data.dataset_schema), spec.training, spec.seed, spec.rows)
    network = Network.model_validate_json(version.files["network.json"].read_bytes())
    return Recipe(network, spec.training, spec.seed)


def out_of_fold(recipes: list[Recipe], cuts: list[Cut], context: Context, data: Data) -> NDArray[np.float64]:
    """Return answers (members, train rows, outputs), each by a model that did not learn from the row's fold.

    Where no fold holds a row out, they are 0.
    """
    plan = [
        plan_stage(_stage_name(place, number), recipe.training, int(np.count_nonzero(cut.learned)))
        for place, recipe in enumerate(recipes)
        for number, cut in enumerate(cuts)
    ]
    stages = Stages(context, plan)
    answers = np.zeros((len(recipes), len(data.y["train"]), data.dataset_schema.outputs))
    for place, recipe in enumerate(recipes):
        for number, cut in enumerate(cuts):
            fold = Fold(recipe, cut, data)
            answers[place, cut.held_out] = stages.run(_stage_name(place, number), fold.answer, answers_codec)
    return answers


def _stage_name(member: int, fold: int) -> str:
    return f"member{member}-fold{fold}"


@dataclass(frozen=True)
class Fold:
    """Hold a recipe and what its model may see: nothing of the rows that are held out, not even their mean."""

    recipe: Recipe
    cut: Cut
    data: Data

    def answer(self, reporter: Reporter, resume: Path | None) -> NDArray[np.float64]:
        """Train without the fold and answer for it."""
        rows = self.data.x["train"][self.cut.held_out]
        return predict_rows(self.train(reporter, resume), rows, self.data.output).astype(np.float64)

    def train(self, reporter: Reporter, resume: Path | None) -> Engine:
        """Train without the fold."""
        lesson = Lesson(
            network=self.recipe.network,
            rows=self._rows(),
            objective=_objective(self.recipe, self.data),
            training=self.recipe.training,
            seed=self.recipe.seed,
            start=start_of(self.recipe.network, replace(self.data, statistics=self.statistics)),
        )
        trained = learn(lesson, reporter, resume)
        return engine_of(self.recipe.network, trained.weights)

    @property
    def statistics(self) -> Statistics | None:
        """Return mean and deviation of the rows that are learned from, where those of the data set are known."""
        if self.data.statistics is None:
            return None
        return describe(self.data.x["train"], np.flatnonzero(self.cut.learned))

    def _rows(self) -> Rows:
        rows = replace(hard_rows(self.data), chosen=np.flatnonzero(self.cut.learned))
        return drawn_rows(rows, self.recipe.rows, seed=self.recipe.seed)


def _objective(recipe: Recipe, data: Data) -> Objective:
    return plain_objective(data.dataset_schema.task, label_smoothing=recipe.training.label_smoothing)


def _save_answers(answers: NDArray[np.float64], directory: Path) -> None:
    np.save(directory / "answers.npy", answers, allow_pickle=False)


def _load_answers(directory: Path) -> NDArray[np.float64]:
    answers: NDArray[np.float64] = np.load(directory / "answers.npy", allow_pickle=False)
    return answers


answers_codec: Codec[NDArray[np.float64]] = Codec(_save_answers, _load_answers)


def _notes(method: Stack, meta: FittedMeta, held_out: Floats, cuts: list[Cut], data: Data) -> dict[str, object]:
    answered, labels = numbers_of(cuts) >= 0, np.asarray(data.y["train"])
    weights = data.weights["train"][answered] if data.weights else None
    hidden = meta.learner.hidden
    return {
        "folds": method.folds,
        "split": split_of(method, data.dataset_schema),
        "rows_answered_out_of_fold": int(answered.sum()),
        "meta": "ridge" if method.meta == "logistic" and not data.classification else method.meta,
        "width": None if hidden is None else len(hidden.bias),
        "passthrough": method.passthrough,
        "penalty": meta.strength,
        "selection_loss": meta.selection_loss,
        "fitted_on": "out-of-fold answers for the train rows; the penalty on the selection rows",
        "out_of_fold_loss": [
            loss_of(answers[answered], labels[answered], data, row_weights=weights) for answers in held_out
        ],
    }
