"""Serial fusion: every member learns what the members before it get wrong; their answers are summed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.datasets import digest_of
from app.domain.ensemble_specs import NewMember, Serial
from app.domain.job_errors import MethodNotApplicableError
from app.domain.models import served_file
from app.domain.network import Network
from app.domain.presets import build_network
from app.domain.specs import EnsembleSpec
from app.domain.training_specs import TrainingSpec
from app.serving.graph import LogitSum
from app.serving.runtime import predict_rows
from worker.assignment import Assignment
from worker.context import Context
from worker.ensemble.fusing import Fused, fused_product
from worker.ensemble.members import Member
from worker.ensemble.ways import FITTED_SETS, Answers, Sum, Way, figures_of, sum_loss, way_of
from worker.learning import (
    Lesson,
    Single,
    Trained,
    drawn_rows,
    engine_of,
    learn,
    plan_stage,
    single_product,
    start_of,
    trained_codec,
)
from worker.package import Product, simplest
from worker.rows import Data
from worker.stages import Stages

SMALLEST_FALL = 1e-6
CAUTIONS = {
    "residual": "This member corrects the ones before it; alone it is no good model.",
    "gradient": "This member answers a step towards the labels; alone it is no good model.",
    "samme": "This member learned from rows that weigh more where the ones before it are wrong.",
}

FITTED_ON = {
    "residual": "members on train rows, their weights on selection rows",
    "gradient": "members on train rows, their weights on selection rows, times the shrinkage",
    "samme": "members and their weights on train rows, the scale on selection rows",
}


@dataclass(frozen=True)
class Round:
    """Hold one member of the sum: its network and weights, and the sum with it."""

    network: Network
    trained: Trained
    member: NewMember
    after: Sum
    figures: dict[str, float]

    @property
    def weight(self) -> float:
        """Return what the member weighed when it was added."""
        return self.after.weights[-1]


def fuse_serially(
    spec: EnsembleSpec, method: Serial, assignment: Assignment, context: Context, data: Data
) -> list[Product]:
    """Train member after member, stop when the selection loss stops falling or no member can follow, and fuse.

    Returns the members' versions and, last, the fused one.
    """
    rounds = run_rounds(spec, method, context, data)
    products = [
        _member_product(spec.name, place, found, method, assignment, data) for place, found in enumerate(rounds)
    ]
    return [*products, _fused(method, rounds, products, assignment, data)]


def run_rounds(spec: EnsembleSpec, method: Serial, context: Context, data: Data) -> list[Round]:
    """Return the members that are kept; raise MethodNotApplicableError when the first is no better than guessing."""
    lectures = _plan(spec, method, data)
    rows = len(data.y["train"])
    stages = Stages(context, [plan_stage(lecture.name, lecture.training, rows) for lecture in lectures])
    rounds: list[Round] = []
    for lecture in lectures:
        found = lecture.hold(rounds, stages)
        if isinstance(found, str):
            context.reporter.log(f"{lecture.name}: {found}, so the sum ends before this member")
            if not rounds:
                hint = "Train it for longer, or use a larger network."
                raise MethodNotApplicableError(f"Nothing can be built on the first member: {found}.", hint=hint)
            break
        rounds.append(found)
        if found.after.complete:
            context.reporter.log(f"{lecture.name}: {found.after.complete}, so the sum ends with this member")
            break
    return rounds


def _plan(spec: EnsembleSpec, method: Serial, data: Data) -> list["_Lecture"]:
    way = way_of(method)
    return [
        _Lecture(f"round{number}", way, member, member.training or spec.training, data)
        for number, member in enumerate(method.planned)
    ]


@dataclass(frozen=True)
class _Lecture:
    """Hold the plan of one round: who is taught, and how."""

    name: str
    way: Way
    member: NewMember
    training: TrainingSpec
    data: Data

    def hold(self, rounds: Sequence[Round], stages: Stages) -> Round | str:
        """Teach the member what the rounds before leave; return why it must not be kept, if so."""
        before = rounds[-1].after if rounds else self.way.start(self.data)
        trained = stages.run(self.name, lambda *state: learn(self._lesson(before), *state), trained_codec)
        after = self.way.add(before, self._answers(trained), self.data)
        if isinstance(after, str):
            return after
        if rounds and not _falls(before, after, self.data):
            return "the selection loss no longer falls"
        figures = figures_of(before, after, self.data)
        return Round(self.network, trained, self.member, after, figures)

    @property
    def network(self) -> Network:
        """Return the member's network."""
        return build_network(self.member.architecture, self.data.dataset_schema)

    def _lesson(self, before: Sum) -> Lesson:
        """Return what the member learns; those before it stay as they are, for only their answers are in it."""
        rows, objective = self.way.taught(before, self.training, self.data)
        start = start_of(self.network, self.data)
        drawn = drawn_rows(rows, self.member.rows, seed=self.member.seed)
        return Lesson(self.network, drawn, objective, self.training, self.member.seed, start)

    def _answers(self, trained: Trained) -> Answers:
        """Return the answers of the network as it will be served."""
        engine = engine_of(self.network, trained.weights)
        output = "logits" if self.data.classification else "prediction"
        return {name: predict_rows(engine, self.data.x[name], output).astype(np.float64) for name in FITTED_SETS}


def _falls(before: Sum, after: Sum, data: Data) -> bool:
    """Say whether the selection loss falls by enough: nats, or a share, since squared errors may be in any units."""
    new, old = (sum_loss(each, "selection", data) for each in (after, before))
    return new <= old - SMALLEST_FALL * (1.0 if data.classification else old)


def _member_product(name: str, place: int, found: Round, method: Serial, assignment: Assignment, data: Data) -> Product:
    single = Single(
        network=found.network,
        trained=found.trained,
        name=f"{name}-m{place}",
        method="serial_member",
        baselines=[simplest(data)],
        notes={
            "round": place,
            "weight": found.weight,
            "caution": CAUTIONS[method.type] if place or method.type == "gradient" else None,
            **found.figures,
        },
        directory=f"member-{place}",
        recipe_digest=digest_of({"serial": assignment.recipe_digest, "round": place}),
    )
    return single_product(single, replace_seed(assignment, found.member.seed), data)


def replace_seed(assignment: Assignment, seed: int) -> Assignment:
    """Return the assignment with a member's own seed."""
    return assignment.model_copy(update={"seed": seed})


def _fused(
    method: Serial, rounds: Sequence[Round], products: Sequence[Product], assignment: Assignment, data: Data
) -> Product:
    members = [
        Member(
            f"#{place}",
            product.name_hint,
            None,
            product.manifest.digest,
            product.directory / served_file(product.manifest.files),
            product.manifest.metrics,
        )
        for place, product in enumerate(products)
    ]
    last = rounds[-1].after
    notes = {
        "type": method.type,
        "rounds": [{"weight": found.weight, **found.figures} for found in rounds],
        "planned_rounds": len(method.planned),
        "ended_early": len(rounds) < len(method.planned),
        "fitted_on": FITTED_ON[method.type],
        **last.told,
    }
    history = [epoch for found in rounds for epoch in found.trained.history]
    fusion = LogitSum(tuple(last.scale * weight for weight in last.weights), last.start)
    return fused_product(Fused("serial", members, fusion, notes, history), assignment, data)
