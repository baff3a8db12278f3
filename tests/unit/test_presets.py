import pytest
from pydantic import TypeAdapter, ValidationError

from app.domain.datasets import DatasetSchema
from app.domain.errors import InvalidArchitectureError, ShapeMismatchError
from app.domain.network import trace
from app.domain.presets import Architecture, build_network, fitting_types

adapter: TypeAdapter[Architecture] = TypeAdapter(Architecture)
ROWS = {"train": 1000, "selection": 200, "report": 200}
TEN = tuple("0123456789")
SCHEMAS = {
    "digits": DatasetSchema(features="image", shape=(8, 8, 1), dtype="uint8", classes=TEN, rows=ROWS),
    "fashion": DatasetSchema(features="image", shape=(28, 28, 1), dtype="uint8", classes=TEN, rows=ROWS),
    "colour": DatasetSchema(features="image", shape=(32, 32, 3), dtype="uint8", classes=TEN, rows=ROWS),
    "spoken": DatasetSchema(
        features="signal", shape=(8000, 1), dtype="int16", sample_rate=8000, classes=TEN, rows=ROWS
    ),
    "mnist1d": DatasetSchema(features="signal", shape=(40, 1), dtype="float32", classes=TEN, rows=ROWS),
    "sms": DatasetSchema(features="text", shape=(200,), dtype="uint8", classes=("ham", "spam"), rows=ROWS),
    "optdigits": DatasetSchema(features="table", shape=(64,), dtype="float32", classes=TEN, rows=ROWS),
    "house": DatasetSchema(features="table", shape=(5,), dtype="float32", task="regression", rows=ROWS),
}
PAIRS = [(name, kind) for name, schema in SCHEMAS.items() for kind in fitting_types(schema) if kind != "graph"]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_every_preset_fits_the_data_that_it_says_it_fits(name, kind):
    network = build_network(adapter.validate_python({"type": kind}), SCHEMAS[name])
    assert trace(network).shapes[network.layers[-1].name] == (SCHEMAS[name].outputs,)


def test_the_reference_cnn_has_the_published_number_of_parameters():
    network = build_network(adapter.validate_python({"type": "reference_cnn"}), SCHEMAS["fashion"])
    assert trace(network).parameters == 421_642
    assert [layer.type for layer in network.layers] == [
        "standardize", "conv2d", "max_pool2d", "conv2d", "max_pool2d", "flatten", "dense", "dense",
    ]  # fmt: skip


def test_trap_13_grouped_blocks_share_convolutions_but_keep_their_own_batch_norm():
    alone = build_network(adapter.validate_python({"type": "resnet", "blocks": 6}), SCHEMAS["fashion"])
    shared = build_network(adapter.validate_python({"type": "resnet", "blocks": 6, "groups": 2}), SCHEMAS["fashion"])
    convolutions = {key for key in trace(shared).variables if key.startswith("group")}
    assert convolutions == {f"group{group}_{conv}/kernel" for group in (1, 2) for conv in ("conv1", "conv2")}
    assert sum("block" in key and "gamma" in key for key in trace(shared).variables) == 12
    assert trace(alone).parameters - trace(shared).parameters == 4 * 2 * 3 * 3 * 32 * 32
    assert trace(alone).macs == trace(shared).macs


@pytest.mark.parametrize(
    ("name", "kind"), [("sms", "cnn"), ("digits", "textcnn"), ("optdigits", "cnn1d"), ("mnist1d", "cnn")]
)
def test_a_preset_that_does_not_fit_names_those_that_do(name, kind):
    with pytest.raises(ShapeMismatchError, match=SCHEMAS[name].features) as caught:
        build_network(adapter.validate_python({"type": kind}), SCHEMAS[name])
    assert "mlp" in caught.value.hint


def test_ngrams_of_bytes_are_weighed_without_embedding():
    network = build_network(adapter.validate_python({"type": "ngrams", "buckets": 512}), SCHEMAS["sms"])
    assert [layer.type for layer in network.layers] == ["hashed_ngrams", "rescale", "dense", "dropout", "dense"]
    assert trace(network).parameters == (512 + 1) * 32 + (32 + 1) * 2


def test_audio_is_scaled_and_becomes_a_spectrum():
    network = build_network(adapter.validate_python({"type": "cnn"}), SCHEMAS["spoken"])
    assert [layer.type for layer in network.layers[:4]] == ["rescale", "log_mel", "batch_norm", "reshape"]
    assert trace(network).shapes["as_image"] == (61, 40, 1)


GRAPH = [
    {"type": "dense", "name": "left", "units": 8, "activation": "relu", "inputs": ["input"]},
    {"type": "dense", "name": "right", "units": 8, "inputs": ["input"]},
    {"type": "add", "name": "sum", "inputs": ["left", "right"]},
    {"type": "dense", "name": "answer", "units": 10},
]


def test_a_graph_takes_the_preprocessed_rows():
    network = build_network(adapter.validate_python({"type": "graph", "layers": GRAPH}), SCHEMAS["optdigits"])
    assert network.layer("left").inputs == ("standardize",)
    assert network.layer("right").inputs == ("standardize",)
    assert trace(network).parameters == 2 * (64 * 8 + 8) + 8 * 10 + 10


def test_a_graph_may_take_the_raw_rows():
    architecture = adapter.validate_python({"type": "graph", "layers": GRAPH, "preprocessing": "none"})
    assert build_network(architecture, SCHEMAS["optdigits"]).layers[0].inputs == ("input",)


def test_a_graph_with_a_wrong_answer_is_refused():
    architecture = adapter.validate_python({"type": "graph", "layers": GRAPH})
    with pytest.raises(ShapeMismatchError):
        trace(build_network(architecture, SCHEMAS["house"]))


def test_a_small_image_leaves_nothing_for_many_poolings_of_the_reference():
    tiny = SCHEMAS["digits"].model_copy(update={"shape": (3, 3, 1)})
    with pytest.raises(InvalidArchitectureError, match="'pool2'"):
        trace(build_network(adapter.validate_python({"type": "reference_cnn"}), tiny))


@pytest.mark.parametrize(
    "kind", ["mlp", "cnn", "cnn1d", "textcnn", "ngrams", "resnet", "separable_cnn", "reference_cnn"]
)
@pytest.mark.parametrize("field", [{"lambda": "x"}, {"dropout": 1.0}, {"dropout": -0.1}, {"custom_objects": {}}])
def test_unknown_fields_and_numbers_out_of_bounds_are_refused(kind, field):
    with pytest.raises(ValidationError):
        adapter.validate_python({"type": kind, **field})


def test_an_architecture_reads_from_json_and_from_python_alike():
    text = '{"type": "cnn", "filters": [8, 16], "dense": []}'
    assert adapter.validate_json(text) == adapter.validate_python({"type": "cnn", "filters": [8, 16], "dense": []})
