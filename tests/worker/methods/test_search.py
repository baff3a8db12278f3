"""A search tries points one by one, keeps what it tried, and makes versions of those that none beats."""

import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from app.domain.errors import JobError
from app.domain.jobs import RECIPE_PROTOCOL
from app.domain.models import TRAIN_SPEC, recipe_digest
from app.domain.specs import TrainSpec
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.jobs import Job, Workshop, digits, report_of
from tests.worker.methods.kinds import workshop_of
from worker.assignment import Limits
from worker.context import Stopped

TINY = {"type": "mlp", "hidden": [8], "dropout": 0.1}
TRAINING = {"epochs": 2, "batch_size": 50, "optimizer": {"type": "adam", "learning_rate": 0.003}}
WIDTHS = {"/architecture/hidden": {"choices": [[4], [8], [16], [8, 8]]}}
RATES = {"/training/optimizer/learning_rate": {"low": 1e-4, "high": 0.1, "log": True}}
STEPS = 8


def search_of(**changes):
    return {
        "kind": "search",
        "name": "found",
        "architecture": TINY,
        "training": TRAINING,
        "space": WIDTHS | RATES,
        "objectives": ["accuracy", "bytes", "macs"],
        "trials": 5,
        **changes,
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("search")
    return Workshop(root / "jobs", digits(root / "digits", train=200))


@pytest.fixture(scope="module")
def found(small) -> Job:
    return small.run(search_of())


def table(job: Job) -> list[dict]:
    return job.report["method"]["trials"]


def told(job: Job) -> list[dict]:
    """Return the trials without their latencies, which no two runs measure alike."""
    rows = table(job)
    return [row | {"figures": {k: v for k, v in row["figures"].items() if k != "latency_ms"}} for row in rows]


def test_every_point_of_the_front_becomes_a_version_and_the_most_accurate_is_last(found):
    trials = table(found)
    front = [row for row in trials if row["front"]]
    assert len(trials) == 5
    assert len(found.products) == len(front) >= 2
    assert {product.name_hint for product in found.products} == {"found"}
    notes = [report_of(product)["method"] for product in found.products]
    assert sorted(note["trial"] for note in notes) == sorted(row["trial"] for row in front)
    selection = [note["selection"]["selection_accuracy"] for note in notes]
    assert selection == sorted(selection)
    assert [note["front"]["place"] for note in notes] == list(range(1, len(front) + 1))
    assert all("trials" not in note for note in notes[:-1])


def test_the_first_trial_is_the_spec_itself_and_what_others_are_compared_with(found):
    first = table(found)[0]
    assert first["parameters"] == {
        "/architecture/hidden": [8],
        "/training/optimizer/learning_rate": 0.003,
    }
    others = [product for product in found.products if report_of(product)["method"]["trial"] != 0]
    for product in others:
        (comparison,) = report_of(product)["comparisons"]
        assert comparison["against"] == "the spec's own point (trial 0)"
        assert comparison["p_value"] <= comparison["adjusted_p_value"] <= min(1, len(others) * comparison["p_value"])


def test_no_trial_beats_a_point_of_the_front(found):
    rows = [row for row in table(found) if row["state"] == "finished"]
    costs = {
        row["trial"]: (-row["figures"]["selection_accuracy"], row["figures"]["bytes"], row["figures"]["macs"])
        for row in rows
    }
    for row in rows:
        beaten = any(
            all(a <= b for a, b in zip(other, costs[row["trial"]], strict=True)) and other != costs[row["trial"]]
            for other in costs.values()
        )
        assert row["front"] is not beaten


def test_trials_are_judged_on_selection_rows_by_the_graph_that_serves(small, found):
    report = found.report
    x, y = (np.load(small.dataset.files[f"selection_{part}"]) for part in "xy")
    engine = load_engine(found.product.directory / "model.onnx")
    accuracy = float((predict_rows(engine, x, "probabilities").argmax(axis=1) == y).mean())
    assert report["method"]["selection"]["selection_accuracy"] == pytest.approx(accuracy)
    assert report["method"]["selection"]["bytes"] == found.product.manifest.metrics.served_bytes
    assert report["method"]["selection"]["macs"] == found.product.manifest.metrics.macs


def test_a_by_product_is_the_model_that_its_train_job_would_make(small, found):
    by_product, own = found.products[0], found.products[-1]
    spec = TrainSpec.model_validate_json((by_product.directory / TRAIN_SPEC).read_bytes())
    digest = recipe_digest(spec.model_dump(mode="json"), small.dataset.digest, protocol=RECIPE_PROTOCOL)
    assert by_product.manifest.recipe_digest == digest
    assert own.manifest.recipe_digest == found.assignment.recipe_digest
    trained = small.run(spec.model_dump(mode="json"))
    expected, weights = (load_file(job.directory / "weights.safetensors") for job in (trained.product, by_product))
    assert expected.keys() == weights.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(weights[name], values)


def test_every_trial_is_told_in_the_log_and_progress_never_goes_back(found):
    lines = [line for line in found.reporter.lines if line.startswith("trial ")]
    assert len(lines) == 5
    assert re.match(r"trial 0, 1/5: accuracy \d+\.\d %, [\d.e-]+ ms, \d+ kB", lines[0])
    steps = [step for step, _ in found.reporter.steps]
    assert steps == sorted(steps)
    assert found.reporter.steps[-1] == (5 * STEPS, 5 * STEPS)


@pytest.mark.parametrize("stop_after", [2, 3 * STEPS + 5])
def test_an_interrupted_search_tries_the_same_points_and_ends_with_the_same_models(small, found, stop_after):
    with pytest.raises(Stopped):
        small.run(search_of(), stop_after=stop_after)
    stopped, (_, checkpoint) = small.last, small.last.reporter.checkpoints[-1]
    resumed = small.run(search_of(), resume=checkpoint)
    assert told(resumed) == told(found)
    ran = [line.partition(",")[0] for job in (stopped, resumed) for line in job.reporter.lines if ": accuracy" in line]
    assert ran == [f"trial {number}" for number in range(5)]
    assert len(resumed.products) == len(found.products)
    for expected, product in zip(found.products, resumed.products, strict=True):
        files = [job.manifest.files["weights.safetensors"].sha256 for job in (expected, product)]
        assert files[0] == files[1]


def test_checkpoints_carry_no_weights_of_beaten_trials(found):
    _, last = found.reporter.checkpoints[-1]
    kept = {path.parent.name for path in last.glob("finished/*/weights.safetensors")}
    front = {f"trial-{row['trial']}" for row in table(found) if row["front"]}
    assert kept - {"trial-0", "trial-4"} == front - {"trial-0", "trial-4"}
    assert {path.parent.name for path in last.glob("finished/*/trial.json")} == {f"trial-{n}" for n in range(5)}


def test_a_point_that_cannot_be_trained_fails_alone_and_says_why(small, tmp_path):
    space = {
        "/training/optimizer/type": {"choices": ["adam", "adamw"]},
        "/architecture/hidden": {"choices": [[8], [3000, 3000]]},
    }
    job = Workshop(tmp_path, small.dataset, limits=Limits(parameters=100_000)).run(search_of(space=space, trials=4))
    rows = table(job)
    failed = [row for row in rows if row["state"] == "failed"]
    assert failed
    assert all("at most 100,000" in row["reason"] for row in failed)
    assert all(row["state"] != "failed" or row["figures"] == {} for row in rows)
    assert job.products


def test_a_training_that_diverges_is_a_failed_trial(tmp_path):
    training = {"epochs": 1, "batch_size": 50, "optimizer": {"type": "sgd", "learning_rate": 0.01}}
    space = {"/training/optimizer/learning_rate": {"choices": [0.01, 10.0]}}
    job = workshop_of("regression", tmp_path).run(search_of(space=space, training=training, trials=5))
    states = {row["parameters"]["/training/optimizer/learning_rate"]: row["state"] for row in reversed(table(job))}
    assert states == {0.01: "finished", 10.0: "failed"}
    assert all("loss is" in row["reason"] for row in table(job) if row["state"] == "failed")
    assert len(job.products) == 1


def test_a_point_that_was_tried_is_not_trained_again(small):
    job = small.run(search_of(space={"/architecture/hidden": {"choices": [[4], [8]]}}, trials=6))
    rows = table(job)
    assert sum(row["state"] == "repeated" for row in rows) == 4
    assert len({row["figures"]["latency_ms"] for row in rows}) == 2
    assert {report_of(product)["method"]["trial"] for product in job.products} <= {
        row["trial"] for row in rows if row["state"] == "finished"
    }


def test_a_search_in_which_nothing_can_be_trained_says_so(small, tmp_path):
    with pytest.raises(JobError, match="None of 2 trials could be trained") as caught:
        Workshop(tmp_path, small.dataset, limits=Limits(parameters=10)).run(search_of(trials=2))
    assert "at most 10" in caught.value.detail


def test_trials_behind_the_median_end_early_when_accuracy_is_all_that_counts(small):
    training = {"epochs": 3, "batch_size": 50, "optimizer": {"type": "adam", "learning_rate": 0.01}}
    space = {"/training/optimizer/learning_rate": {"low": 1e-6, "high": 0.03, "log": True}}
    spec = search_of(objectives=["accuracy"], space=space, training=training, trials=8)
    job = small.run(spec)
    pruned = [row for row in table(job) if row["state"] == "pruned"]
    assert pruned
    assert all(row["epochs"] < 3 and "after epoch" in row["reason"] for row in pruned)
    assert len(job.products) == 1
    stop_after = next(index for index, (step, _) in enumerate(job.reporter.steps) if step > 12 * pruned[0]["trial"] + 5)
    with pytest.raises(Stopped):
        small.run(spec, stop_after=stop_after)
    resumed = small.run(spec, resume=small.last.reporter.checkpoints[-1][1])
    assert told(resumed) == told(job)


@pytest.mark.parametrize("kind", ["signal", "text", "regression"])
def test_every_kind_of_rows_can_be_searched(kind, tmp_path):
    architectures = {
        "signal": ({"type": "cnn1d", "filters": [4]}, "/architecture/filters/0"),
        "text": ({"type": "textcnn", "embedding": 4, "filters": 4}, "/architecture/filters"),
        "regression": ({"type": "mlp", "hidden": [4]}, "/architecture/hidden/0"),
    }
    architecture, pointer = architectures[kind]
    spec = search_of(
        architecture=architecture,
        space={pointer: {"low": 2, "high": 8}},
        objectives=["accuracy", "latency", "bytes", "parameters"],
        training={"epochs": 1, "batch_size": 100},
        trials=3,
    )
    job = workshop_of(kind, tmp_path).run(spec)
    quality = "selection_rmse" if kind == "regression" else "selection_accuracy"
    assert all(quality in row["figures"] for row in table(job))
    assert job.product.manifest.method == "search"
    assert report_of(job.product)["method"]["front"]["points"] == len(job.products)
