"""Chains: every step on what the one before it made, one product, compared with the parent of the whole chain."""

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file

from app.domain.models import served_file
from app.serving.packed import read_graph
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.jobs import Job, Workshop, digits
from tests.worker.methods.kinds import ARCHITECTURES, DEEP, TRAINING, workshop_of
from worker.context import Stopped
from worker.package import file_ref

MLP = {"type": "mlp", "hidden": [64, 32], "dropout": 0.0}
ONE, FEW = {**TRAINING, "epochs": 1}, {**TRAINING, "epochs": 3}
ZEROS = {"method": "prune", "structure": "unstructured", "ratio": 0.8, "rounds": 2}
ONCE = {**ZEROS, "rounds": 1}
SMALLER = {"method": "distill", "student": {"type": "mlp", "hidden": [16], "dropout": 0.0}, "control": False}
SLIM = {
    "signal": {"type": "resnet", "width": 4, "blocks": 1},
    "text": {"type": "textcnn", "filters": 4},
    "table": {"type": "mlp", "hidden": [8, 8]},
    "regression": {"type": "mlp", "hidden": [8, 8]},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("images")
    return Workshop(root / "jobs", digits(root / "digits", train=600))


@pytest.fixture(scope="module")
def deep(images) -> Job:
    """A residual network of equal blocks."""
    return images.run({"kind": "train", "name": "deep", "architecture": DEEP, "training": FEW})


@pytest.fixture(scope="module")
def dense(images) -> Job:
    """A dense network."""
    return images.run({"kind": "train", "name": "dense", "architecture": MLP, "training": TRAINING})


def chain_of(*steps, training=ONE, **options):
    method = {"method": "chain", "parent": "parent/1", "steps": list(steps), "max_drop": None, **options}
    return {"kind": "optimize", "name": "chained", "method": method, "training": training}


def check_steps(job: Job, parent: Job) -> list[dict]:
    """Check that manifest, files and report agree, and return the rows of the steps."""
    product, report = job.product, job.report
    manifest = product.manifest
    assert {path.name for path in product.directory.iterdir()} == set(manifest.files)
    for name, reference in manifest.files.items():
        assert file_ref(product.directory / name) == reference
    rows = report["method"]["steps"]
    served = manifest.files[served_file(manifest.files)]
    assert manifest.method == report["method"]["method"] == "chain"
    assert report["model"]["sha256"] == rows[-1]["digest"] == served.sha256
    assert rows[-1]["served_bytes"] == manifest.metrics.served_bytes == served.size_bytes
    assert rows[-1].get("accuracy") == manifest.metrics.accuracy
    assert [row["method"] for row in rows] == [step.method for step in job.assignment.spec.method.steps]
    assert [(link.role, link.version_id) for link in manifest.links] == [("parent", parent.version().version_id)]
    assert report["baseline"]["against"] == f"its parent {parent.product.name_hint}/1"
    return rows


def weights_of(job: Job) -> dict[str, np.ndarray]:
    return load_file(job.product.directory / "weights.safetensors")


def test_every_step_starts_from_what_the_one_before_it_made(images, deep):
    steps = [{"method": "convolve", "to": "separable"}, {"method": "share_weights", "groups": 1}]
    job = images.run(chain_of(*steps), parent=[deep.version()])
    convolved, shared = check_steps(job, deep)
    assert shared["parameters"] < convolved["parameters"] < deep.product.manifest.metrics.parameters
    assert shared["macs"] == convolved["macs"] < deep.product.manifest.metrics.macs
    assert convolved["accuracy_interval"][0] < convolved["accuracy"] < convolved["accuracy_interval"][1]
    assert shared["details"]["parent"]["model"] == "step 1 (convolve)"
    assert len(job.products) == 1


def test_a_step_may_train_otherwise_than_the_job(images, dense):
    student = {"type": "mlp", "hidden": [8]}
    step = {"method": "distill", "student": student, "control": False, "training": {**FEW, "epochs": 2}}
    job = images.run(chain_of(step), parent=[dense.version()])
    check_steps(job, dense)
    assert len(job.report["history"]) == 2


def test_a_chain_is_judged_by_its_own_parent(images, dense):
    tiny = {"method": "distill", "student": {"type": "mlp", "hidden": [1]}, "control": False}
    kept = {"method": "prune", "structure": "unstructured", "ratio": 0.01, "rounds": 1}
    job = images.run(chain_of(tiny, kept, max_drop=1.0), parent=[dense.version()])
    check_steps(job, dense)
    assert job.report["gate"]["against"] == "its parent dense/1"
    assert "worse than its parent dense/1" in job.product.manifest.rejected


@pytest.mark.parametrize("last", ["cluster", "quantize"])
def test_each_step_keeps_what_the_others_have_gained(images, dense, last):
    steps = [ZEROS, {"method": "cluster", "clusters": 8}]
    if last == "quantize":
        steps.append({"method": "quantize", "mode": "float16"})
    job = images.run(chain_of(*steps, training=FEW), parent=[dense.version()])
    rows = check_steps(job, dense)
    assert rows[0]["gzip_bytes"] < dense.product.manifest.metrics.gzip_bytes
    assert rows[1]["gzip_bytes"] <= rows[0]["gzip_bytes"]
    assert rows[-1]["served_bytes"] < dense.product.manifest.metrics.served_bytes / 3
    for values in kernels_of(job):
        assert np.count_nonzero(values == 0) >= 0.7 * values.size
        assert len(np.unique(values[values != 0])) <= 8
    assert job.accuracy > 0.7


def kernels_of(job: Job) -> list[np.ndarray]:
    """Return the larger kernels that the served graph computes with."""
    graph = read_graph(job.product.directory / served_file(job.product.manifest.files)).graph
    arrays = [numpy_helper.to_array(tensor).astype(np.float32) for tensor in graph.initializer]
    return [values for values in arrays if values.ndim >= 2 and values.size > 400]


def test_a_chain_serves_what_it_reports(images, dense):
    job = images.run(chain_of(ZEROS), parent=[dense.version()])
    check_steps(job, dense)
    engine = load_engine(job.product.directory / served_file(job.product.manifest.files))
    rows, labels = (np.load(images.dataset.files[f"report_{kind}"]) for kind in "xy")
    assert (predict_rows(engine, rows, "probabilities").argmax(1) == labels).mean() == pytest.approx(job.accuracy)


@pytest.mark.parametrize("stop_after", [4, 15])
def test_a_chain_that_is_stopped_in_any_step_ends_with_the_same_bits(images, dense, stop_after):
    spec, references = chain_of(SMALLER, ONCE), {"parent": [dense.version()]}
    whole = images.run(spec, **references)
    with pytest.raises(Stopped):
        images.run(spec, stop_after=stop_after, **references)
    step, checkpoint = images.last.reporter.checkpoints[-1]
    resumed = images.run(spec, resume=checkpoint, **references)
    assert min(step for step, _ in resumed.reporter.steps) >= step
    expected, found = weights_of(whole), weights_of(resumed)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    rows = [job.report["method"]["steps"] for job in (whole, resumed)]
    assert [row["digest"] for row in rows[0]] == [row["digest"] for row in rows[1]]
    check_steps(resumed, dense)


@pytest.mark.parametrize("kind", ["signal", "text", "table", "regression"])
def test_chains_run_on_rows_of_every_kind(kind, tmp_path):
    workshop = workshop_of(kind, tmp_path)
    parent = workshop.run({"kind": "train", "name": "deep", "architecture": ARCHITECTURES[kind], "training": ONE})
    student = {**SMALLER, "student": SLIM[kind]}
    job = workshop.run(chain_of(student, ONCE), parent=[parent.version()])
    taught, pruned = check_steps(job, parent)
    assert taught["parameters"] < parent.product.manifest.metrics.parameters
    assert pruned["parameters"] == taught["parameters"]
    kernels = [values.ravel() for name, values in weights_of(job).items() if name.endswith("kernel")]
    assert np.mean(np.concatenate(kernels) == 0) > 0.5


def test_nothing_but_the_product_is_left_beside_it(images, dense):
    job = images.run(chain_of(ZEROS), parent=[dense.version()])
    assert job.product.directory == Path(job.assignment.output) / "model"
