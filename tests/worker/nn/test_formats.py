"""What sharing saves in every format; equal values are no sharing, though some formats hide the difference."""

import keras
import numpy as np
import pytest

from app.domain.datasets import DatasetSchema
from app.domain.network import Network
from app.domain.presets import CNN1D, MLP, ResNet, TextCNN, build_network
from app.domain.surgery.sharing import find_groups, merge, share
from tests.worker.nn.backends import needs_tensorflow
from worker.nn.architectures import build_model, extract_weights, predict, variables_by_name
from worker.nn.formats import bytes_by_format
from worker.nn.keras_layers import CUSTOM_OBJECTS

COUNTS = {"train": 10, "selection": 10, "report": 10}
CLASSES = ("a", "b", "c")
SCHEMAS = {
    "image": DatasetSchema(features="image", shape=(8, 8, 1), dtype="uint8", classes=CLASSES, rows=COUNTS),
    "text": DatasetSchema(features="text", shape=(30,), dtype="uint8", classes=CLASSES, rows=COUNTS),
    "table": DatasetSchema(features="table", shape=(5,), dtype="float32", classes=CLASSES, rows=COUNTS),
    "audio": DatasetSchema(
        features="signal", shape=(2000, 1), dtype="int16", sample_rate=8000, classes=CLASSES, rows=COUNTS
    ),
}
MEMBERS = ("block1_conv1", "block2_conv1", "block3_conv1")


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network(ResNet(blocks=3, width=16), SCHEMAS["image"])


@pytest.fixture(scope="module")
def copied(network) -> dict[str, np.ndarray]:
    """Weights of which those that could be shared are equal in value, but apart."""
    weights = extract_weights(build_model(network, seed=0))
    for place in "12":
        for block in "23":
            weights[f"block{block}_conv{place}/kernel"] = weights[f"block1_conv{place}/kernel"]
    return weights


def test_trap_12_equal_values_are_not_sharing_though_tflite_hides_it(network, copied, tmp_path):
    needs_tensorflow("only TensorFlow writes .tflite")
    groups = find_groups(network, 1)
    nudged = {
        name: values + np.float32(1e-3 * int(name[5])) if name.startswith("block") and "kernel" in name else values
        for name, values in copied.items()
    }
    shared_network = share(network, groups)
    shared, as_copies, perturbed = (
        bytes_by_format(net, weights, scratch=tmp_path)
        for net, weights in ((shared_network, merge(copied, groups)), (network, copied), (network, nudged))
    )
    four_kernels = 4 * 3 * 3 * 16 * 16 * 4
    for name in ("onnx", "safetensors", "keras"):
        assert as_copies[name] - shared[name] >= four_kernels
    assert abs(as_copies["tflite"] - shared["tflite"]) < four_kernels / 10
    assert perturbed["tflite"] - as_copies["tflite"] >= four_kernels
    still = bytes_by_format(shared_network, merge(nudged, groups), scratch=tmp_path)
    assert still["tflite"] - shared["tflite"] < four_kernels / 10


def test_trap_12_a_saved_and_reloaded_network_still_shares_its_variables(network, copied, tmp_path):
    groups = find_groups(network, 1)
    model = build_model(share(network, groups), merge(copied, groups), seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=CUSTOM_OBJECTS)
    assert len({id(variable) for variable in loaded.weights}) == len(variables_by_name(model))
    assert loaded.count_params() == model.count_params()
    loaded.get_layer("shared1").kernel.assign_add(np.ones((3, 3, 16, 16)))
    model.get_layer("shared1").kernel.assign_add(np.ones((3, 3, 16, 16)))
    rows = np.random.default_rng(0).integers(0, 16, (4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(predict(loaded, rows), predict(model, rows), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("audio", CNN1D(filters=(4,), head="gap")), ("text", TextCNN(filters=4)), ("table", MLP(hidden=(4,)))],
)
def test_networks_on_rows_of_every_kind_are_saved_and_reloaded(kind, architecture, tmp_path):
    model = build_model(build_network(architecture, SCHEMAS[kind]), seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=CUSTOM_OBJECTS)
    rows = np.random.default_rng(0).integers(0, 100, (4, *SCHEMAS[kind].shape)).astype(model.inputs[0].dtype)
    np.testing.assert_allclose(predict(loaded, rows), predict(model, rows), rtol=1e-5)
