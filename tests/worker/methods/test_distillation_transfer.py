"""On which rows a teacher teaches: train rows, changed copies, rows without labels, rows that it has not seen."""

import numpy as np
import orjson
import pytest
from safetensors.numpy import load_file

from app.domain.errors import InvalidRequestError, ShapeMismatchError
from app.domain.fusion import log_probabilities, softmax, weighted_mean
from app.domain.job_errors import MethodNotApplicableError
from app.domain.optimize_specs import Transfer
from app.domain.training_specs import Augmentation
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.jobs import Workshop, digits
from tests.worker.methods.kinds import BOUNDS, workshop_of
from worker.context import Stopped
from worker.optimize import lectures, teaching
from worker.optimize.out_of_fold import fold_teachers
from worker.optimize.transfer import transfer_set
from worker.rows import open_data, row_groups

TINY = {"type": "mlp", "hidden": [16], "dropout": 0.0}
TRAINING = {"epochs": 2, "batch_size": 50, "optimizer": {"type": "adam", "learning_rate": 0.01}}
ROWS = 300


def spec_of(*, transfer=None, training=None, **options):
    method = {"method": "distill", "teacher": "tiny/1", "student": TINY, "transfer": transfer or {}, **options}
    return {"kind": "optimize", "name": "student", "method": method, "training": {**TRAINING, **(training or {})}}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("transfer")
    return Workshop(root / "jobs", digits(root / "digits", train=ROWS))


@pytest.fixture(scope="module")
def members(small):
    specs = ({"kind": "train", "name": f"tiny-{seed}", "seed": seed} for seed in (0, 1))
    return [small.run({**spec, "architecture": TINY, "training": TRAINING}) for spec in specs]


@pytest.fixture(scope="module")
def pair(small, members):
    named = [{"model": f"tiny-{seed}/1"} for seed in (0, 1)]
    method = {"method": "parallel", "members": named, "weights": [3.0, 1.0]}
    spec = {"kind": "ensemble", "name": "pair", "calibrate": False, "method": method}
    return small.run(spec, members=[job.version() for job in members])


@pytest.fixture(scope="module")
def everything(small, tmp_path_factory):
    """All rows of the data set, of every set, and some that stand in none, as if they had no labels."""
    directory = tmp_path_factory.mktemp("everything")
    files, data = small.dataset.files, open_data(small.dataset)
    x = np.concatenate([*(data.x[name] for name in ("train", "selection", "report")), 16 - data.x["train"][:40]])
    np.save(directory / "x.npy", x.astype(np.uint8))
    return small.dataset.model_copy(
        update={"name": "everything", "digest": "e" * 64, "files": {**files, "train_x": directory / "x.npy"}}
    )


def assigned(workshop, spec, unlabelled=None, **references):
    return workshop.assignment(spec, **references).model_copy(update={"unlabelled": unlabelled})


@pytest.fixture
def taught(small, monkeypatch):
    """Run a distillation whose unlabelled rows are given."""

    def run(spec, unlabelled=None, **references):
        made = type(small).assignment

        def assignment(self, *args, **kwargs):
            return made(self, *args, **kwargs).model_copy(update={"unlabelled": unlabelled})

        monkeypatch.setattr(type(small), "assignment", assignment)
        return small.run(spec, **references)

    return run


def test_no_row_of_the_selection_or_report_set_is_ever_taught(small, everything):
    data = open_data(small.dataset)
    assignment = assigned(small, spec_of(), everything)
    found = transfer_set(Transfer(unlabelled="everything"), Augmentation(), assignment, data)
    held_out = {row.tobytes() for name in ("selection", "report") for row in np.asarray(data.x[name])}
    taught = [row.tobytes() for row in np.asarray(found.x)]
    assert held_out.isdisjoint(taught)
    assert found.told["unlabelled"]["dropped_as_in_selection_or_report"] == len(data.x["selection"]) + len(
        data.x["report"]
    )
    assert len(taught) == 2 * ROWS + 40
    unseen = transfer_set(Transfer(unlabelled="everything", labels="out_of_fold"), Augmentation(), assignment, data)
    assert len(unseen.x) == ROWS + 40
    assert unseen.told["unlabelled"]["dropped_as_seen_by_the_teacher"] == ROWS
    assert found.labelled == ROWS
    assert isinstance(found.x, np.memmap)


def test_unlabelled_rows_have_no_label_and_the_control_takes_as_many_steps(taught, members, everything):
    job = taught(spec_of(transfer={"unlabelled": "everything"}), everything, teacher=[members[0].version()])
    told = job.report["method"]
    steps = TRAINING["epochs"] * -(-told["transfer"]["rows"] // TRAINING["batch_size"])
    assert told["control"]["rows"] == ROWS
    assert told["control"]["optimizer_steps"] == steps
    assert job.reporter.steps[-1][1] == 2 * steps
    assert {"student", "teacher", "control"} < told["gap"].keys()
    packed = np.load(job.assignment.scratch / "lecture" / "train.npy")
    assert (packed[:ROWS, :10].sum(axis=1) == 1).all()
    assert (packed[ROWS:, :10] == 0).all()
    np.testing.assert_allclose(np.exp(packed[:, 10:]).sum(axis=1), 1, atol=1e-4)


def test_the_control_learns_every_labelled_row_equally_often(small, everything):
    assignment = assigned(small, spec_of(), everything)
    found = transfer_set(Transfer(unlabelled="everything"), Augmentation(), assignment, open_data(small.dataset))
    chosen = found.same_budget(seed=0)
    counts = np.bincount(chosen, minlength=ROWS)
    assert len(chosen) == len(found.x)
    assert counts.max() - counts.min() <= 1
    assert len(counts) == ROWS


def test_copies_are_changed_rows_with_the_label_of_their_source(small):
    data = open_data(small.dataset)
    assignment = assigned(small, spec_of())
    found = transfer_set(Transfer(augmented_copies=2), Augmentation(shift=0.2, zoom=0.1), assignment, data)
    assert found.x.dtype == np.uint8
    assert found.x.shape == (3 * ROWS, 8, 8, 1)
    np.testing.assert_array_equal(found.x[:ROWS], data.x["train"])
    first, second = found.x[ROWS : 2 * ROWS], found.x[2 * ROWS :]
    assert (first != data.x["train"]).any(axis=(1, 2, 3)).mean() > 0.7
    assert (first != second).any()
    np.testing.assert_array_equal(found.targets.argmax(axis=1), np.tile(data.y["train"], 3))
    again = transfer_set(Transfer(augmented_copies=2), Augmentation(shift=0.2, zoom=0.1), assignment, data)
    np.testing.assert_array_equal(again.x, found.x)


def test_trap_09_student_and_control_learn_from_the_same_copies(taught, members):
    spec = spec_of(transfer={"augmented_copies": 1}, training={"augmentation": {"shift": 0.2}})
    job = taught(spec, teacher=[members[0].version()])
    told = job.report["method"]
    assert told["transfer"]["rows"] == told["control"]["rows"] == 2 * ROWS
    assert [item["against"] for item in job.report["comparisons"]][1] == "the same student trained on labels alone"
    assert told["warnings"] == []


def test_trap_01_an_augmentation_that_the_teacher_would_not_see_is_left_out_and_told(taught, members):
    plain = taught(spec_of(control=False), teacher=[members[0].version()])
    spec = spec_of(control=False, training={"augmentation": {"shift": 0.2}})
    job = taught(spec, teacher=[members[0].version()])
    assert "augmented_copies" in job.report["method"]["warnings"][0]
    own, other = (load_file(item.product.directory / "weights.safetensors") for item in (job, plain))
    for name, values in own.items():
        np.testing.assert_array_equal(values, other[name])


def test_trap_05_measuring_changes_nothing_of_teacher_or_student(taught, members):
    before = {path: path.read_bytes() for path in members[0].product.directory.iterdir()}
    job = taught(spec_of(student={**TINY, "batch_norm": True}), teacher=[members[0].version()])
    assert before == {path: path.read_bytes() for path in members[0].product.directory.iterdir()}
    kept = load_file(job.assignment.scratch / "finished" / "student" / "weights.safetensors")
    served = load_file(job.product.directory / "weights.safetensors")
    for name, values in kept.items():
        np.testing.assert_array_equal(values, served[name])


class CountingEngine:
    """Count the runs of a real engine."""

    def __init__(self, engine, runs):
        self.engine, self.runs = engine, runs
        self.dtype, self.shape, self.outputs = engine.dtype, engine.shape, engine.outputs

    def run(self, inputs, outputs):
        self.runs.append(len(inputs))
        return self.engine.run(inputs, outputs)


def test_the_teacher_is_asked_once_whatever_happens_to_the_job(small, members, monkeypatch):
    runs = []
    monkeypatch.setattr(teaching, "load_engine", lambda graph: CountingEngine(load_engine(graph), runs))
    references = {"teacher": [members[0].version()]}
    whole = small.run(spec_of(), **references)
    selection = len(open_data(small.dataset).x["selection"])
    assert sum(runs) == ROWS + selection
    runs.clear()
    with pytest.raises(Stopped):
        small.run(spec_of(), stop_after=2, **references)
    assert sum(runs) == ROWS + selection
    checkpoint = small.last.reporter.checkpoints[-1][1]
    assert (checkpoint / "finished" / lectures.LECTURE / "train.npy").is_file()
    runs.clear()
    resumed = small.run(spec_of(), resume=checkpoint, **references)
    assert runs == []
    own, other = (load_file(item.product.directory / "weights.safetensors") for item in (whole, resumed))
    for name, values in own.items():
        np.testing.assert_array_equal(values, other[name])


def test_trap_10_a_mean_of_logits_is_another_teacher_than_a_mean_of_probabilities(taught, members, pair, small):
    rows = open_data(small.dataset).x["train"]
    graphs = [load_engine(job.product.directory / "model.onnx") for job in members]
    logits = np.stack([predict_rows(graph, rows, "logits") for graph in graphs]).astype(np.float64)
    weights = np.array([0.75, 0.25])
    expected = {
        "logits": softmax(weighted_mean(logits, weights)),
        "probabilities": weighted_mean(softmax(logits), weights),
    }
    for mean, by_hand in expected.items():
        job = taught(spec_of(teacher_mean=mean, control=False), teacher=[pair.version()])
        taught_log = np.load(job.assignment.scratch / "lecture" / "train.npy")[:, 10:]
        np.testing.assert_allclose(taught_log, log_probabilities(by_hand), atol=2e-3)
        assert mean in job.report["method"]["taught_by"]
    assert np.abs(expected["logits"] - expected["probabilities"]).max() > 1e-3


def test_out_of_fold_teachers_have_not_seen_the_rows_or_copies_that_they_answer_for(small, members):
    data, version = open_data(small.dataset), members[0].version()
    assignment = assigned(small, spec_of(), teacher=[version])
    transfer = Transfer(labels="out_of_fold", folds=3)
    teachers = fold_teachers(transfer, version, assignment, data, seed=0)
    groups = row_groups(data.hashes["train"])
    for group in np.unique(groups):
        assert len(np.unique(teachers.folds[groups == group])) == 1
    assert [stage.name for stage in teachers.plan()] == [f"teacher0-fold{number}" for number in range(3)]
    assert np.bincount(teachers.folds).min() > ROWS // 4


def test_out_of_fold_answers_of_an_ensemble_are_those_of_its_members_trained_again(taught, members, pair, small):
    spec = spec_of(transfer={"labels": "out_of_fold", "folds": 2}, control=False)
    references = {"teacher": [pair.version()], "members": [job.version() for job in members]}
    job = taught(spec, **references)
    told = job.report["method"]
    assert "trained again without each row's fold" in told["taught_by"]
    packed = np.load(job.assignment.scratch / "lecture" / "train.npy")[:, 10:]
    folds = fold_teachers(
        Transfer(labels="out_of_fold", folds=2), pair.version(), job.assignment, open_data(small.dataset), seed=0
    )
    finished = job.assignment.scratch / "finished"
    for number in range(2):
        answers = [np.load(finished / f"teacher{place}-fold{number}" / "answers.npy") for place in range(2)]
        expected = log_probabilities(weighted_mean(np.stack(answers), np.array([0.75, 0.25])))
        np.testing.assert_allclose(packed[folds.folds == number], expected, atol=1e-4)


def test_a_teacher_without_a_recipe_cannot_teach_out_of_fold(taught, pair, members):
    spec = spec_of(transfer={"labels": "out_of_fold"})
    with pytest.raises(MethodNotApplicableError, match="cannot be trained again"):
        taught(spec, teacher=[members[0].version().model_copy(update={"training_recipe": None})])
    with pytest.raises(MethodNotApplicableError, match="not handed over"):
        taught(spec, teacher=[pair.version()])


@pytest.mark.parametrize(
    ("transfer", "training", "options", "word"),
    [
        ({"augmented_copies": 1}, {}, {}, "no augmentation"),
        ({"augmented_copies": 1, "labels": "out_of_fold"}, {"augmentation": {"mixup": 0.2}}, {}, "two folds"),
        ({"unlabelled": "everything"}, {"class_weights": "balanced"}, {}, "no class"),
    ],
)
def test_options_that_contradict_each_other_are_refused(taught, members, transfer, training, options, word):
    with pytest.raises(InvalidRequestError, match=word):
        taught(spec_of(transfer=transfer, training=training, **options), teacher=[members[0].version()])


def test_rows_that_all_stand_in_the_report_set_are_refused(taught, members, small):
    known = small.dataset.model_copy(update={"files": {"train_x": small.dataset.files["report_x"]}})
    with pytest.raises(MethodNotApplicableError, match="none is left"):
        taught(spec_of(transfer={"unlabelled": "known"}), known, teacher=[members[0].version()])


def test_rows_of_another_shape_are_refused(taught, members, everything):
    schema = everything.dataset_schema.model_copy(update={"shape": (9, 9, 1)})
    other = everything.model_copy(update={"dataset_schema": schema})
    with pytest.raises(ShapeMismatchError, match="shape"):
        taught(spec_of(transfer={"unlabelled": "everything"}), other, teacher=[members[0].version()])


@pytest.mark.parametrize("kind", ["signal", "text", "table", "regression"])
def test_every_kind_of_rows_is_taught_with_unlabelled_ones(kind, tmp_path, monkeypatch):
    workshop = workshop_of(kind, tmp_path)
    teacher = workshop.run({"kind": "train", "name": "tiny", "architecture": TINY, "training": TRAINING})
    x = np.load(workshop.dataset.files["train_x"])[::-1]
    if kind == "text":  # texts of another data set are padded to another length
        x = np.concatenate([x, np.zeros((len(x), 5), np.uint8)], axis=1)
    np.save(tmp_path / "more.npy", x)
    schema = workshop.dataset.dataset_schema.model_copy(update={"shape": x.shape[1:]})
    more = workshop.dataset.model_copy(
        update={"name": "more", "dataset_schema": schema, "files": {"train_x": tmp_path / "more.npy"}}
    )
    made = Workshop.assignment
    monkeypatch.setattr(
        Workshop, "assignment", lambda *args, **given: made(*args, **given).model_copy(update={"unlabelled": more})
    )
    job = workshop.run(spec_of(transfer={"unlabelled": "more"}), teacher=[teacher.version()])
    told = job.report["method"]
    rows = len(open_data(workshop.dataset).x["train"])
    assert told["transfer"]["rows"] == 2 * rows
    assert told["gap"]["measure"] == ("rmse" if kind == "regression" else "accuracy")
    assert len(BOUNDS) == 3
    assert orjson.loads((job.product.directory / "report.json").read_bytes())["method"]["loss"] == "kd"
