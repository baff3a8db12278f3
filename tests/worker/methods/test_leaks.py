"""Poisoned data sets raise the alarm, honest ones do not."""

import numpy as np
import pytest

from app.domain.job_errors import LeakedRowsError
from tests.worker.methods.conftest import SMALL_MLP, TRAINING
from tests.worker.methods.jobs import Workshop, digits, wave, write_dataset
from worker.leaks import judge_permuted, permuted, with_permuted_labels
from worker.rows import open_data, row_groups

SHORT = {**TRAINING, "epochs": 4}
TABLE = {"features": "table", "shape": (2,), "dtype": "float32", "classes": ("low", "high")}
LINE = {"type": "mlp", "hidden": [8], "dropout": 0.0}


def two_clusters(directory, *, train: int):
    """Write a table of two classes that lie far apart."""
    rng = np.random.default_rng(0)
    sizes = {"train": train, "selection": train, "report": 100}
    parts = {}
    for name, rows in sizes.items():
        labels = np.arange(rows) % 2
        x = (rng.normal(size=(rows, 2)) * 0.01 + (labels[:, None] * 4 - 2)).astype(np.float32)
        parts[name] = (x, labels.astype(np.int64))
    return write_dataset(directory, TABLE, parts)


@pytest.mark.parametrize("sets", [("train", "report"), ("selection", "report"), ("train", "selection")])
def test_a_row_in_two_sets_fails_the_job_before_it_trains(tmp_path, sets):
    source = digits(tmp_path / "digits", train=100)
    parts = {
        name: tuple(np.load(source.files[f"{name}_{kind}"]) for kind in "xy")
        for name in ("train", "selection", "report")
    }
    one, other = sets
    parts[other] = tuple(np.concatenate([own, given[:3]]) for own, given in zip(parts[other], parts[one], strict=True))
    schema = {"features": "image", "shape": (8, 8, 1), "dtype": "uint8", "classes": tuple("0123456789")}
    workshop = Workshop(tmp_path / "jobs", write_dataset(tmp_path / "poisoned", schema, parts))
    with pytest.raises(LeakedRowsError, match="3 different rows"):
        workshop.run({"kind": "train", "architecture": SMALL_MLP, "training": SHORT})
    assert workshop.last.reporter.steps == []


def test_trap_18_a_network_of_permuted_labels_scores_chance(tmp_path):
    workshop = Workshop(tmp_path / "jobs", digits(tmp_path / "digits", train=600))
    job = workshop.run({"kind": "train", "architecture": SMALL_MLP, "training": SHORT, "leak_check": True})
    found = job.report["leak_check"]
    assert found["alarm"] is None
    assert found["accuracy_interval"][0] <= found["chance"] < 0.15
    assert job.product.manifest.rejected is None
    assert job.accuracy > 0.7


def test_a_network_that_answers_right_in_spite_of_permuted_labels_is_rejected(tmp_path):
    # Two train rows: their permuted labels are their own as often as not, and so the answers get through.
    workshop = Workshop(tmp_path / "jobs", two_clusters(tmp_path / "table", train=2))
    data = open_data(workshop.dataset)
    seed = next(
        seed
        for seed in range(50)
        if all((with_permuted_labels(data, seed=seed).y[name] == data.y[name]).all() for name in ("train", "selection"))
    )
    training = {"epochs": 60, "batch_size": 2, "optimizer": {"type": "adam", "learning_rate": 0.05}}
    spec = {"kind": "train", "architecture": LINE, "training": training, "leak_check": True, "seed": seed}
    job = workshop.run(spec)
    assert job.report["leak_check"]["accuracy"] > 0.9
    assert "permuted labels" in job.product.manifest.rejected
    assert job.report["leak_check"]["alarm"] in job.product.manifest.rejected


def test_a_regression_of_permuted_targets_is_no_better_than_the_mean(tmp_path):
    data = open_data(wave(tmp_path / "wave"))
    targets = np.asarray(data.y["report"])
    assert judge_permuted(np.full_like(targets, np.mean(data.y["train"])), data)["alarm"] is None
    assert "better than the mean" in judge_permuted(targets * 0.9, data)["alarm"]


@pytest.mark.parametrize("classes", [2, 7])
def test_permuted_labels_are_the_same_labels_spread_evenly_over_every_class(classes):
    rng = np.random.default_rng(0)
    labels = rng.choice(classes, size=700, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    found = permuted(labels, rng, classification=True)
    np.testing.assert_array_equal(np.bincount(found), np.bincount(labels))
    for own in range(classes):
        expected = np.bincount(labels, minlength=classes) * np.mean(labels == own)
        assert np.abs(np.bincount(found[labels == own], minlength=classes) - expected).max() <= 2


def test_permuted_targets_are_the_same_numbers_without_their_rows():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(500, 1)).astype(np.float32)
    found = permuted(targets, rng, classification=False)
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(targets, axis=0))
    assert abs(np.corrcoef(found[:, 0], targets[:, 0])[0, 1]) < 0.05


def test_equal_rows_have_equal_numbers():
    hashes = np.array([[1] * 16, [2] * 16, [1] * 16], np.uint8)
    first, second, third = row_groups(hashes)
    assert first == third != second
