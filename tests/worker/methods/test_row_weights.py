"""Whatever learns from rows counts them by their weights: a row of weight 2 is that row twice, one of 0 is not there.

Every method is run on a weighted data set and on one in which rows stand as often as they weigh. With all rows in one
batch, both must come to the same network.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from app.domain.datasets import ROW_SETS
from app.domain.ensemble_specs import Parallel, RegisteredMember
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import Network
from app.domain.optimize_specs import Transfer
from app.domain.training_specs import Augmentation
from tests.worker.methods.jobs import Job, Workshop, write_dataset
from worker.ensemble.calibrating import calibrate_members
from worker.ensemble.parallel import find_weights
from worker.learning import hard_rows
from worker.optimize.selection import selection_figures
from worker.optimize.transfer import transfer_set
from worker.rows import open_data

MLP = {"type": "mlp", "hidden": [8], "dropout": 0.0}
TRAINING = {"epochs": 4, "batch_size": 4096, "optimizer": {"type": "sgd", "learning_rate": 0.1}}
COUNTS = {"train": 60, "selection": 40, "report": 30}
SCHEMA = {"features": "table", "shape": (4,), "dtype": "float32", "classes": ("a", "b")}


def rows_of_clouds() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return row sets of overlapping clouds, and whole weights: rows with wrong labels have the weight 0."""
    rng = np.random.default_rng(0)
    parts, weights = {}, {}
    for name, count in COUNTS.items():
        labels = rng.integers(0, 2, count)
        x = (rng.normal(size=(count, 4)) + 1.5 * labels[:, None]).astype(np.float32)
        weights[name] = rng.integers(0, 4, count)
        parts[name] = (x, np.where(weights[name] == 0, 1 - labels, labels))
    return parts, weights


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Workshop, Workshop]:
    """Return a workshop with weighted rows, and one with each row as often as it weighs, of equal statistics."""
    root = tmp_path_factory.mktemp("weights")
    parts, weights = rows_of_clouds()
    weighted = write_dataset(root / "weighted", SCHEMA, parts, weights=weights)
    often = {name: tuple(np.repeat(part, weights[name], axis=0) for part in parts[name]) for name in ROW_SETS}
    repeated = write_dataset(root / "repeated", SCHEMA, {**often, "report": parts["report"]})
    repeated = repeated.model_copy(update={"statistics": weighted.statistics})
    return Workshop(root / "weighted-jobs", weighted), Workshop(root / "repeated-jobs", repeated)


def train_spec(**options: Any) -> dict[str, Any]:
    return {"kind": "train", "name": "own", "architecture": MLP, "training": {**TRAINING, **options}}


@pytest.fixture(scope="module")
def parent(both) -> Job:
    return both[0].run({**train_spec(), "name": "parent"})


def weights_of(job: Job) -> list[dict[str, np.ndarray]]:
    return [
        load_file(product.directory / "weights.safetensors")
        for product in job.products
        if "weights.safetensors" in product.manifest.files
    ]


def assert_alike(first: Job, second: Job) -> None:
    """Check that two jobs made the same networks, along the same losses, and fused them alike."""
    for one, other in zip(weights_of(first), weights_of(second), strict=True):
        assert one.keys() == other.keys()
        for name, values in one.items():
            np.testing.assert_allclose(values, other[name], atol=2e-4, err_msg=name)
    histories = [
        [(epoch["loss"], epoch["selection_loss"]) for epoch in job.report["history"]] for job in (first, second)
    ]
    np.testing.assert_allclose(*histories, rtol=1e-3)
    fused = [[link.weight or 0 for link in job.product.manifest.links] for job in (first, second)]
    np.testing.assert_allclose(*fused, atol=1e-3)


def test_weights_have_the_mean_1_over_the_rows_of_a_set(both):
    data = open_data(both[0].dataset)
    _, weights = rows_of_clouds()
    assert set(data.weights) == {"train", "selection"}
    for name, own in data.weights.items():
        np.testing.assert_allclose(own, weights[name] / weights[name].mean(), rtol=1e-6)
    rows = hard_rows(data)
    assert rows.sample_weight is data.weights["train"]
    assert rows.selection_weight is data.weights["selection"]
    assert open_data(both[1].dataset).weights == {}
    assert hard_rows(open_data(both[1].dataset)).sample_weight is None


def test_a_row_of_weight_2_is_that_row_twice_and_one_of_weight_0_teaches_nothing(both):
    weighted, repeated = (workshop.run(train_spec(class_weights="balanced")) for workshop in both)
    assert_alike(weighted, repeated)
    told = weighted.report["row_weights"]
    assert "report rows" in told["alike"]
    assert repeated.report["row_weights"] is None
    assert weighted.report["metrics"]["accuracy"] == pytest.approx(repeated.report["metrics"]["accuracy"])


def optimize(**method: Any) -> dict[str, Any]:
    return {"kind": "optimize", "name": "new", "training": {**TRAINING, "epochs": 2}, "method": method}


def ensemble(method: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"kind": "ensemble", "name": "fused", "training": {**TRAINING, "epochs": 2}, "method": method, **options}


STACK = ensemble({"method": "stack", "members": [{"model": "parent/1"}], "folds": 2})
NEW = [{"architecture": MLP, "seed": seed} for seed in (0, 1)]
METHODS: dict[str, tuple[dict[str, Any], str | None]] = {
    "prune": (
        optimize(method="prune", parent="p/1", criterion="taylor", rounds=1, learn_from="parent"),
        "parent",
    ),
    "distill": (optimize(method="distill", teacher="t/1", student=MLP), "teacher"),
    # Without a temperature, which trusts few rows less than many: relative weights do not say how many they are.
    "serial": (ensemble({"method": "serial", "members": NEW}, calibrate=False), None),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_counts_rows_by_their_weights(both, parent, name):
    spec, role = METHODS[name]
    given = {role: [parent.version()]} if role else {}
    weighted, repeated = (workshop.run(spec, **given) for workshop in both)
    assert_alike(weighted, repeated)


def test_a_temperature_is_fitted_and_told_by_weight(both):
    """The member is sure of everything, and wrong only where rows weigh nothing."""
    data = open_data(both[0].dataset)
    wrong = data.weights["selection"] == 0
    sure = np.where(data.y["selection"][:, None] == [0, 1], 0.9, 0.1)
    answers = np.where(wrong[:, None], 1 - sure, sure)[None]
    by_weight = calibrate_members(answers, data, wanted=True)
    alike = calibrate_members(answers, replace(data, weights={}), wanted=True)
    assert by_weight.temperatures[0] < 1 < alike.temperatures[0]
    assert by_weight.told[0]["nll"] < by_weight.told[0]["nll_before"] == pytest.approx(-np.log(0.9))


@pytest.mark.parametrize("weights", ["greedy", "convex"])
def test_weights_of_members_are_fitted_to_rows_by_weight(both, weights):
    """The first member is right where rows weigh nothing, the second where they weigh."""
    members = [RegisteredMember(model="a/1"), RegisteredMember(model="b/1")]
    method = Parallel(method="parallel", members=members, weights=weights)
    data = open_data(both[0].dataset)
    idle = data.weights["selection"] == 0
    right = np.stack([np.where(idle, 0.999, 0.2), np.where(idle, 0.001, 0.9)])[..., None]
    answers = np.where(data.y["selection"][:, None] == [0, 1], right, 1 - right)
    assert find_weights(method, answers, data)[1] > 0.72
    assert find_weights(method, answers, replace(data, weights={}))[1] < 0.72


def test_losses_that_choose_are_weighted_and_accuracies_are_not(both, parent):
    network = Network.model_validate_json((parent.product.directory / "network.json").read_bytes())
    weights = weights_of(parent)[0]
    found, expected = (selection_figures(network, weights, open_data(workshop.dataset)) for workshop in both)
    assert found["selection_loss"] == pytest.approx(expected["selection_loss"], rel=1e-5)
    assert abs(found["selection_accuracy"] - expected["selection_accuracy"]) > 0.05, "rows of wrong labels count"


def test_a_copy_weighs_what_its_row_does_and_a_row_without_a_label_1(both, tmp_path):
    workshop = both[0]
    data = open_data(workshop.dataset)
    np.save(tmp_path / "more.npy", np.full((5, 4), 9, np.float32))
    more = workshop.dataset.model_copy(
        update={"name": "more", "files": {**workshop.dataset.files, "train_x": tmp_path / "more.npy"}}
    )
    spec = optimize(method="distill", teacher="t/1", student=MLP)
    assignment = workshop.assignment(spec).model_copy(update={"unlabelled": more})
    transfer = Transfer(unlabelled="more", augmented_copies=2)
    found = transfer_set(transfer, Augmentation(noise=0.1), assignment, data)
    own = data.weights["train"]
    np.testing.assert_array_equal(found.weights, np.concatenate([own, own, own, np.ones(5)]))
    assert found.weights.mean() == pytest.approx(1)
    assert "a copy weighs as much as its row" in found.told["row_weights"]
    assert "not looked at" in found.told["unlabelled"]["row_weights"]
    unweighted = transfer_set(transfer, Augmentation(noise=0.1), assignment, open_data(both[1].dataset))
    assert unweighted.weights is None


def test_quantizing_says_that_it_does_not_use_weights(both, parent):
    job = both[0].run(optimize(method="quantize", parent="p/1", mode="float16"), parent=[parent.version()])
    assert job.report["method"]["row_weights"].startswith("not used")


def with_weights(workshop: Workshop, root: Path, change: Callable[[np.ndarray], np.ndarray]) -> Workshop:
    path = root / "train_weight.npy"
    np.save(path, change(np.load(workshop.dataset.files["train_weight"])))
    files = {**workshop.dataset.files, "train_weight": path}
    return Workshop(root / "jobs", workshop.dataset.model_copy(update={"files": files}))


def test_a_fold_without_any_weight_is_refused(both, parent, tmp_path):
    heavy = with_weights(both[0], tmp_path, lambda own: (np.arange(len(own)) == 7).astype(np.float32))
    with pytest.raises(MethodNotApplicableError, match="rows to learn from have the weight 0"):
        heavy.run(STACK, members=[parent.version()])


def test_mixed_rows_have_no_weight_so_mixup_is_refused(both):
    with pytest.raises(MethodNotApplicableError, match="`mixup`"):
        both[0].run(train_spec(augmentation={"mixup": 0.2}))
