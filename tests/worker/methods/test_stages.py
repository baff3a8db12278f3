from pathlib import Path

import pytest

from tests.worker.fakes import fake_context
from worker.context import Reporter, Stopped
from worker.stages import Codec, Stage, Stages

PLAN = [Stage("one", epochs=1, steps=3), Stage("two", epochs=2, steps=4), Stage("three", epochs=1, steps=2)]
numbers: Codec[list[int]] = Codec(
    lambda values, path: (path / "numbers.txt").write_text(" ".join(map(str, values))) and None,
    lambda path: [int(value) for value in (path / "numbers.txt").read_text().split()],
)


def count(stage: Stage, reporter: Reporter, resume: Path | None) -> list[int]:
    """Count up to the stage's steps, as a training loop would."""
    done = int((resume / "at.txt").read_text()) if resume else 0
    for step in range(done + 1, stage.steps + 1):
        reporter.progress(step, stage.steps)
        reporter.metric(0, {"loss": 1 / step})
        if reason := reporter.stop_requested():
            reporter.checkpoint(lambda path, at=step: (path / "at.txt").write_text(str(at)) and None, step)
            raise Stopped(reason, step=step)
    return [stage.steps, done]


def run_all(context) -> list[list[int]]:
    stages = Stages(context, PLAN)
    return [stages.run(s.name, lambda *state, s=s: count(s, *state), numbers) for s in PLAN]


def test_stages_run_in_one_progress(tmp_path):
    context, reporter = fake_context(tmp_path)
    assert run_all(context) == [[3, 0], [4, 0], [2, 0]]
    assert {total for _, total in reporter.steps} == {9}
    assert [step for step, _ in reporter.steps] == sorted(step for step, _ in reporter.steps)
    assert reporter.steps[-1] == (9, 9)
    assert sorted({epoch for epoch, _ in reporter.metrics}) == [0, 1, 3]


@pytest.mark.parametrize("stop_after", range(1, 10))
def test_a_stopped_row_of_stages_goes_on_where_it_was(tmp_path, stop_after):
    context, reporter = fake_context(tmp_path / "first", stop_after=stop_after)
    with pytest.raises(Stopped) as stopped:
        run_all(context)
    step, checkpoint = reporter.checkpoints[-1]
    assert stopped.value.reason == "drain"
    assert step == reporter.steps[-1][0]
    context, _ = fake_context(tmp_path / "second", resume=checkpoint)
    assert [total for total, _ in run_all(context)] == [3, 4, 2]


def test_a_finished_stage_is_never_run_again(tmp_path):
    context, reporter = fake_context(tmp_path / "first")
    run_all(context)
    _, checkpoint = reporter.checkpoints[0]
    context, _ = fake_context(tmp_path / "second", resume=checkpoint)
    ran: list[str] = []
    stages = Stages(context, PLAN)
    for stage in PLAN:
        stages.run(stage.name, lambda *state, s=stage: ran.append(s.name) or count(s, *state), numbers)
    assert ran == ["two", "three"]


def test_later_checkpoints_hold_what_finished_before(tmp_path):
    context, reporter = fake_context(tmp_path)
    run_all(context)
    _, last = reporter.checkpoints[-1]
    assert sorted(path.name for path in (last / "finished").iterdir()) == ["one", "three", "two"]
