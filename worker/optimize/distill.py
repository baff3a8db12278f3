"""Knowledge distillation: a small student learns from the outputs of a large teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.domain.optimize_specs import Distill
from app.domain.presets import build_network
from app.domain.specs import OptimizeSpec
from app.serving.runtime import predict_rows
from worker.assignment import Assignment
from worker.context import Context, Reporter
from worker.learning import (
    Lesson,
    Single,
    Trained,
    engine_of,
    hard_rows,
    learn,
    plan_stage,
    single_product,
    start_of,
    trained_codec,
)
from worker.nn.objectives import Objective, plain_objective
from worker.nn.training import Rows
from worker.optimize.parents import baseline_of, link_to, referred, size_notes
from worker.optimize.teaching import teach
from worker.package import Baseline, Product
from worker.rows import Array, Data
from worker.stages import Stages


def distill(spec: OptimizeSpec, method: Distill, assignment: Assignment, context: Context, data: Data) -> Product:
    """Train the student on the teacher's outputs and, as a control, the same student on the labels alone.

    Both start from the same weights and see the same batches in the same order, so that what differs is the teacher.
    """
    teacher = referred(assignment, "teacher", data)
    network = build_network(method.student, data.dataset_schema)
    school = _School(spec, data)
    rows = len(data.y["train"])
    names = ["student", *(["control"] if method.control else [])]
    stages = Stages(context, [plan_stage(name, spec.training, rows) for name in names])
    teaching = teach(teacher, data, temperature=method.temperature, alpha=method.soft_weight)
    for warning in teaching.warnings:
        context.reporter.log(warning)
    student = stages.run(
        "student", lambda *state: school.train(method, teaching.rows, teaching.objective, *state), trained_codec
    )
    baselines = [baseline_of(teacher, data, role="teacher")]
    if method.control:
        hard = plain_objective(data.dataset_schema.task, label_smoothing=spec.training.label_smoothing)
        control = stages.run(
            "control", lambda *state: school.train(method, hard_rows(data), hard, *state), trained_codec
        )
        answers = predict_rows(engine_of(network, control.weights), data.x["report"], data.output)
        baselines.append(Baseline("the same student trained on labels alone", answers))
    own = predict_rows(engine_of(network, student.weights), data.x["report"], data.output)
    notes = {
        "teacher": size_notes(teacher),
        "taught_by": "fused probabilities" if teacher.manifest.kind == "ensemble" else "probabilities",
        "temperature": method.temperature,
        "alpha": method.soft_weight,
        "teacher_entropy": teaching.entropy,
        "warnings": teaching.warnings,
        "gap_kept": gap_kept(own, [baseline.answers for baseline in baselines], data),
    }
    single = Single(network, student, spec.name, "distill", baselines, notes, links=(link_to(teacher, "teacher"),))
    return single_product(single, assignment, data)


def gap_kept(student: Array, others: list[Array], data: Data) -> float | None:
    """Return the share of the teacher's lead over the control that the student has, in accuracy on the report rows.

    None without a control or where the teacher has no lead. For a regression the lead is one in mean squared error.
    """
    if len(others) < 2:
        return None
    own, teacher, control = (_score(answers, data) for answers in (student, *others))
    return (own - control) / (teacher - control) if teacher > control else None


def _score(answers: Array, data: Data) -> float:
    targets = np.asarray(data.y["report"])
    if data.classification:
        return float((answers.argmax(axis=1) == targets).mean())
    return -float(np.square(answers - targets.reshape(answers.shape)).mean())


@dataclass(frozen=True)
class _School:
    spec: OptimizeSpec
    data: Data

    def train(
        self, method: Distill, rows: Rows, objective: Objective, reporter: Reporter, resume: Path | None
    ) -> Trained:
        """Train the student from its own seed."""
        network = build_network(method.student, self.data.dataset_schema)
        start: dict[str, Any] = start_of(network, self.data)
        return learn(Lesson(network, rows, objective, self.spec.training, self.spec.seed, start), reporter, resume)
