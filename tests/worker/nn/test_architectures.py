import numpy as np
import pytest

from app.domain import layers as ly
from app.domain.network import InputSpec, Network, trace
from app.domain.presets import build_network
from tests.unit.test_presets import SCHEMAS, adapter


def stacked(*, shared: bool) -> Network:
    """Return a network in which the same dense layer stands twice, shared or not."""
    layers = [
        ly.Dense(name="first", units=4, activation="tanh"),
        ly.Dense(name="second", units=4, weights="first" if shared else None),
        ly.Dense(name="answer", units=2),
    ]
    return Network(input=InputSpec(shape=(4,)), layers=tuple(layers), classes=2)


def gradients(network: Network, weights: dict[str, np.ndarray], rows: np.ndarray, labels: np.ndarray):
    """Return the gradient of the cross-entropy for every variable."""
    from worker.nn.gradients import batch_gradients
    from worker.nn.objectives import plain_objective
    from worker.nn.training import Rows

    targets = np.eye(2, dtype=np.float32)[labels]
    taught = Rows(rows, targets, rows[:0], targets[:0])
    (found,) = batch_gradients(
        network, weights, taught, plain_objective("classification"), seed=0, batch_size=len(rows), batches=1
    )
    return found


def test_trap_11_sharing_is_of_variables():
    from worker.nn.architectures import build_model, extract_weights, variables_by_name

    network = stacked(shared=True)
    model = build_model(network, seed=0)
    positions = 2 * len(network.layers)
    assert len({id(variable) for variable in model.weights}) == len(variables_by_name(model)) == 4 < positions
    assert model.count_params() == trace(network).parameters == (16 + 4) + (8 + 2)
    assert set(extract_weights(model)) == set(trace(network).variables)

    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 2, 8)
    weights = extract_weights(model)
    apart = {**weights, "second/kernel": weights["first/kernel"], "second/bias": weights["first/bias"]}
    copied = gradients(stacked(shared=False), apart, rows, labels)
    summed = copied["first/kernel"] + copied["second/kernel"]
    assert np.allclose(gradients(network, weights, rows, labels)["first/kernel"], summed, atol=1e-6)


def test_trap_11_one_step_changes_both_places():
    from worker.nn.architectures import build_model, extract_weights

    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 2, 8)
    model = build_model(stacked(shared=True), seed=0)
    before = extract_weights(model)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(rows, labels)
    after = extract_weights(model)
    assert not np.array_equal(before["first/kernel"], after["first/kernel"])
    apart = {**after, "second/kernel": after["first/kernel"], "second/bias": after["first/bias"]}
    unshared = build_model(stacked(shared=False), apart, seed=1)
    assert np.allclose(model(rows), unshared(rows), atol=1e-6)


@pytest.mark.parametrize("name", ["digits", "spoken", "sms", "optdigits"])
def test_the_model_has_the_variables_that_arithmetic_says(name):
    from worker.nn.architectures import build_model, variables_by_name

    kind = {"digits": "resnet", "spoken": "separable_cnn", "sms": "textcnn", "optdigits": "mlp"}[name]
    network = build_network(adapter.validate_python({"type": kind}), SCHEMAS[name])
    found = {key: tuple(variable.shape) for key, variable in variables_by_name(build_model(network, seed=0)).items()}
    assert found == trace(network).variables


def test_trap_13_shared_blocks_have_batch_norm_of_their_own():
    from worker.nn.architectures import build_model

    architecture = adapter.validate_python({"type": "resnet", "blocks": 4, "groups": 1, "width": 8})
    model = build_model(build_network(architecture, SCHEMAS["digits"]), seed=0)
    assert sum(layer.name.startswith("group1") for layer in model.layers) == 2
    assert sum(layer.name.startswith("block") and layer.name.endswith("_norm") for layer in model.layers) == 8


def test_trap_14_members_of_different_seeds_start_apart_and_of_one_seed_alike():
    from worker.nn.architectures import build_model, extract_weights

    network = build_network(adapter.validate_python({"type": "cnn"}), SCHEMAS["digits"])
    first, again, other = (extract_weights(build_model(network, seed=seed)) for seed in (1, 1, 2))
    kernels = [name for name in first if name.endswith("kernel")]
    assert all(np.array_equal(first[name], again[name]) for name in kernels)
    assert all(np.abs(first[name] - other[name]).mean() > 1e-3 for name in kernels)


def test_layers_of_equal_shape_start_apart():
    from worker.nn.architectures import build_model, extract_weights

    weights = extract_weights(build_model(stacked(shared=False), seed=0))
    assert np.abs(weights["first/kernel"] - weights["second/kernel"]).mean() > 1e-2


def test_predictions_do_not_depend_on_the_batch():
    from worker.nn.architectures import build_model, predict

    network = build_network(adapter.validate_python({"type": "cnn"}), SCHEMAS["digits"])
    rows = np.random.default_rng(0).integers(0, 17, (10, 8, 8, 1)).astype(np.uint8)
    model = build_model(network, seed=0)
    assert np.allclose(predict(model, rows, batch_size=3), predict(model, rows), atol=1e-5)
    assert predict(model, rows[:0]).shape == (0, 10)
