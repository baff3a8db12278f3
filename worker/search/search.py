"""The search: ask, train, tell, trial by trial; then every point of the front becomes a version."""

from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from app.domain.datasets import canonical_json
from app.domain.errors import JobError
from app.domain.network import SizeLimits
from app.domain.search import base_point
from app.domain.specs import Choices, Range, SearchSpec
from worker.assignment import Assignment
from worker.context import Context, Reporter, Stopped
from worker.package import Product
from worker.rows import Data
from worker.search.asking import Study
from worker.search.products import Front, find_rivals, product_of
from worker.search.running import Asked, Trier
from worker.search.trials import Outcome, Trial, drop_trained, front_of, line_of, outcome_codec
from worker.stages import Stage, Stages


def search(spec: SearchSpec, assignment: Assignment, context: Context, data: Data) -> list[Product]:
    """Try the spec's own point and then what the sampler asks for; return the front's versions, the most accurate last.

    Points are judged on the selection rows; only the versions, and the base that they are compared with, are measured
    on the report rows. Raise JobError when not a single point could be trained.
    """
    stages = Stages(context, plan_trials(spec, len(data.y["train"])))
    limits = SizeLimits(parameters=assignment.limits.parameters)
    running = _Search(spec, stages, Trier(spec, data, limits, Study(spec)), context)
    for number in range(spec.trials):
        running.try_next(number)
    found = front_of(running.trials, spec.objectives)
    if not found:
        raise JobError(
            f"None of {spec.trials} trials could be trained; the first: {running.trials[0].reason}.",
            hint="Narrow the space, or lower the learning rate.",
        )
    kept = {trial.number: stages.directory_of(stage_name(trial.number)) for trial in (running.trials[0], *found)}
    front = Front(spec, tuple(running.trials), tuple(found), kept)
    return _products(front, assignment, context, data, stages.total_steps)


def plan_trials(spec: SearchSpec, rows: int) -> list[Stage]:
    """Plan a stage per trial, each as long as the spec's own training; a trial may take other epochs and batches."""
    epochs = max([spec.training.epochs, *_searched_epochs(spec.space.get("/training/epochs"))])
    steps = spec.training.epochs * ceil(rows / spec.training.batch_size)
    return [Stage(stage_name(number), epochs, steps) for number in range(spec.trials)]


def stage_name(number: int) -> str:
    """Return the name of a trial's stage."""
    return f"trial-{number}"


def _searched_epochs(searched: Range | Choices | None) -> list[int]:
    if searched is None:
        return []
    return [int(searched.high)] if isinstance(searched, Range) else [int(value) for value in searched.choices]


@dataclass
class _Search:
    """Hold a running search: the trials that ended so far are all that the next one depends on."""

    spec: SearchSpec
    stages: Stages
    trier: Trier
    context: Context
    trials: list[Trial] = field(default_factory=list)

    def try_next(self, number: int) -> None:
        """Run a trial, or read it back where an earlier attempt of the job finished it; then tell it to the study."""

        def work(reporter: Reporter, resume: Path | None) -> Outcome:
            outcome = self._tried(number, reporter, resume)
            self.context.reporter.log(line_of(outcome.trial, self.spec.trials))
            return outcome

        trial = self.stages.run(stage_name(number), work, outcome_codec).trial
        self.trier.study.tell(trial)
        self.trials.append(trial)
        self._drop_beaten()

    def _tried(self, number: int, reporter: Reporter, resume: Path | None) -> Outcome:
        study = self.trier.study
        point = study.ask(number) if number else base_point(self.spec)
        twin = next((trial for trial in self.trials if _same(trial, point)), None)
        if twin is not None:
            return Outcome(twin.repeated(number))
        latencies = {trial.network: trial.figures["latency_ms"] for trial in self.trials if trial.state == "finished"}
        return self.trier.attempt(Asked(number, point, latencies), reporter, resume)

    def _drop_beaten(self) -> None:
        """Keep no weights of trials that some other beats: checkpoints would carry them to the end."""
        front = front_of(self.trials, self.spec.objectives)
        for trial in self.trials[1:]:  # the base is what the front is compared with
            if trial not in front:
                drop_trained(self.stages.directory_of(stage_name(trial.number)))


def _same(trial: Trial, point: dict[str, Any]) -> bool:
    """Say whether a trial has been at a point, and would come to the same there again."""
    return trial.state != "repeated" and canonical_json(trial.point) == canonical_json(point)


def _products(front: Front, assignment: Assignment, context: Context, data: Data, steps: int) -> list[Product]:
    context.reporter.log(f"{len(front.members)} of {len(front.trials)} trials are on the front")
    rivals = find_rivals(front, assignment, data)
    products: list[Product] = []
    for trial in front.members:
        if reason := context.reporter.stop_requested():
            raise Stopped(reason, step=steps)
        products.append(product_of(front, rivals, trial, assignment, data))
        context.reporter.progress(steps, steps)
    return products
