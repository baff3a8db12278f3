"""A job of whole methods ends the same wherever it is killed: checkpoints hold methods, their stages and states."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.models import InputSignature, Metrics, VersionManifest
from app.domain.stats import Comparison
from tests.worker.fakes import FakeReporter
from tests.worker.methods.jobs import Workshop, wave
from worker.assignment import Assignment
from worker.context import Context, Reporter, Stopped
from worker.messages import CheckpointWritten
from worker.nested import report_of, run_all_nested, run_for_report, run_nested
from worker.package import Product, file_ref
from worker.stages import Codec, Stage, Stages
from worker.trainer import Inbox, Outbox, PipeReporter

NAMES = ("one", "two", "three")
INNER = [Stage("first", epochs=1, steps=3), Stage("second", epochs=1, steps=4)]
METRICS = Metrics(
    parameters=1, macs=1, served_bytes=1, weights_bytes=1, latency_ms_batch_1=1.0, latency_ms_batch_32=1.0
)
COMPARISON = Comparison("its parent", 0.5, (0.25, 0.75), 0.01, "better", 0.1)
number: Codec[int] = Codec(
    lambda value, path: (path / "number.txt").write_text(str(value)) and None,
    lambda path: int((path / "number.txt").read_text()),
)


class BusyReporter(FakeReporter):
    """Ask for a checkpoint at every step, so that a test may go on from any of them."""

    def checkpoint_due(self) -> bool:
        return True


class Ledger:
    """Note every step that is done, as "method/stage/step"."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def count(self, name: str, stage: Stage, reporter: Reporter, resume: Path | None) -> int:
        """Count up as a training loop would: progress, then a stop, then a checkpoint."""
        done = int((resume / "at.txt").read_text()) if resume else 0
        for step in range(done + 1, stage.steps + 1):
            self.steps.append(f"{name}/{stage.name}/{step}")
            reporter.progress(step, stage.steps)
            reason = reporter.stop_requested()
            if reason == "drain" or (reason is None and reporter.checkpoint_due()):
                reporter.checkpoint(lambda path, at=step: (path / "at.txt").write_text(str(at)) and None, step)
            if reason:
                raise Stopped(reason, step=step)
        return stage.steps

    def method(self, assignment: Assignment, context: Context, *, before: str = "") -> Product:
        """Run two stages and make a product whose report tells what came before."""
        stages = Stages(context, INNER)
        name = context.scratch.name
        done = [
            stages.run(stage.name, lambda *state, stage=stage: self.count(name, stage, *state), number)
            for stage in INNER
        ]
        return product_in(assignment.output / "model", f"{before}{name}{done}")

    def job(self, assignment: Assignment, context: Context) -> list[str]:
        """Run three methods in a row, each on what the one before it made."""
        stages = Stages(context, [Stage(name, epochs=2, steps=7) for name in NAMES])
        texts: list[str] = []
        for name in NAMES:

            def method(own: Assignment, inner: Context, before: str = texts[-1] if texts else "") -> Product:
                return self.method(own, inner, before=before)

            product = run_nested(stages, name, method, assignment, context)
            assert product.directory.is_relative_to(context.output)
            assert product.comparisons == (COMPARISON,)
            assert file_ref(product.directory / "report.json") == product.manifest.files["report.json"]
            texts.append(report_of(product)["text"])
        return texts


def product_in(directory: Path, text: str) -> Product:
    directory.mkdir(parents=True)
    (directory / "report.json").write_text(f'{{"text": "{text}"}}')
    manifest = VersionManifest(
        kind="single",
        method="count",
        task="regression",
        classes=(),
        input=InputSignature(shape=(1,), dtype="float32"),
        files={"report.json": file_ref(directory / "report.json")},
        dataset="numbers",
        dataset_digest="d" * 64,
        recipe_digest="e" * 64,
        seed=0,
        protocol=1,
        metrics=METRICS,
    )
    return Product("counted", "single", directory, manifest, (COMPARISON,))


def shipped(checkpoint: Path, directory: Path) -> Path:
    """Lay a checkpoint out as an attempt gets it: links to stored files; empty directories are not kept."""
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        place = directory / file.relative_to(checkpoint)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file.resolve())
    return directory


@pytest.fixture
def start(tmp_path) -> Iterator:
    """Return a function that prepares an attempt of its own directories, resumed from a checkpoint."""
    workshop = Workshop(tmp_path / "jobs", wave(tmp_path / "wave"))
    spec = {"kind": "train", "architecture": {"type": "mlp"}}

    def begin(resume: Path | None = None, **options) -> tuple[Assignment, Context, BusyReporter]:
        assignment = workshop.assignment(spec)
        home = assignment.scratch.parent
        laid_out = shipped(resume, home / "resume") if resume is not None else None
        laid_out = laid_out if laid_out is not None and laid_out.is_dir() else None
        reporter = BusyReporter(home / "checkpoints", **options)
        return assignment, Context(reporter, assignment.scratch, assignment.output, 0, laid_out), reporter

    return begin


def test_a_job_killed_after_any_checkpoint_goes_on_from_there_to_the_same_end(start):
    whole = Ledger()
    assignment, context, reporter = start()
    expected = whole.job(assignment, context)
    assert len(whole.steps) == len(set(whole.steps)) == 21
    assert len(reporter.checkpoints) >= 21
    for _, checkpoint in reporter.checkpoints:
        resumed = Ledger()
        assignment, context, _ = start(checkpoint)
        assert resumed.job(assignment, context) == expected
        assert resumed.steps == whole.steps[len(whole.steps) - len(resumed.steps) :]
    assert resumed.steps == []


def test_a_job_that_is_killed_again_and_again_loses_no_step(start):
    whole, pieces = Ledger(), Ledger()
    expected = whole.job(*start()[:2])
    resume, found = None, None
    while found is None:
        assignment, context, reporter = start(resume, stop_after=4)
        try:
            found = pieces.job(assignment, context)
        except Stopped:
            resume = reporter.checkpoints[-1][1]
    assert found == expected
    assert pieces.steps == whole.steps


def test_steps_of_a_nested_method_never_go_back_and_end_at_the_total(start):
    assignment, context, reporter = start()
    Ledger().job(assignment, context)
    steps = [step for step, _ in reporter.steps]
    assert steps == sorted(steps)
    assert reporter.steps[-1] == (21, 21)
    assert [step for step, _ in reporter.checkpoints] == sorted(step for step, _ in reporter.checkpoints)


def test_a_running_method_s_checkpoint_holds_its_finished_stages_and_its_running_one(start):
    assignment, context, reporter = start()
    Ledger().job(assignment, context)
    inside = [path for _, path in reporter.checkpoints if (path / "running/two/running/second/at.txt").is_file()]
    assert inside
    for path in inside:
        assert (path / "running/two/finished/first/number.txt").is_file()
        assert (path / "finished/one/product.json").is_file()
        assert not (path / "finished/two").exists()


def test_what_could_not_be_saved_whole_is_not_taken_for_finished(start):
    _, context, _ = start()
    stages = Stages(context, INNER)

    def fail(value: int, path: Path) -> None:
        (path / "number.txt").write_text("1")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        stages.run("first", lambda *_: 3, Codec(fail, number.load))
    assert stages.run("first", lambda *_: 3, number) == 3
    _, later, _ = start()
    stages.copy_finished(later.scratch / "copied")
    assert number.load(later.scratch / "copied/finished/first") == 3


def test_products_of_equal_names_in_several_places_come_back_each_as_itself(start):
    def job(assignment: Assignment, context: Context) -> list[Product]:
        return [product_in(assignment.output / place / "model", place) for place in ("left", "right")]

    assignment, context, reporter = start()
    plan = [Stage("all", steps=1)]
    made = run_all_nested(Stages(context, plan), "all", job, assignment, context)
    assignment, context, _ = start(reporter.checkpoints[-1][1])
    found = run_all_nested(Stages(context, plan), "all", pytest.fail, assignment, context)
    assert [report_of(product)["text"] for product in found] == ["left", "right"]
    assert [product.manifest for product in found] == [product.manifest for product in made]


def test_of_a_run_for_its_report_nothing_else_is_kept(start):
    assignment, context, reporter = start()
    ledger = Ledger()

    def job(own: Assignment, inner: Context) -> list[Product]:
        return [ledger.method(own, inner)]

    report = run_for_report(Stages(context, [Stage("seed1", steps=7)]), "seed1", job, assignment, context)
    assert report == {"text": "seed1[3, 4]"}
    assert not (context.output / "nested" / "seed1").exists()
    assignment, context, _ = start(reporter.checkpoints[-1][1])
    again = run_for_report(Stages(context, [Stage("seed1", steps=7)]), "seed1", pytest.fail, assignment, context)
    assert again == report


def test_a_resumed_product_can_be_amended_without_changing_the_checkpoint(start):
    assignment, context, reporter = start()
    Ledger().job(assignment, context)
    _, checkpoint = reporter.checkpoints[-1]
    before = file_ref(checkpoint / "finished/three/files/report.json")
    assignment, context, _ = start(checkpoint)
    stages = Stages(context, [Stage(name, epochs=2, steps=7) for name in NAMES])
    product = run_nested(stages, "three", pytest.fail, assignment, context)
    (product.directory / "report.json").write_text("{}")
    assert file_ref(checkpoint / "finished/three/files/report.json") == before


def test_of_two_checkpoints_at_one_step_the_later_is_not_lost(tmp_path):
    reporter = PipeReporter(Outbox(sent := io.BytesIO()), Inbox(io.BytesIO()), tmp_path, checkpoint_seconds=60)
    for value in (1, 2):
        reporter.checkpoint(lambda path, value=value: number.save(value, path), 5)
    told = [CheckpointWritten.model_validate_json(line) for line in sent.getvalue().splitlines()]
    assert [message.step for message in told] == [5, 5]
    assert [number.load(message.path) for message in told] == [1, 2]
