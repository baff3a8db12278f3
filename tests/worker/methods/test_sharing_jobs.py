"""Weight sharing as a job, on images, signals, messages and tables: what is found, merged, saved and said."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from app.domain.job_errors import MethodNotApplicableError
from app.domain.layers import BatchNorm
from app.domain.network import Network
from tests.worker.methods.jobs import Job, Workshop, digits
from tests.worker.methods.kinds import ARCHITECTURES, DEEP, TRAINING, workshop_of
from worker.optimize.alike import activations_of, compare_layers, group_compared
from worker.optimize.parents import read_parent
from worker.rows import open_data

FEW = {**TRAINING, "epochs": 2}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("images")
    return Workshop(root / "jobs", digits(root / "digits", train=500))


@pytest.fixture(scope="module")
def deep(images) -> Job:
    """A residual network of three equal blocks."""
    return images.run({"kind": "train", "name": "deep", "architecture": DEEP, "training": TRAINING})


@pytest.fixture(scope="module")
def found(images, deep) -> Job:
    """Layers of the deep network that answer alike, merged to their mean."""
    return share(images, deep, groups="found", threshold=0.3)


@pytest.fixture(scope="module")
def shared(images, deep) -> Job:
    """All blocks of the deep network as one, from the best of them."""
    return share(images, deep, groups=1, merge="least_loss", learn_from="parent")


def share(workshop, parent, **options):
    method = {"method": "share_weights", "parent": "deep/1", "max_drop": None, **options}
    return workshop.run({"kind": "optimize", "method": method, "training": FEW}, parent=[parent.version()])


def network_of(directory: Path) -> tuple[Network, dict[str, np.ndarray]]:
    network = Network.model_validate_json((directory / "network.json").read_bytes())
    return network, load_file(directory / "weights.safetensors")


def test_alike_layers_are_found_merged_and_trained_on(found):
    notes = found.report["method"]
    compared = notes["compared"][0]
    similarity = np.array(compared["similarity"])
    np.testing.assert_array_equal(similarity, similarity.T)
    np.testing.assert_allclose(np.diag(similarity), 1)
    for group in notes["groups"].values():
        places = [compared["layers"].index(name) for name in group]
        assert similarity[np.ix_(places, places)].min() >= 0.3
    assert notes["parameters_after"] < notes["parameters_before"]


@pytest.mark.parametrize("job", ["found", "shared"])
def test_the_report_has_a_row_before_and_after_merging_and_after_training(job, request):
    notes = request.getfixturevalue(job).report["method"]
    assert [row["stage"] for row in notes["stages"]] == ["parent", "merged", "fine_tuned"]
    parent, merged, tuned = (row["selection_accuracy"] for row in notes["stages"])
    assert parent > merged < tuned


def test_layers_are_compared_by_their_weights_too(images, deep):
    data = open_data(images.dataset)
    spec = {"kind": "optimize", "method": {"method": "convolve", "parent": "deep/1"}}
    parent = read_parent(images.assignment(spec, parent=[deep.version()]), data)
    compared = compare_layers(parent, "cosine", data)
    assert len(group_compared(parent.network, compared, -1.0)) == 1
    with pytest.raises(MethodNotApplicableError, match="the most alike, 'block") as refused:
        group_compared(parent.network, compared, 1.0)
    assert "threshold of at most" in refused.value.hint


def test_the_member_of_the_least_loss_starts_its_group(shared):
    notes = shared.report["method"]
    for group, losses in notes["selection_loss_by_member"].items():
        assert set(losses) == set(notes["groups"][group])
        assert losses[notes["chosen"][group]] == min(losses.values())
    last = list(notes["selection_loss_by_member"].values())[-1]
    merged = next(row for row in notes["stages"] if row["stage"] == "merged")
    assert merged["selection_loss"] == pytest.approx(min(last.values()), rel=1e-4)


def test_trap_12_every_format_is_written_and_shrinks(shared):
    sizes, files = shared.report["method"]["bytes"], shared.product.manifest.files
    assert set(sizes) == {"onnx", "safetensors", "keras", "tflite"}
    assert all(size["after"] < size["before"] for size in sizes.values())
    assert sizes["safetensors"]["after"] == files["weights.safetensors"].size_bytes
    assert sizes["onnx"]["after"] == files["model.onnx"].size_bytes


def test_trap_13_a_shared_model_is_never_called_faster(deep, shared):
    text = json.dumps(shared.report["method"]).lower() + json.dumps(shared.report["verdict"]).lower()
    assert not any(claim in text for claim in ("faster", "speed-up", "speedup"))
    assert shared.product.manifest.metrics.macs == deep.product.manifest.metrics.macs


def test_trap_13_the_statistics_of_every_position_are_its_own(images, shared):
    network, weights = network_of(shared.product.directory)
    data = open_data(images.dataset)
    norms = [layer for layer in network.layers if isinstance(layer, BatchNorm)]
    before = [network.layer(norm.inputs[0]) for norm in norms]
    assert len({layer.weights_name for layer in before}) < len(norms)
    answers = activations_of(network, weights, before, np.asarray(data.x["train"]))
    for norm, seen in zip(norms, answers, strict=True):
        places = (0, *range(2, seen.ndim))
        mean, deviation = seen.mean(axis=places), seen.std(axis=places)
        assert np.abs(weights[f"{norm.name}/moving_mean"] - mean).max() < 0.5 * deviation.max()
        assert np.sqrt(weights[f"{norm.name}/moving_variance"]) == pytest.approx(deviation, rel=0.5)


def test_sharing_from_scratch_needs_no_parent(images):
    method = {"method": "share_weights", "architecture": DEEP, "groups": 1}
    job = images.run({"kind": "optimize", "method": method, "training": FEW})
    notes = job.report["method"]
    assert notes["started_from"] == "scratch"
    assert notes["bytes"]["keras"]["after"] < notes["bytes"]["keras"]["before"]


@pytest.mark.parametrize("kind", ["signal", "text", "table", "regression"])
def test_layers_are_shared_on_rows_of_every_kind(kind, tmp_path):
    workshop = workshop_of(kind, tmp_path)
    parent = workshop.run({"kind": "train", "name": "deep", "architecture": ARCHITECTURES[kind], "training": FEW})
    job = share(workshop, parent, groups="found", threshold=-1)
    notes = job.report["method"]
    assert notes["parameters_after"] < notes["parameters_before"]
    assert all(size["after"] < size["before"] for size in notes["bytes"].values())
    assert len(notes["stages"]) == 3
