"""Knowledge distillation: a small student learns from the outputs of a large teacher."""

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from app.domain.network import Network
from app.domain.optimize_specs import Distill
from app.domain.presets import build_network
from app.domain.specs import OptimizeSpec
from app.domain.training_specs import Augmentation, TrainingSpec
from app.domain.transfer import check_transfer
from app.serving.runtime import predict_rows
from worker.assignment import Assignment, VersionInput
from worker.context import Context
from worker.learning import (
    Lesson,
    Single,
    Trained,
    engine_of,
    hard_targets,
    learn,
    plan_stage,
    single_product,
    start_of,
    trained_codec,
)
from worker.nn.objectives import Objective, decoupled_objective, distillation_objective, plain_objective
from worker.nn.training import Rows
from worker.optimize.gap import gap_notes
from worker.optimize.hints import Guide, guide_of
from worker.optimize.lectures import LECTURE, Lecture, Lecturer, lecture_codec
from worker.optimize.parents import baseline_of, link_to, referred, size_notes
from worker.optimize.teaching import entropy_warnings
from worker.optimize.transfer import TransferSet, transfer_set
from worker.package import Baseline, Product
from worker.rows import Array, Data
from worker.stages import Stage, Stages


def distill(spec: OptimizeSpec, method: Distill, assignment: Assignment, context: Context, data: Data) -> Product:
    """Train the student on the teacher's outputs and, as a control, the same student on the labels alone.

    Both start from the same weights and take as many steps; with no unlabelled rows they see the same batches in the
    same order. So what differs is the teacher.
    """
    check_transfer(method, spec.training, data.dataset_schema)
    teacher = referred(assignment, "teacher", data)
    transfer = transfer_set(method.transfer, spec.training.augmentation, assignment, data)
    network = build_network(method.student, data.dataset_schema)
    guide = guide_of(method.hints, teacher, network) if method.hints else None
    school = _School(spec, method, network, transfer, guide, data)
    lecturer = Lecturer(method, teacher, transfer, guide, assignment, data)
    stages = Stages(context, [*lecturer.plan(), *school.plan()])
    answers = lecturer.answer_out_of_fold(stages)
    lecture = stages.run(LECTURE, lambda *_: lecturer.write(answers), lecture_codec)
    warnings = [*entropy_warnings(lecture.entropy), *_augmentation_warnings(method, spec.training)]
    for warning in warnings:
        context.reporter.log(warning)
    student = stages.run("student", lambda *state: learn(school.taught(lecture), *state), trained_codec)
    control = None
    if method.control:
        control = stages.run("control", lambda *state: learn(school.controlled(), *state), trained_codec)
    baselines = [baseline_of(teacher, data, role="teacher"), *school.control_baseline(control)]
    own = school.answers(student)
    notes = {
        **_notes(method, teacher, lecture, lecturer),
        "transfer": transfer.told,
        "control": school.control_notes() if method.control else None,
        "warnings": warnings,
        **gap_notes(own, [baseline.answers for baseline in baselines], data),
    }
    links = (link_to(teacher, "teacher"),)
    single = Single(
        school.network, student, spec.name, "distill", baselines, notes, links=links, max_drop=method.max_drop
    )
    return single_product(single, assignment, data)


def _augmentation_warnings(method: Distill, training: TrainingSpec) -> list[str]:
    if not training.augmentation.used or method.transfer.augmented_copies:
        return []
    return [
        "The training's augmentation is left out: a teacher is asked once, and must have seen the very rows that the "
        "student sees. Set `transfer.augmented_copies` to let it teach on changed copies."
    ]


def _notes(method: Distill, teacher: VersionInput, lecture: Lecture, lecturer: Lecturer) -> dict[str, Any]:
    dkd = {"beta": method.beta} if method.loss == "dkd" else {}
    return {
        "teacher": size_notes(teacher),
        "taught_by": lecturer.told,
        "loss": method.loss,
        "temperature": method.temperature,
        "alpha": method.soft_weight,
        **dkd,
        "teacher_entropy": lecture.entropy,
        "hints": method.hints.model_dump(mode="json") if method.hints else None,
    }


@dataclass(frozen=True)
class _School:
    """Hold what the student and its control share: network, start, seed, schedule, and the rows with a label."""

    spec: OptimizeSpec
    method: Distill
    network: Network
    transfer: TransferSet
    guide: Guide | None
    data: Data

    @property
    def training(self) -> TrainingSpec:
        """Return the training without its augmentation: copies that it changed stand in the transfer set."""
        return self.spec.training.model_copy(update={"augmentation": Augmentation()})

    def plan(self) -> list[Stage]:
        """Plan two trainings of equal length."""
        names = ["student", *(["control"] if self.method.control else [])]
        return [plan_stage(name, self.training, len(self.transfer.x)) for name in names]

    def taught(self, lecture: Lecture) -> Lesson:
        """Return what the student learns."""
        rows = Rows(
            self.transfer.x,
            lecture.train,
            selection_x=self.data.x["selection"],
            selection_targets=lecture.selection,
            sample_weight=self.transfer.weights,
            selection_weight=self.data.weights.get("selection"),
        )
        lesson = self._lesson(rows, self._objective())
        if (guide := self.guide) is None:
            return lesson
        outputs, targets = self.data.dataset_schema.outputs, lecture.selection.shape[1]
        return replace(
            lesson,
            objective=guide.objective(lesson.objective, outputs=outputs, targets=targets),
            around=guide.around(self.network, self.spec.seed),
        )

    def controlled(self) -> Lesson:
        """Return what the control learns: the labels alone, in as many steps."""
        data = self.data
        everything = self.transfer.labelled == len(self.transfer.x)
        rows = Rows(
            self.transfer.x,
            self.transfer.targets,
            selection_x=data.x["selection"],
            selection_targets=hard_targets(data, data.y["selection"]),
            sample_weight=self.transfer.weights,
            selection_weight=data.weights.get("selection"),
            chosen=None if everything else self.transfer.same_budget(self.spec.seed),
        )
        smoothing = self.training.label_smoothing
        return self._lesson(rows, plain_objective(data.dataset_schema.task, label_smoothing=smoothing))

    def answers(self, trained: Trained) -> Array:
        """Return a network's answers for the report rows."""
        return predict_rows(engine_of(self.network, trained.weights), self.data.x["report"], self.data.output)

    def control_baseline(self, control: Trained | None) -> list[Baseline]:
        """Return the control as what the student is compared with."""
        if control is None:
            return []
        return [Baseline("the same student trained on labels alone", self.answers(control))]

    def control_notes(self) -> dict[str, Any]:
        """Say on how many rows and with how many steps the control was trained."""
        stage = self.plan()[-1]
        return {
            "rows": self.transfer.labelled,
            "epochs": stage.epochs,
            "optimizer_steps": stage.steps,
            "budget": "the same start, seed, schedule and number of optimizer steps as the student",
        }

    def _objective(self) -> Objective:
        if not self.data.classification:
            return plain_objective("regression")
        temperature, alpha = self.method.temperature, self.method.soft_weight
        if self.method.loss == "dkd":
            return decoupled_objective(temperature=temperature, alpha=alpha, beta=self.method.beta)
        return distillation_objective(temperature=temperature, alpha=alpha)

    def _lesson(self, rows: Rows, objective: Objective) -> Lesson:
        start: dict[str, NDArray[Any]] = start_of(self.network, self.data)
        return Lesson(self.network, rows, objective, self.training, self.spec.seed, start)
