"""Snapshots: what a training with warm restarts leaves at the end of every cycle, fused."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from app.domain.diversity import pairwise_disagreement
from app.domain.specs import job_spec_adapter
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.jobs import Job, Workshop, digits
from worker.nn.optimizers import make_optimizer
from worker.package import Product
from worker.repeats import with_seed

TINY = {"type": "mlp", "hidden": [24], "dropout": 0.1}
RATE = 0.02
TRAINING = {"epochs": 4, "batch_size": 50, "optimizer": {"type": "adam", "learning_rate": RATE}}
CYCLES, SEED = 3, 7


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("snapshot")
    return Workshop(root / "jobs", digits(root / "digits", train=400))


def snapshot(workshop: Workshop, **options) -> Job:
    given = {name: options.pop(name) for name in ("training", "seeds", "calibrate") if name in options}
    method = {"method": "snapshot", "architecture": TINY, "seed": SEED, "cycles": CYCLES, **options}
    return workshop.run({"kind": "ensemble", "name": "album", "training": TRAINING, "method": method, **given})


@pytest.fixture(scope="module")
def album(small) -> Job:
    return snapshot(small)


def weights_of(product: Product) -> dict[str, np.ndarray]:
    return load_file(product.directory / "weights.safetensors")


def answers_of(product: Product, rows: np.ndarray) -> np.ndarray:
    return predict_rows(load_engine(product.directory / "model.onnx"), rows, "probabilities")


def test_every_cycle_leaves_a_member_and_the_last_version_fuses_them(album):
    *members, fused = album.products
    assert [(member.name_hint, member.manifest.method) for member in members] == [
        (f"album-m{number}", "snapshot_member") for number in range(CYCLES)
    ]
    assert (fused.manifest.kind, fused.manifest.method) == ("ensemble", "snapshot")
    links = fused.manifest.links
    assert [link.version_id for link in links] == [f"#{number}" for number in range(CYCLES)]
    assert sum(link.weight for link in links) == pytest.approx(1)
    assert album.accuracy >= max(member.manifest.metrics.accuracy for member in members) - 0.02
    assert album.report["comparisons"][1]["against"] == "the plain mean of its members"
    assert len(album.report["history"]) == CYCLES * TRAINING["epochs"]


def test_trap_25_the_learning_rate_is_the_highest_where_a_cycle_starts(album):
    told = album.report["method"]["learning_rates"]
    assert told["highest_at_epochs"] == [number * TRAINING["epochs"] for number in range(CYCLES)]
    assert told["highest"] == pytest.approx(RATE)
    cycle = told["at_the_start_of_each_epoch"][: TRAINING["epochs"]]
    assert cycle == sorted(cycle, reverse=True)
    assert cycle[-1] < RATE / 4
    training = album.assignment.spec.training
    optimizer = make_optimizer(training, steps=32, steps_per_epoch=8)
    for epoch, rate in enumerate(cycle):
        optimizer.iterations.assign(8 * epoch)
        assert float(optimizer.learning_rate) == pytest.approx(rate)


def test_trap_25_members_differ_more_than_what_one_descent_passes_through(small, album):
    rows = np.load(small.dataset.files["selection_x"])
    answers = np.stack([answers_of(member, rows) for member in album.products[:-1]])
    found = pairwise_disagreement(answers, classification=True)
    assert found.tolist() == album.report["method"]["pairwise_disagreement"]
    tail = {**TRAINING, "epochs": 1, "keep": "last", "optimizer": {"type": "adam", "learning_rate": RATE / 100}}
    descent = one_more(small, album, training=tail, seed=SEED)
    passed = np.stack([answers[0], answers_of(descent.product, rows)])
    without_restart = pairwise_disagreement(passed, classification=True)[0, 1]
    assert min(found[np.triu_indices(CYCLES, 1)]) > max(0.01, 2 * without_restart)


def one_more(workshop: Workshop, album: Job, *, training: dict, seed: int) -> Job:
    """Fine-tune the first member of a snapshot ensemble."""
    first = replace(album, products=album.products[:1])
    method = {"method": "fine_tune", "parent": "album-m0/1"}
    spec = {"kind": "optimize", "method": method, "training": training, "seed": seed}
    return workshop.run(spec, parent=[first.version()])


def test_a_cycle_is_a_training_of_its_own_seed_from_the_last_weights_of_the_one_before(small, album):
    last = {**TRAINING, "keep": "last"}
    first = small.run({"kind": "train", "architecture": TINY, "training": last, "seed": SEED})
    second = one_more(small, album, training=last, seed=SEED + 1)
    for job, member in zip((first, second), album.products, strict=False):
        for name, values in weights_of(member).items():
            np.testing.assert_array_equal(weights_of(job.product)[name], values)


def test_uniform_snapshots_are_their_plain_mean(small):
    job = snapshot(small, weights="uniform", cycles=2, training={**TRAINING, "epochs": 1}, calibrate=False)
    *members, fused = job.products
    assert [link.weight for link in fused.manifest.links] == [0.5, 0.5]
    rows = np.load(small.dataset.files["report_x"])
    mean = np.mean([answers_of(member, rows) for member in members], axis=0)
    np.testing.assert_allclose(answers_of(fused, rows), mean, atol=1e-5)


def test_snapshots_of_a_regression_are_fused_and_differ_in_the_units_of_the_target(regressions):
    job = snapshot(regressions, cycles=2)
    told = job.report["method"]["pairwise_disagreement"]
    assert told[0][1] == told[1][0] > 0
    worst = max(member.manifest.metrics.rmse for member in job.products[:-1])
    assert job.product.manifest.metrics.rmse <= worst * 1.02


def test_no_seed_of_a_cycle_is_used_twice():
    method = {"method": "snapshot", "architecture": TINY, "seed": SEED, "cycles": CYCLES}
    body = {"kind": "ensemble", "name": "e", "dataset": "d", "seeds": 3, "method": method}
    spec = job_spec_adapter.validate_python(body)
    firsts = [with_seed(spec, number).method.seed for number in range(3)]
    assert firsts == [SEED, SEED + CYCLES, SEED + 2 * CYCLES]


def test_snapshots_are_repeated_whole(small):
    job = snapshot(small, cycles=2, seeds=2, training={**TRAINING, "epochs": 1})
    assert [product.name_hint for product in job.products] == ["album-m0", "album-m1", "album"]
    values = job.report["repeats"]["accuracy"]["values"]
    assert len(set(values)) == 2
    assert values[0] == job.accuracy
