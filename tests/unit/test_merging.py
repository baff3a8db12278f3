"""Members that are computed as one answer what they answer alone, whatever they are made of."""

from collections import Counter
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from app.domain import fusion as numpy_fusion
from app.domain import layers as ly
from app.domain.network import InputSpec, Network, trace
from app.domain.presets import build_network
from app.serving.cascade import Cascade, cascade_graph
from app.serving.graph import Fusion, LogitSum, MetaLearner, WeightedMean, fuse
from app.serving.merging import merge_alike, variants
from app.serving.openvino_engine import OpenVinoEngine
from app.serving.runtime import load_engine
from app.serving.sharing import share_common
from tests.unit.test_graph import member
from tests.unit.test_presets import SCHEMAS, adapter
from worker.nn.export import to_onnx
from worker.optimize.quantizing import to_float16

TOLERANCE = 1e-5
CLASSES = 3
Floats = np.ndarray


def weights(network: Network, seed: int, *, own_statistics: bool = False) -> dict[str, Floats]:
    """Return weights that keep the scale of what they meet, so that answers are neither 0 nor 1."""
    rng = np.random.default_rng(seed)
    data = rng if own_statistics else np.random.default_rng(0)
    found = {}
    for name, shape in trace(network).variables.items():
        kind = name.rsplit("/", 1)[1]
        if kind in ("mean", "deviation"):
            values = data.uniform(0.5, 2, shape)
        elif kind in ("gamma", "moving_variance"):
            values = rng.uniform(0.5, 2, shape)
        else:
            values = rng.normal(0, max(1, np.prod(shape[:-1])) ** -0.5, shape)
        found[name] = values.astype(np.float32)
    return found


def members_of(network: Network, count: int, *, first: int = 0, **options: bool) -> list[onnx.ModelProto]:
    return [to_onnx(network, weights(network, seed, **options)) for seed in range(first, first + count)]


def raw_rows(graph: onnx.ModelProto, count: int = 7) -> Floats:
    taken = graph.graph.input[0].type.tensor_type
    shape = (count, *(axis.dim_value for axis in taken.shape.dim[1:]))
    rng = np.random.default_rng(5)
    if taken.elem_type == onnx.TensorProto.UINT8:
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def answers(graph: onnx.ModelProto, rows: Floats) -> dict[str, Floats]:
    engine = load_engine(graph.SerializeToString())
    return dict(zip(engine.outputs, engine.run(rows, engine.outputs), strict=True))


def operators(graph: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph.node)


def merged_alike(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the merged graph, which is valid and answers the same."""
    merged = merge_alike(graph)
    assert merged is not None
    onnx.checker.check_model(merged, full_check=True)
    before, after = answers(graph, raw_rows(graph)), answers(merged, raw_rows(graph))
    assert list(before) == list(after)
    for name, values in before.items():
        assert values.shape == after[name].shape
        assert np.abs(values - after[name]).max() <= TOLERANCE * max(1, np.abs(values).max()), name
    return merged


def assert_apart(graph: onnx.ModelProto, count: int) -> None:
    """Check that members answer differently: else a mix-up of members would go unseen."""
    found = answers(graph, raw_rows(graph))
    suffix = "prediction" if "prediction" in found else "probabilities"
    own = [found[f"member.{index}.{suffix}"] for index in range(count)]
    assert all(np.abs(one - other).max() > 1e-3 for one, other in pairwise(own))


PRESETS = [
    ("digits", {"type": "cnn", "filters": [4, 6], "dense": [5]}),
    ("digits", {"type": "cnn", "filters": [4], "head": "gap", "dense": [], "convolutions": 2}),
    ("digits", {"type": "resnet", "width": 4, "blocks": 2, "groups": 1}),
    ("digits", {"type": "separable_cnn", "filters": [4, 6]}),
    ("digits", {"type": "reference_cnn"}),
    ("colour", {"type": "cnn", "filters": [4, 6], "dense": [5], "batch_norm": False}),
    ("mnist1d", {"type": "cnn1d", "filters": [4, 6]}),
    ("spoken", {"type": "cnn1d", "filters": [4]}),
    ("sms", {"type": "textcnn", "filters": 4, "dense": [5]}),
    ("sms", {"type": "ngrams", "buckets": 64, "hidden": [6]}),
    ("optdigits", {"type": "mlp", "hidden": [8, 6], "batch_norm": True}),
    ("optdigits", {"type": "mlp", "hidden": [8], "activation": "silu"}),
    ("house", {"type": "mlp", "hidden": [8, 6]}),
]


@pytest.mark.parametrize(("name", "preset"), PRESETS, ids=lambda value: value if isinstance(value, str) else "")
def test_alike_members_of_every_preset_need_the_weighted_nodes_of_one(name, preset):
    network = build_network(adapter.validate_python(preset), SCHEMAS[name])
    members = members_of(network, 3)
    graph = fuse(members, WeightedMean((1, 2, 3)))
    assert_apart(graph, 3)
    one, all_of_them = operators(share_common(members[0])), operators(merged_alike(graph))
    assert all_of_them["Conv"] == one["Conv"]
    assert all_of_them["Gemm"] + all_of_them["MatMul"] == one["Gemm"] + one["MatMul"]
    assert all_of_them["Softmax"] == one["Softmax"]


ACTIVATIONS = ["linear", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus"]
Block = list[dict[str, object]]


def along(axes: int, kind: str) -> str:
    return f"{kind}{axes}d"


@st.composite
def blocks(draw: st.DrawFn, name: str, axes: int) -> Block:
    """Draw layers that take the one before; the last one is called by the name."""
    activation = draw(st.sampled_from(ACTIVATIONS))
    dense: dict[str, object] = {"type": "dense", "units": 4, "activation": activation, "use_bias": draw(st.booleans())}
    normalized: dict[str, object] = {"type": "batch_norm"}
    if not axes:
        return [{**draw(st.sampled_from([dense, normalized])), "name": name}]
    convolution = {
        "type": along(axes, "conv"),
        "filters": 4,
        "kernel_size": draw(st.integers(1, 3)),
        "strides": draw(st.integers(1, 2)),
        "activation": activation,
        "use_bias": draw(st.booleans()),
    }
    separable = {"type": along(axes, "separable_conv"), "filters": 4, "kernel_size": 2}
    pool = {"type": along(axes, draw(st.sampled_from(["max_pool", "avg_pool"]))), "pool_size": 2, "padding": "same"}
    kind = draw(st.sampled_from(["plain", "branches", "groups"]))
    if kind == "plain":
        return [{**draw(st.sampled_from([dense, normalized, convolution, separable, pool])), "name": name}]
    if kind == "groups":
        grouped = {**convolution, "name": name, "groups": 2}
        return [{**convolution, "name": f"{name}_before"}, grouped]
    sides = [{**convolution, "name": f"{name}_side"}, {**convolution, "activation": "relu", "name": f"{name}_other"}]
    joint = {"type": draw(st.sampled_from(["add", "concat"])), "inputs": [f"{name}_side", f"{name}_other"]}
    return [{**normalized, "name": f"{name}_norm"}, *({**side, "inputs": [f"{name}_norm"]} for side in sides),
            {**joint, "name": name}]  # fmt: skip


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Draw small networks of images, signals and tables."""
    shape = draw(st.sampled_from([(6, 5, 2), (8, 8, 1), (9, 3), (7,)]))
    axes = len(shape) - 1
    layers: Block = [{"type": "standardize", "name": "standardize"}] if draw(st.booleans()) else []
    for number in range(draw(st.integers(0, 3))):
        layers += draw(blocks(f"block{number}", axes))
    if axes:
        layers.append(
            {"type": draw(st.sampled_from(["flatten", "global_avg_pool", "global_max_pool"])), "name": "head"}
        )
    for number in range(draw(st.integers(0, 2))):
        layers += draw(blocks(f"hidden{number}", 0))
    layers.append({"type": "dense", "name": "answer", "units": CLASSES})
    found = tuple(ly.layer_adapter.validate_python(layer, strict=False) for layer in layers)
    return Network(input=InputSpec(shape=shape), layers=found, classes=CLASSES)


@st.composite
def fusions(draw: st.DrawFn, members: int) -> Fusion:
    numbers = tuple(draw(st.lists(st.floats(0.1, 2), min_size=members, max_size=members)))
    kind = draw(st.sampled_from(["mean", "calibrated", "logits", "meta"]))
    if kind == "mean":
        return WeightedMean(numbers)
    if kind == "calibrated":
        return WeightedMean(numbers, numbers, draw(st.sampled_from([1.0, 1.5])))
    if kind == "logits":
        return LogitSum(numbers, draw(st.sampled_from([(), (0.5, -0.5, 0.0)])))
    rng = np.random.default_rng(members)
    return MetaLearner(
        rng.normal(0, 0.3, (members * CLASSES, CLASSES)).astype(np.float32), np.zeros(CLASSES, np.float32)
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), network=networks(), count=st.integers(2, 4), own=st.booleans())
def test_merged_members_of_any_structure_answer_as_they_do_apart(data, network, count, own):
    fusion = data.draw(fusions(count))
    merged_alike(fuse(members_of(network, count, own_statistics=own), fusion))


@settings(max_examples=15, deadline=None)
@given(network=networks(), numbers=st.lists(st.floats(0.1, 2), min_size=2, max_size=4))
def test_a_merged_graph_fuses_by_the_formula(network, numbers):
    merged = merged_alike(fuse(members_of(network, len(numbers)), WeightedMean(tuple(numbers))))
    found = answers(merged, raw_rows(merged))
    own = np.stack([found[f"member.{index}.probabilities"] for index in range(len(numbers))]).astype(np.float64)
    expected = numpy_fusion.weighted_mean(own, np.array(numbers))
    assert np.abs(found["probabilities"] - expected).max() < TOLERANCE


def cnn(**options: object) -> Network:
    preset = {"type": "cnn", "filters": [4], "dense": [5], **options}
    return build_network(adapter.validate_python(preset), SCHEMAS["digits"])


def test_only_alike_members_are_merged():
    alike, other = members_of(cnn(), 2), to_onnx(cnn(filters=[6]), weights(cnn(filters=[6]), 9))
    graph = fuse([alike[0], other, alike[1]], WeightedMean((1, 2, 3)))
    assert operators(graph)["Conv"] == 3
    assert operators(merged_alike(graph))["Conv"] == 2


def test_two_kinds_of_members_are_merged_apart():
    first, second = members_of(cnn(), 2), members_of(cnn(dense=[5, 4]), 2, first=2)
    graph = fuse([first[0], second[0], first[1], second[1]], WeightedMean((1, 2, 3, 4)))
    assert operators(merged_alike(graph))["Conv"] == 2


def test_members_with_and_without_temperature_are_merged_up_to_there():
    graph = fuse(members_of(cnn(), 3), WeightedMean((1, 1, 1), (1.0, 2.0, 0.5)))
    assert operators(merged_alike(graph))["Conv"] == 1


def test_members_of_ensembles_in_an_ensemble_are_merged():
    members = members_of(cnn(), 5)
    inner = [fuse(members[start : start + 2], WeightedMean((1, 2))) for start in (0, 2)]
    assert operators(merged_alike(fuse([*inner, members[4]], WeightedMean((1, 2, 3)))))["Conv"] == 1


def test_the_same_member_twice_is_computed_once():
    members = members_of(cnn(), 2)
    graph = fuse([members[0], members[1], members[0]], WeightedMean((1, 2, 3)))
    assert operators(graph)["Conv"] == 2
    merge_alike(graph)


def test_a_set_of_classes_is_answered_as_before():
    graph = fuse(members_of(cnn(), 2), WeightedMean((1, 2)), level=0.1)
    assert "prediction_set" in answers(merged_alike(graph), raw_rows(graph))


@pytest.mark.parametrize("taken", [("weighted.0", "weighted.1", "weighted.0"), ("weighted.1", "x.of_nothing")])
def test_a_sum_that_takes_members_otherwise_stays_a_sum(taken):
    graph = fuse(members_of(cnn(), 2), WeightedMean((1, 2)))
    added = next(node for node in graph.graph.node if node.op_type == "Sum")
    added.input[:] = taken
    graph.graph.initializer.append(numpy_helper.from_array(np.ones(10, np.float32), "x.of_nothing"))
    assert operators(merged_alike(graph))["Sum"] == 1


def test_batches_of_no_rows_and_of_one_are_answered():
    merged = merged_alike(fuse(members_of(cnn(), 2), WeightedMean((1, 2))))
    for count in (0, 1):
        assert answers(merged, raw_rows(merged, count))["probabilities"].shape == (count, 10)


def with_operator(model: onnx.ModelProto, operator: str, place: int, **attributes: object) -> onnx.ModelProto:
    """Let an operator that keeps the shape act on what a node answers."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    name = changed.graph.node[place].output[0]
    changed.graph.node[place].output[0] = changed.graph.node[place].name = "before"
    changed.graph.node.insert(place + 1, helper.make_node(operator, ["before"], [name], name=name, **attributes))
    return changed


@pytest.mark.parametrize("place", range(3, 7))
def test_members_go_apart_where_an_operator_has_no_rule(place):
    members = [with_operator(one, "LpNormalization", place, axis=1) for one in members_of(cnn(), 3)]
    merged = merged_alike(fuse(members, WeightedMean((1, 2, 3))))
    assert operators(merged)["LpNormalization"] == 3
    assert operators(merged)["Conv"] == 1


def test_a_kernel_that_is_used_both_ways_round_stays_right():
    """As in an autoencoder with tied weights."""
    rng = np.random.default_rng(0)

    def tied(seed: int) -> onnx.ModelProto:
        own = onnx.ModelProto()
        own.CopyFrom(member(seed, outputs=4))
        kernel = rng.normal(size=(4, 4)).astype(np.float32)
        del own.graph.initializer[1]
        own.graph.initializer.append(numpy_helper.from_array(kernel, "kernel"))
        own.graph.node[0].output[0] = "start"
        own.graph.node.insert(1, helper.make_node("Gemm", ["start", "kernel"], ["there"], name="there"))
        own.graph.node.insert(2, helper.make_node("Gemm", ["there", "kernel"], ["again"], name="again"))
        own.graph.node.insert(3, helper.make_node("Gemm", ["again", "kernel"], ["scaled"], name="back", transB=1))
        return own

    merged_alike(fuse([tied(0), tied(1)], WeightedMean((1, 2))))


def scaled_gemm(seed: int) -> onnx.ModelProto:
    own = member(seed)
    own.graph.node[1].attribute.append(helper.make_attribute("alpha", 0.5))
    return own


def test_what_cannot_be_merged_is_none():
    cascade = cascade_graph(members_of(cnn(), 2), Cascade((0.5,), (1.0, 1.0)))
    unlike = fuse([members_of(cnn(), 1)[0], members_of(cnn(dense=[6]), 1)[0]], WeightedMean((1, 1)))
    scaled = fuse([scaled_gemm(0), scaled_gemm(1)], WeightedMean((1, 1)))
    halves = fuse([to_float16(one) for one in members_of(cnn(), 2)], WeightedMean((1, 1)))
    alone = fuse(members_of(cnn(), 1), WeightedMean((1,)))
    for graph in (cascade, unlike, scaled, halves, alone, members_of(cnn(), 1)[0]):
        assert merge_alike(graph) is None
        assert [name for name, _ in variants(graph)] == ["plain"]


def test_variants_are_the_plain_graph_and_the_merged_one():
    graph = fuse(members_of(cnn(), 2), WeightedMean((1, 2)))
    found = variants(graph)
    assert [name for name, _ in found] == ["plain", "merged"]
    before = graph.SerializeToString(deterministic=True)
    assert found[0][1].SerializeToString(deterministic=True) == before
    assert graph.SerializeToString(deterministic=True) == before


def test_openvino_answers_the_merged_graph_alike():
    pytest.importorskip("openvino")
    graph = fuse(members_of(cnn(), 3), WeightedMean((1, 2, 3)))
    rows, expected = raw_rows(graph), answers(graph, raw_rows(graph))
    merged = merged_alike(graph).SerializeToString()
    engine = OpenVinoEngine(merged, tuple(expected), like=load_engine(merged, threads=1), threads=1)
    for found, wanted in zip(engine.run(rows, tuple(expected)), expected.values(), strict=True):
        assert np.abs(found - wanted).max() < TOLERANCE
