import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.domain import layers as ly
from app.domain.datasets import DatasetSchema
from app.domain.errors import ShapeMismatchError
from app.domain.job_errors import ExportMismatchError
from app.domain.network import InputSpec, Network, trace
from app.domain.presets import build_network, fitting_types
from app.serving.runtime import load_engine, predict_rows
from tests.unit.test_presets import SCHEMAS, adapter
from tests.worker.nn.backends import needs_tensorflow
from worker.nn.export import check_parity, to_onnx

IMAGE, SIGNAL, VECTOR = (9, 7, 3), (11, 3), (12,)
LAYERS: list[tuple[tuple[int, ...], dict[str, object]]] = [
    (VECTOR, {"type": "standardize"}),
    (IMAGE, {"type": "standardize"}),
    (VECTOR, {"type": "rescale", "scale": 0.5, "offset": -1.0}),
    (VECTOR, {"type": "embedding", "vocabulary": 9, "width": 4}),
    (VECTOR, {"type": "hashed_ngrams", "sizes": [1, 3], "buckets": 19}),
    ((400, 1), {"type": "log_mel", "sample_rate": 8000, "frame_length": 64, "frame_step": 32, "mel_bins": 8}),
    (SIGNAL, {"type": "reshape", "shape": [3, 11]}),
    (IMAGE, {"type": "reshape", "shape": [21, 9]}),
    *[
        (SIGNAL, {"type": "conv1d", "filters": 4, "kernel_size": size, "strides": stride, "padding": padding})
        for size in (1, 2, 3)
        for stride in (1, 2)
        for padding in ("same", "valid")
    ],
    (SIGNAL, {"type": "conv1d", "filters": 4, "dilation": 2, "use_bias": False}),
    (IMAGE, {"type": "conv2d", "filters": 4, "kernel_size": [3, 2], "strides": [2, 1], "activation": "relu"}),
    (IMAGE, {"type": "conv2d", "filters": 4, "kernel_size": 2, "strides": 3, "padding": "valid"}),
    (IMAGE, {"type": "conv2d", "filters": 4, "dilation": [2, 1], "use_bias": False, "padding": "valid"}),
    ((9, 7, 1), {"type": "conv2d", "filters": 4}),
    ((9, 7, 4), {"type": "conv2d", "filters": 6, "groups": 2, "strides": 2, "use_bias": False}),
    ((9, 7, 4), {"type": "conv2d", "filters": 8, "groups": 4, "kernel_size": [2, 3], "padding": "valid"}),
    ((11, 4), {"type": "conv1d", "filters": 6, "groups": 2, "dilation": 2}),
    *[
        (IMAGE, {"type": kind, "strides": stride, "padding": padding, "use_bias": bias, "depth_multiplier": 2, **more})
        for kind, more in (("depthwise_conv2d", {}), ("separable_conv2d", {"filters": 5}))
        for stride, padding, bias in ((1, "same", True), (2, "same", False), (2, "valid", True))
    ],
    *[
        (SIGNAL, {"type": "separable_conv1d", "filters": 5, "strides": stride, "padding": padding, "use_bias": bias})
        for stride, padding, bias in ((1, "same", True), (2, "same", False), (2, "valid", True))
    ],
    (VECTOR, {"type": "dense", "units": 5}),
    (VECTOR, {"type": "dense", "units": 5, "use_bias": False}),
    (SIGNAL, {"type": "dense", "units": 5, "activation": "tanh"}),
    (IMAGE, {"type": "dense", "units": 5, "use_bias": False}),
    *[(shape, {"type": "batch_norm"}) for shape in (VECTOR, SIGNAL, IMAGE)],
    *[
        (VECTOR, {"type": "activation", "activation": name})
        for name in ("linear", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus")
    ],
    *[
        (shape, {"type": f"{kind}_pool{axes}d", "pool_size": size, "strides": stride, "padding": padding})
        for axes, shape in ((1, SIGNAL), (2, IMAGE))
        for kind in ("max", "avg")
        for size, stride, padding in ((2, None, "valid"), (3, 2, "same"))
    ],
    *[(shape, {"type": f"global_{kind}_pool"}) for kind in ("avg", "max") for shape in (SIGNAL, IMAGE)],
    (IMAGE, {"type": "flatten"}),
    (IMAGE, {"type": "dropout", "rate": 0.5}),
]


def network_of(*layers: ly.Layer, shape: tuple[int, ...], classes: int = 3, **options: object) -> Network:
    return Network(input=InputSpec(shape=shape), layers=layers, classes=classes, **options)


def random_weights(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Return weights in which no variable has a neutral value: variances and deviations are positive."""
    rng = np.random.default_rng(seed)
    positive = ("moving_variance", "deviation")
    return {
        name: (rng.uniform(0.5, 2, shape) if name.endswith(positive) else rng.normal(0, 0.5, shape)).astype(np.float32)
        for name, shape in trace(network).variables.items()
    }


def parity(network: Network, rows: np.ndarray) -> float:
    from worker.nn.architectures import build_model

    weights = random_weights(network)
    return check_parity(build_model(network, weights, seed=0), to_onnx(network, weights), rows, tolerance=1e-5)


def named(pair: tuple[tuple[int, ...], dict[str, object]]) -> str:
    shape, options = pair
    return "-".join([str(len(shape)), *(str(value) for value in options.values())])


@pytest.mark.parametrize("pair", LAYERS, ids=named)
def test_a_layer_computes_in_onnx_what_it_computes_in_keras(pair):
    shape, options = pair
    layer = ly.layer_adapter.validate_python({"name": "layer", **options})
    # A convolution before and a dense layer behind show that the layout of the numbers is right on both sides.
    before = {2: ly.Conv1D, 3: ly.Conv2D}.get(len(shape))
    mixed = (
        [before(name="before", filters=shape[-1])] if before and layer.type not in ("log_mel", "standardize") else []
    )
    network = network_of(*mixed, layer, ly.Flatten(name="flat"), ly.Dense(name="answer", units=3), shape=shape)
    rows = np.random.default_rng(1).normal(0, 3, (4, *shape)).astype(np.float32)
    assert parity(network, rows) <= 1e-5


def test_branches_of_unlike_layout_meet():
    network = network_of(
        ly.Conv2D(name="conv", filters=4),
        ly.Conv2D(name="side", filters=4, kernel_size=1, inputs=("input",)),
        ly.Add(name="sum", inputs=("conv", "side")),
        ly.Concat(name="joined", inputs=("sum", "input")),
        ly.Flatten(name="flat"),
        ly.Flatten(name="flat_input", inputs=("input",)),
        ly.Concat(name="vector", inputs=("flat", "flat_input")),
        ly.BatchNorm(name="norm"),
        ly.Dropout(name="drop", rate=0.3),
        ly.Dense(name="answer", units=3),
        shape=(5, 4, 2),
    )
    assert parity(network, np.random.default_rng(1).normal(size=(4, 5, 4, 2)).astype(np.float32)) <= 1e-5


def test_a_vector_keeps_the_order_of_its_maps_through_reshape_and_norm():
    network = network_of(
        ly.Conv1D(name="conv", filters=6),
        ly.Flatten(name="flat"),
        ly.BatchNorm(name="norm"),
        ly.Reshape(name="folded", shape=(6, 8)),
        ly.Conv1D(name="again", filters=2),
        ly.Flatten(name="flat_again"),
        ly.Activation(name="relu", activation="relu"),
        ly.Dense(name="answer", units=3),
        shape=(8, 2),
    )
    assert parity(network, np.random.default_rng(1).normal(size=(4, 8, 2)).astype(np.float32)) <= 1e-5


def test_layers_may_be_called_like_inputs_and_outputs_of_the_graph():
    network = network_of(
        ly.Dense(name="x", units=4),
        ly.Dense(name="probabilities", units=4),
        ly.Dense(name="logits", units=3),
        shape=(4,),
    )
    assert parity(network, np.ones((2, 4), np.float32)) <= 1e-5


PAIRS = [(name, kind) for name in SCHEMAS for kind in fitting_types(SCHEMAS[name]) if kind not in ("graph", "mlp")]


@pytest.mark.parametrize(("name", "kind"), [*PAIRS, ("sms", "mlp"), ("house", "mlp")])
def test_a_preset_computes_in_onnx_what_it_computes_in_keras(name, kind):
    from worker.nn.architectures import build_model, extract_weights

    network = build_network(adapter.validate_python({"type": kind}), SCHEMAS[name])
    model = build_model(network, seed=3)
    rows = raw_rows(SCHEMAS[name], 3)
    assert check_parity(model, to_onnx(network, extract_weights(model)), rows) <= 1e-4


def raw_rows(schema: DatasetSchema, count: int) -> np.ndarray:
    """Return rows of the data set's own type: bytes, samples or numbers."""
    rng = np.random.default_rng(0)
    if schema.dtype == "float32":
        return rng.normal(size=(count, *schema.shape)).astype(np.float32)
    largest = 255 if schema.dtype == "uint8" else 3000
    return rng.integers(0 if schema.dtype == "uint8" else -largest, largest, (count, *schema.shape)).astype(
        schema.dtype
    )


def test_the_graph_is_of_opset_20_and_names_what_it_takes_and_answers():
    network = build_network(adapter.validate_python({"type": "cnn"}), SCHEMAS["digits"])
    graph = to_onnx(network, random_weights(network))
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 20)]
    assert graph.ir_version == 10
    engine = load_engine(graph.SerializeToString())
    assert (engine.shape, engine.dtype, engine.outputs) == ((8, 8, 1), "float32", ("probabilities", "logits"))
    assert np.allclose(predict_rows(engine, raw_rows(SCHEMAS["digits"], 5), "probabilities").sum(axis=1), 1)


def test_text_goes_in_as_bytes():
    network = build_network(adapter.validate_python({"type": "textcnn"}), SCHEMAS["sms"])
    assert load_engine(to_onnx(network, random_weights(network)).SerializeToString()).dtype == "uint8"


def test_a_regression_answers_its_prediction():
    network = build_network(adapter.validate_python({"type": "mlp"}), SCHEMAS["house"])
    assert load_engine(to_onnx(network, random_weights(network)).SerializeToString()).outputs == ("prediction",)


def test_trap_12_a_shared_variable_is_one_initializer_also_where_values_differ():
    shared = build_network(adapter.validate_python({"type": "resnet", "blocks": 6, "groups": 1}), SCHEMAS["digits"])
    alone = build_network(adapter.validate_python({"type": "resnet", "blocks": 6}), SCHEMAS["digits"])
    stored = {
        tensor.name: numpy_helper.to_array(tensor).size
        for tensor in to_onnx(shared, random_weights(shared)).graph.initializer
    }
    assert stored["group1_conv1/kernel"] == 3 * 3 * 32 * 32
    assert sum(name.startswith("group1_conv") for name in stored) == 2
    # Equal copies hide in a file that merges equal constants; copies that differ a little do not.
    copies = random_weights(alone)
    kernels = [name for name in copies if "_conv" in name and name.endswith("kernel")]
    for index, name in enumerate(kernels):
        copies[name] = copies[kernels[0]] + np.float32(1e-3 * index)
    sizes = [
        len(to_onnx(alone, copies).SerializeToString()),
        len(to_onnx(shared, random_weights(shared)).SerializeToString()),
    ]
    assert sizes[0] > 4 * sizes[1]


def test_a_graph_that_differs_from_the_model_is_refused():
    from worker.nn.architectures import build_model

    network = network_of(ly.Dense(name="answer", units=3), shape=(4,))
    weights = random_weights(network)
    model = build_model(network, weights, seed=0)
    rows = np.ones((2, 4), np.float32)
    changed = {**weights, "answer/bias": weights["answer/bias"] + np.float32([0.01, 0, 0])}
    with pytest.raises(ExportMismatchError, match="differs from the model by"):
        check_parity(model, to_onnx(network, changed), rows)
    broken = {**weights, "answer/bias": np.float32([np.nan, 0, 0])}
    with pytest.raises(ExportMismatchError, match="nan"):
        check_parity(model, to_onnx(network, broken), rows)


def test_parity_is_found_in_full_float32_whatever_a_training_computes_in(monkeypatch):
    tf = needs_tensorflow("the switch that is watched is TensorFlow's own")
    from worker.nn import architectures

    network = network_of(ly.Dense(name="answer", units=3), shape=(4,))
    weights = random_weights(network)
    model = architectures.build_model(network, weights, seed=0)
    rounded, predict = [], architectures.predict

    def watched(*given: object) -> np.ndarray:
        rounded.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return predict(*given)

    monkeypatch.setattr(architectures, "predict", watched)
    assert tf.config.experimental.tensor_float_32_execution_enabled()
    check_parity(model, to_onnx(network, weights), np.ones((2, 4), np.float32))
    assert rounded == [False]
    assert tf.config.experimental.tensor_float_32_execution_enabled()


def test_weights_of_another_network_are_refused():
    from worker.nn.architectures import build_model

    network = network_of(ly.Dense(name="answer", units=3), shape=(4,))
    with pytest.raises(ShapeMismatchError, match="no variable"):
        build_model(network, {"other/kernel": np.zeros((4, 3), np.float32)}, seed=0)
    with pytest.raises(ShapeMismatchError, match="has the shape"):
        build_model(network, {"answer/kernel": np.zeros((3, 4), np.float32)}, seed=0)


def test_the_checker_accepts_the_graph_with_its_inferred_shapes():
    network = build_network(adapter.validate_python({"type": "cnn"}), SCHEMAS["spoken"])
    onnx.checker.check_model(to_onnx(network, random_weights(network)), full_check=True)
