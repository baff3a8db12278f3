import numpy as np
import pytest
from onnx import numpy_helper

from app.domain.job_errors import MethodNotApplicableError
from app.domain.models import served_file
from app.domain.network import Network, trace
from app.domain.training_specs import TrainingSpec
from app.serving.packed import read_graph
from tests.worker.methods.conftest import TRAINING
from worker.context import Stopped
from worker.optimize.prune import split_epochs

SHORT = {**TRAINING, "epochs": 6}


def pruning(**options: object) -> dict[str, object]:
    training = options.pop("training", SHORT)
    method = {"method": "prune", "parent": "cnn", "max_drop": None, **options}
    return {"kind": "optimize", "name": "pruned", "method": method, "training": training}


def network_of(job) -> Network:
    return Network.model_validate_json((job.product.directory / "network.json").read_bytes())


def stored_arrays(job) -> dict[str, np.ndarray]:
    """Return the arrays of the file that is served, by the variables that they hold."""
    graph = read_graph(job.product.directory / served_file(job.product.manifest.files))
    return {tensor.name.partition(".")[0]: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


@pytest.fixture(scope="module")
def structured(workshop, parent):
    """A network without half of its channels."""
    return workshop.run(pruning(rounds=2), parent=[parent.version()])


@pytest.fixture(scope="module")
def unstructured(workshop, parent):
    """A network in which nine of ten weights are zero, though momentum and weight decay pull at them."""
    training = {**SHORT, "epochs": 9, "optimizer": {"type": "adamw", "learning_rate": 0.004, "weight_decay": 0.01}}
    spec = pruning(structure="unstructured", ratio=0.9, rounds=3, training=training)
    return workshop.run(spec, parent=[parent.version()])


def test_trap_30_structured_pruning_changes_shapes_and_costs(structured, parent):
    before, after = trace(network_of(parent)), trace(network_of(structured))
    assert after.shapes["conv1"][-1] < before.shapes["conv1"][-1]
    assert after.macs * 1.8 < before.macs
    metrics = structured.product.manifest.metrics
    assert metrics.served_bytes * 1.5 < parent.product.manifest.metrics.served_bytes
    assert (metrics.parameters, metrics.macs) == (after.parameters, after.macs)
    assert structured.accuracy > 0.75


def test_trap_34_the_share_is_of_channels_and_parameters_are_counted(structured):
    method = structured.report["method"]
    assert method["channels_after"] == pytest.approx(
        0.5 * method["channels_before"], abs=0.03 * method["channels_before"]
    )
    assert (method["ratio"], method["ratio_reached"]) == (0.5, 1 - method["channels_after"] / method["channels_before"])
    assert "faster" not in method["saves"]
    assert "`speed`" in method["saves"]
    traced = trace(network_of(structured))
    stored = stored_arrays(structured)
    counted = sum(stored[name].size for name in traced.variables if not name.startswith("standardize/"))
    assert counted == traced.parameters == method["parameters_after"]
    assert method["parameters_after"] < 0.5 * method["parameters_before"]  # both sides of a kernel shrink


def test_trap_31_zeros_stay_zero_while_the_rest_is_fine_tuned(unstructured):
    assert unstructured.report["method"]["zeros"] == pytest.approx(0.9, abs=1e-3)
    assert [row["zeros"] for row in unstructured.report["method"]["rounds"]] == pytest.approx(
        [0.9 * (1 - (2 / 3) ** 3), 0.9 * (1 - (1 / 3) ** 3), 0.9], abs=1e-3
    )
    kernels = [value for name, value in stored_arrays(unstructured).items() if name.endswith("kernel")]
    assert sum((value == 0).sum() for value in kernels) / sum(map(np.size, kernels)) == pytest.approx(0.9, abs=1e-3)


def test_trap_30_zeros_are_said_to_save_compressed_bytes_alone(unstructured, parent):
    method = unstructured.report["method"]
    assert method["gzip_bytes_after"] * 3 < method["gzip_bytes_before"]
    assert method["macs_after"] == method["macs_before"] == parent.product.manifest.metrics.macs
    assert "not faster" in method["saves"]
    assert unstructured.accuracy > 0.75


def test_the_report_has_a_row_per_round_before_and_after_fine_tuning(structured):
    rounds = structured.report["method"]["rounds"]
    assert [row["round"] for row in rounds] == [1, 2]
    assert rounds[0]["parameters"] > rounds[1]["parameters"]
    assert (
        rounds[-1]["after_fine_tuning"]["selection_accuracy"] > rounds[-1]["before_fine_tuning"]["selection_accuracy"]
    )
    assert [epoch["epoch"] for epoch in structured.report["history"]] == list(range(6))


def test_trap_33_what_is_shared_and_then_pruned_stays_shared(workshop):
    architecture = {"type": "resnet", "width": 8, "blocks": 2, "groups": 1}
    shared = workshop.run({"kind": "train", "name": "shared", "architecture": architecture, "training": SHORT})
    job = workshop.run(pruning(ratio=0.4, rounds=1), parent=[shared.version()])
    stored = stored_arrays(job)
    width = network_of(job).layer("stem").filters
    assert width < 8
    assert stored["group1_conv1/kernel"].shape[1] == width
    blocks = [layer for layer in network_of(job).layers if layer.weights_name == "group1_conv1"]
    assert len(blocks) == 2


@pytest.mark.parametrize("criterion", ["bn_gamma", "taylor"])
def test_every_criterion_prunes_as_far_as_it_was_asked(workshop, criterion):
    normalized = {"type": "resnet", "width": 8, "blocks": 1}
    parent = made(workshop, "normalized", normalized)
    job = workshop.run(pruning(criterion=criterion, rounds=1, ratio=0.3), parent=[parent.version()])
    method = job.report["method"]
    assert method["channels_after"] == pytest.approx(0.7 * method["channels_before"], abs=1)
    assert method["criterion"] == criterion


def made(workshop, name, architecture):
    """Train a parent, once for all tests."""
    if name not in workshop.made:
        spec = {"kind": "train", "name": name, "architecture": architecture, "training": SHORT}
        workshop.made[name] = workshop.run(spec)
    return workshop.made[name]


def test_a_layer_without_normalization_cannot_be_scored_by_it(workshop, parent):
    with pytest.raises(MethodNotApplicableError, match="'dense1'"):
        workshop.run(pruning(criterion="bn_gamma"), parent=[parent.version()])


def test_criteria_of_channels_do_not_score_single_weights(workshop, parent):
    with pytest.raises(MethodNotApplicableError, match="whole channels"):
        workshop.run(pruning(structure="unstructured", criterion="taylor"), parent=[parent.version()])


def test_a_network_without_hidden_layers_has_nothing_to_prune(workshop):
    parent = made(workshop, "linear", {"type": "mlp", "hidden": []})
    with pytest.raises(MethodNotApplicableError, match="none can go"):
        workshop.run(pruning(), parent=[parent.version()])


def test_a_regression_learns_from_its_parent_while_it_is_pruned(regressions):
    spec = {"kind": "train", "name": "wave", "architecture": {"type": "mlp", "hidden": [32, 16]}, "training": SHORT}
    parent = regressions.run(spec)
    job = regressions.run(pruning(learn_from="parent", rounds=1), parent=[parent.version()])
    assert job.report["method"]["learned_from"] == "parent"
    assert job.product.manifest.metrics.rmse is not None


def test_a_pruning_that_was_interrupted_gives_the_same_weights(workshop, parent, structured):
    with pytest.raises(Stopped):
        workshop.run(pruning(rounds=2), stop_after=60, parent=[parent.version()])
    checkpoint = workshop.last.reporter.checkpoints[-1][1]
    resumed = workshop.run(pruning(rounds=2), resume=checkpoint, parent=[parent.version()])
    weights = [job.product.manifest.files["weights.safetensors"].sha256 for job in (structured, resumed)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("epochs", "rounds", "split"),
    [(20, 4, [3, 3, 3, 11]), (4, 4, [1, 1, 1, 1]), (3, 5, [1, 1, 1]), (7, 1, [7]), (30, 2, [15, 15])],
)
def test_the_epochs_are_split_so_that_the_last_round_has_most(epochs, rounds, split):
    assert [training.epochs for training in split_epochs(TrainingSpec(epochs=epochs), rounds)] == split
