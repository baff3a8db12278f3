"""Train several members of an ensemble in one job; each becomes a version that a train job would have made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.domain.datasets import canonical_json
from app.domain.jobs import RECIPE_PROTOCOL
from app.domain.member_jobs import member_spec
from app.domain.models import TRAIN_SPEC, recipe_digest
from app.domain.network import Network
from app.domain.presets import build_network
from app.domain.specs import TrainSpec, TrainTogetherSpec
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import Lesson, Single, Trained, plain_lesson, plan_stage, single_product, trained_codec
from worker.package import Product, simplest
from worker.rows import Data
from worker.stages import Codec, Stage, Stages
from worker.together import choose_at_once, learn_together


def train_group(spec: TrainTogetherSpec, assignment: Assignment, context: Context, data: Data) -> list[Product]:
    """Train the members as one graph, as many at once as the spec says, and measure each alone."""
    specs = [member_spec(spec, member) for member in spec.members]
    network = build_network(spec.architecture, data.dataset_schema)
    lessons = [plain_lesson(own, network, data) for own in specs]
    choice = Stage("at_once")
    at_once = Stages(context, [choice]).run(
        choice.name, lambda reporter, _: choose_at_once(lessons, spec.members_at_once, reporter), _number
    )
    parts = [range(start, min(start + at_once, len(lessons))) for start in range(0, len(lessons), at_once)]
    stages = Stages(context, [choice, *(_stage(part, lessons) for part in parts)])
    trained = [one for part in parts for one in _train(part, lessons, stages)]
    return [
        _Made(own, network, result, place, assignment, data).product()
        for place, (own, result) in enumerate(zip(specs, trained, strict=True))
    ]


def _stage(part: range, lessons: Sequence[Lesson]) -> Stage:
    chosen = lessons[part.start]
    planned = plan_stage(f"members{part.start}-{part.stop - 1}", chosen.training, chosen.rows.count)
    return replace(planned, steps=planned.steps * len(part))


def _train(part: range, lessons: Sequence[Lesson], stages: Stages) -> list[Trained]:
    chosen = [lessons[place] for place in part]
    name = _stage(part, lessons).name
    return stages.run(name, lambda reporter, resume: learn_together(chosen, reporter, resume), _all_trained)


@dataclass(frozen=True)
class _Made:
    spec: TrainSpec
    network: Network
    trained: Trained
    place: int
    assignment: Assignment
    data: Data

    def product(self) -> Product:
        """Return the member as the version of a train job of its own."""
        body = self.spec.model_dump(mode="json")
        single = Single(
            network=self.network,
            trained=self.trained,
            name=self.spec.name,
            method="train",
            baselines=[simplest(self.data)],
            notes={"architecture": body["architecture"], "trained_together": True},
            directory=f"member-{self.place}",
            recipe_digest=recipe_digest(body, self.assignment.dataset.digest, protocol=RECIPE_PROTOCOL),
        )
        directory = self.assignment.output / single.directory
        directory.mkdir(parents=True)
        (directory / TRAIN_SPEC).write_bytes(canonical_json(body))
        return single_product(single, self.assignment.model_copy(update={"seed": self.spec.seed}), self.data)


def _save_all(trained: list[Trained], directory: Path) -> None:
    for place, one in enumerate(trained):
        (directory / f"{place:03}").mkdir()
        trained_codec.save(one, directory / f"{place:03}")


def _load_all(directory: Path) -> list[Trained]:
    return [trained_codec.load(path) for path in sorted(directory.iterdir())]


def _save_number(number: int, directory: Path) -> None:
    (directory / "number").write_text(str(number))


def _load_number(directory: Path) -> int:
    return int((directory / "number").read_text())


_number: Codec[int] = Codec(_save_number, _load_number)
_all_trained: Codec[list[Trained]] = Codec(_save_all, _load_all)
