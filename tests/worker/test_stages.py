"""What a job of several stages tells while it runs."""

from pathlib import Path

from tests.worker.fakes import fake_context
from worker.context import Reporter
from worker.stages import Codec, Stage, Stages


def keep(text: str, directory: Path) -> None:
    (directory / "text").write_text(text)


def read(directory: Path) -> str:
    return (directory / "text").read_text()


TEXT = Codec(keep, read)


def say(reporter: Reporter, _resume: Path | None) -> str:
    reporter.log("half way")
    return "done"


def test_every_stage_of_several_is_announced_with_its_place(tmp_path: Path) -> None:
    context, reporter = fake_context(tmp_path)
    stages = Stages(context, [Stage("step1-prune", 1, 10), Stage("step2-cluster", 1, 10)])
    for name in ("step1-prune", "step2-cluster"):
        stages.run(name, say, TEXT)
    assert reporter.lines == [
        "step1-prune: stage 1 of 2",
        "step1-prune: half way",
        "step2-cluster: stage 2 of 2",
        "step2-cluster: half way",
    ]
    assert reporter.steps[-1] == (20, 20)


def test_the_only_stage_of_a_job_is_not_announced(tmp_path: Path) -> None:
    context, reporter = fake_context(tmp_path)
    Stages(context, [Stage("training", 1, 10)]).run("training", say, TEXT)
    assert reporter.lines == ["training: half way"]
