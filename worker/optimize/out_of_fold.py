"""Teachers that have not seen the rows they teach on: the teacher's own recipe, trained again without each fold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.ensemble_specs import Member, NewMember, Parallel
from app.domain.job_errors import MethodNotApplicableError
from app.domain.optimize_specs import Transfer
from app.domain.presets import build_network
from app.domain.specs import EnsembleSpec, job_spec_adapter
from app.serving.runtime import batches_of
from worker.assignment import Assignment, VersionInput
from worker.context import Reporter
from worker.ensemble.splits import fold_numbers, grouped_numbers, units_of_rows, without
from worker.ensemble.stack import Fold, Recipe, answers_codec, recipe_of
from worker.learning import plan_stage
from worker.optimize.transfer import TransferSet
from worker.rows import Array, Data
from worker.stages import Stage, Stages

BATCH_ROWS = 256


@dataclass(frozen=True)
class FoldTeachers:
    """Hold what is trained again: the recipe of every member of the teacher, and the fold (train rows,) of each row.

    Rows that are equal, or of one group, share a fold.
    """

    recipes: list[Recipe]
    folds: NDArray[np.int64]
    data: Data

    def plan(self) -> list[Stage]:
        """Plan one training per member and fold."""
        return [
            plan_stage(_name(place, fold), recipe.training, int(np.count_nonzero(self.folds != fold)))
            for place, recipe in enumerate(self.recipes)
            for fold in self._numbers
        ]

    def answer(self, transfer: TransferSet, stages: Stages) -> NDArray[np.float64]:
        """Return answers (members, labelled rows, outputs), each by a model trained without the row and its copies."""
        answers = np.zeros((len(self.recipes), transfer.labelled, self.data.dataset_schema.outputs))
        of_row = self.folds[transfer.source]
        for place, recipe in enumerate(self.recipes):
            for number in self._numbers:
                places = np.flatnonzero(of_row == number)
                fold = _FoldAnswers(Fold(recipe, without(self.folds == number), self.data), transfer.x, places)
                answers[place, places] = stages.run(_name(place, number), fold.answer, answers_codec)
        return answers

    @property
    def _numbers(self) -> range:
        return range(int(self.folds.max()) + 1)


def fold_teachers(
    transfer: Transfer, teacher: VersionInput, assignment: Assignment, data: Data, *, seed: int
) -> FoldTeachers:
    """Return the teachers of every fold; raise MethodNotApplicableError when the teacher cannot be trained again."""
    numbering = fold_numbers if data.groups is None else grouped_numbers
    folds = numbering(
        units_of_rows(data),
        data.y["train"],
        folds=transfer.folds,
        seed=seed,
        stratified=data.classification,
    )
    return FoldTeachers(_recipes_of(teacher, assignment, data), folds, data)


def _recipes_of(teacher: VersionInput, assignment: Assignment, data: Data) -> list[Recipe]:
    if teacher.manifest.kind == "single":
        return [recipe_of(teacher, data)]
    spec = job_spec_adapter.validate_python(teacher.training_recipe, strict=False) if teacher.training_recipe else None
    if not isinstance(spec, EnsembleSpec) or not isinstance(spec.method, Parallel):
        raise MethodNotApplicableError(
            f"{teacher.name}/{teacher.version} was made by {teacher.manifest.method}; only single models and parallel "
            f"ensembles can be trained again without a fold, member by member.",
            hint='Leave `transfer.labels` at "teacher", or distill from a parallel ensemble.',
        )
    members = assignment.references.get("members", ())
    return [_member_recipe(spec, member, place, members, data) for place, member in enumerate(spec.method.members)]


def _member_recipe(
    spec: EnsembleSpec, member: Member, place: int, versions: tuple[VersionInput, ...], data: Data
) -> Recipe:
    if isinstance(member, NewMember):
        network = build_network(member.architecture, data.dataset_schema)
        return Recipe(network, member.training or spec.training, member.seed, member.rows)
    if place >= len(versions):
        raise MethodNotApplicableError(
            f"Member {place} of the teacher, {member.model}, was not handed over, so it cannot be trained again.",
            hint='Leave `transfer.labels` at "teacher".',
        )
    return recipe_of(versions[place], data)


@dataclass(frozen=True)
class _FoldAnswers:
    fold: Fold
    x: Array
    places: NDArray[np.intp]

    def answer(self, reporter: Reporter, resume: Path | None) -> NDArray[np.float64]:
        """Train without the fold and answer for the rows at `places`."""
        engine = self.fold.train(reporter, resume)
        output = self.fold.data.output
        parts = [
            engine.run(np.ascontiguousarray(self.x[places], engine.dtype), [output])[0]
            for places in batches_of(self.places, BATCH_ROWS)
        ]
        return np.concatenate(parts).astype(np.float64)


def _name(member: int, fold: int) -> str:
    return f"teacher{member}-fold{fold}"
