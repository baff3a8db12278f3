"""Stacks with folds by group and time, a hidden layer and the rows' own numbers."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from app.domain.ensemble_specs import Stack
from app.domain.job_errors import MethodNotApplicableError
from app.domain.presets import MLP, build_network
from app.domain.training_specs import TrainingSpec
from app.serving.meta_nodes import HiddenLayer, MetaLearner, Passed
from app.serving.runtime import load_engine, predict_rows
from tests.worker.fakes import FakeReporter
from tests.worker.methods.jobs import Workshop, write_dataset
from worker.ensemble.learner import meta_answers
from worker.ensemble.splits import cut_rows, numbers_of, units_of_rows
from worker.ensemble.stack import Fold, Recipe
from worker.learning import start_of
from worker.rows import open_data

TINY = {"type": "mlp", "hidden": [8], "dropout": 0.0}
TRAINING = {"epochs": 4, "batch_size": 30, "optimizer": {"type": "adam", "learning_rate": 0.02}}
SCHEMA = {"features": "table", "shape": (4,), "dtype": "float32", "classes": ("a", "b", "c")}
ROWS = {"train": 240, "selection": 120, "report": 120}


def rows_of_speakers():
    """Return three clouds, and for every train row a speaker; rows 0 to 9 stand there twice, said by two speakers."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, count in ROWS.items():
        labels = np.arange(count) % 3
        x = rng.normal(size=(count, 4)) + 1.5 * np.eye(4)[labels] + 100 * np.arange(4)
        parts[name] = (x.astype(np.float32), labels)
    speakers = rng.integers(24, size=ROWS["train"])
    for values in parts["train"]:
        values[10:20] = values[:10]
    return parts, speakers


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("spoken")
    parts, speakers = rows_of_speakers()
    return Workshop(root / "jobs", write_dataset(root / "rows", SCHEMA, parts, groups=speakers))


@pytest.fixture(scope="module")
def timed(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("timed")
    parts, _ = rows_of_speakers()
    return Workshop(root / "jobs", write_dataset(root / "rows", SCHEMA, parts, order=np.arange(ROWS["train"]) // 4))


def train(workshop, seed):
    spec = {"kind": "train", "name": f"m{seed}", "architecture": TINY, "training": TRAINING, "seed": seed}
    return workshop.run(spec).version()


@pytest.fixture(scope="module")
def members(spoken):
    return [train(spoken, seed) for seed in (0, 1)]


def stack(members, **options):
    method = {"method": "stack", "members": [{"model": f"{member.name}/1"} for member in members], "folds": 2}
    return {"kind": "ensemble", "name": "stack", "training": TRAINING, "method": {**method, **options}}


def method_of(**options):
    return Stack.model_validate({"method": "stack", "members": [{"model": "m/1"}], **options})


def test_trap_20_a_speaker_and_rows_that_are_equal_share_a_fold(spoken):
    data = open_data(spoken.dataset)
    numbers = numbers_of(cut_rows(method_of(folds=3), data, seed=0))
    assert sorted(np.unique(numbers)) == [0, 1, 2]
    for speaker in np.unique(data.groups):
        assert len(np.unique(numbers[data.groups == speaker])) == 1
    np.testing.assert_array_equal(numbers[:10], numbers[10:20])
    assert len(np.unique(units_of_rows(data))) < len(np.unique(data.groups)), "equal rows join their speakers"


def test_folds_run_forwards_where_rows_have_times(timed):
    data = open_data(timed.dataset)
    cuts = cut_rows(method_of(folds=3), data, seed=0)
    for cut in cuts:
        assert data.order[cut.learned].max() <= data.order[cut.held_out].min()
    assert (numbers_of(cuts)[:40] == -1).all()


def test_trap_20_what_rows_are_standardized_by_comes_from_the_rows_that_are_learned_from(spoken):
    data = open_data(spoken.dataset)
    network = build_network(MLP(type="mlp", hidden=(8,)), data.dataset_schema)
    recipe = Recipe(network, TrainingSpec(), 0)
    cut = cut_rows(method_of(folds=2), data, seed=0)[0]
    own = np.asarray(data.x["train"], np.float64)
    found = Fold(recipe, cut, data).statistics
    np.testing.assert_allclose(found.mean, own[cut.learned].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.deviation, own[cut.learned].std(axis=0), rtol=1e-5)
    start = start_of(network, data)
    assert any(np.abs(values - found.mean).max() > 1e-3 for name, values in start.items() if name.endswith("mean"))


def test_trap_20_held_out_rows_do_not_touch_what_a_fold_learns(spoken, tmp_path):
    """Whatever stands in the rows that are held out, the fold's model is the same to the bit."""
    data = open_data(spoken.dataset)
    cut = cut_rows(method_of(folds=2), data, seed=0)[0]
    network = build_network(MLP(type="mlp", hidden=(8,)), data.dataset_schema)
    training = TrainingSpec.model_validate({**TRAINING, "epochs": 1, "augmentation": {"noise": 0.2}})
    answers = []
    for shift in (0.0, 1000.0):
        x = np.array(data.x["train"])
        x[cut.held_out] += np.float32(shift)
        moved = type(data)(**{**vars(data), "x": {**data.x, "train": x}})
        engine = Fold(Recipe(network, training, 0), cut, moved).train(FakeReporter(tmp_path / "checkpoints"), None)
        answers.append(predict_rows(engine, data.x["selection"], "probabilities"))
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("options", [{}, {"meta": "mlp", "passthrough": True}])
def test_trap_15_a_stack_answers_from_disk_what_the_arithmetic_says(spoken, members, options):
    job = spoken.run(stack(members, **options), members=members)
    notes, directory = job.report["method"], job.product.directory
    assert job.report["parity"]["max_difference"] <= 1e-5
    assert (notes["split"], notes["rows_answered_out_of_fold"]) == ("grouped", ROWS["train"])
    assert notes["meta"] == options.get("meta", "logistic")
    assert notes["passthrough"] == options.get("passthrough", False)
    stored = load_file(directory / "weights.safetensors")
    assert stored["kernel"].shape == (2 * 3 + (4 if notes["passthrough"] else 0), 3)
    assert ("hidden/kernel" in stored) == (notes["width"] is not None) == (notes["meta"] == "mlp")
    rows = np.load(spoken.dataset.files["report_x"])
    engine = load_engine(directory / "model.onnx")
    own = np.stack([predict_rows(engine, rows, f"member.{place}.probabilities") for place in range(2)])
    alone = predict_rows(load_engine(members[1].files["model.onnx"]), rows, "probabilities")
    np.testing.assert_allclose(own[1], alone, atol=1e-6)
    found = predict_rows(engine, rows, "probabilities")
    expected = meta_answers(learner_of(stored), own.astype(np.float64), rows, classification=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert job.accuracy > 0.6
    assert job.report["baseline"]["against"].startswith("its best member")


def learner_of(stored):
    parts = {kind: {} for kind in ("hidden", "passed")}
    for name, values in stored.items():
        kind, _, own = name.partition("/")
        if own:
            parts[kind][own] = values
    hidden = HiddenLayer(**parts["hidden"]) if parts["hidden"] else None
    return MetaLearner(stored["kernel"], stored["bias"], hidden, Passed(**parts["passed"]) if parts["passed"] else None)


def test_a_stack_in_time_learns_nothing_from_rows_that_nobody_could_answer_for(timed):
    given = [train(timed, 0)]
    job = timed.run(stack(given), members=given)
    notes = job.report["method"]
    assert notes["split"] == "time"
    assert notes["rows_answered_out_of_fold"] == ROWS["train"] * 2 // 3
    assert np.isfinite(notes["out_of_fold_loss"]).all()
    assert np.isfinite(notes["by_fold"]["losses"]).all()


def test_groups_that_all_share_rows_cannot_be_folded(tmp_path):
    parts, _ = rows_of_speakers()
    groups = np.arange(ROWS["train"])
    parts["train"][0][:] = parts["train"][0][0]
    dataset = write_dataset(tmp_path / "rows", SCHEMA, parts, groups=groups)
    with pytest.raises(MethodNotApplicableError, match="groups that share no row"):
        cut_rows(method_of(folds=2), open_data(dataset), seed=0)
