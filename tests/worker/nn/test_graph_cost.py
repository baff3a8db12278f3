"""What a graph holds and computes, counted from the graph, is what the arithmetic over layers says."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from app.domain import layers as ly
from app.domain.job_errors import ExportMismatchError
from app.domain.network import trace
from app.domain.presets import build_network, fitting_types
from app.serving.graph import WeightedMean, fuse
from tests.unit.test_presets import SCHEMAS, adapter
from tests.worker.nn.test_export import LAYERS, named, network_of, random_weights
from worker.graph_cost import check_cost, graph_cost
from worker.nn.export import to_onnx
from worker.optimize.quantizing import to_float16
from worker.optimize.tidying import tidy


def exported(network, seed=0):
    return to_onnx(network, random_weights(network, seed))


def dense(name, units, **options):
    return ly.Dense(name=name, units=units, **options)


@pytest.mark.parametrize("features", list(SCHEMAS))
def test_every_architecture_costs_what_its_arithmetic_says(features):
    schema = SCHEMAS[features]
    for kind in fitting_types(schema):
        if kind != "graph":
            network = build_network(adapter.validate_python({"type": kind}), schema)
            check_cost(network, trace(network), exported(network))


@pytest.mark.parametrize("pair", LAYERS, ids=named)
def test_trap_41_a_layer_of_any_configuration_costs_what_its_formula_says(pair):
    shape, options = pair
    layer = ly.layer_adapter.validate_python({"name": "layer", **options})
    network = network_of(layer, ly.Flatten(name="flat"), dense("answer", 3), shape=shape)
    check_cost(network, trace(network), exported(network))


def test_trap_34_a_shared_layer_is_counted_once_and_computed_everywhere():
    network = network_of(
        ly.Flatten(name="flat"),
        dense("first", 12),
        dense("second", 12, weights="both"),
        dense("third", 12, weights="both"),
        dense("last", 3),
        shape=(2, 3, 2),
    )
    found = graph_cost(exported(network))
    square = 12 * 12
    assert found.parameters == trace(network).parameters == 2 * (square + 12) + 12 * 3 + 3
    assert found.macs == trace(network).macs == 3 * square + 12 * 3


def test_a_log_mel_front_is_told_apart():
    front = ly.LogMel(name="mel", sample_rate=8000, frame_length=64, frame_step=32, mel_bins=8)
    network = network_of(front, ly.Flatten(name="flat"), dense("last", 3), shape=(400, 1))
    frames = 1 + (400 - 64) // 32
    found = graph_cost(exported(network))
    check_cost(network, trace(network), exported(network))
    assert found.macs == frames * 8 * 3
    assert found.transform_macs == frames * (64 * 66 + 66 * 8)


@pytest.mark.parametrize("features", list(SCHEMAS))
def test_trap_36_neither_names_nor_types_change_what_is_counted(features):
    schema = SCHEMAS[features]
    for kind in fitting_types(schema):
        if kind != "graph":
            network = build_network(adapter.validate_python({"type": kind}), schema)
            graph = exported(network)
            halved = graph_cost(tidy(to_float16(graph)))
            assert graph_cost(tidy(graph)) == graph_cost(graph)
            assert (halved.parameters, halved.macs) == (trace(network).parameters, graph_cost(graph).macs)
            assert halved.bytes_by_type["float16"] > 0


def branch(name, shape):
    return [
        ly.Reshape(name=f"{name}_maps", shape=shape, inputs=("input",)),
        ly.Conv2D(name=f"{name}_conv", filters=shape[-1], kernel_size=(1, 1)),
        ly.Flatten(name=f"{name}_flat"),
        dense(name, 6, weights="both"),
    ]


@pytest.mark.parametrize(("shape", "stored"), [((6, 2, 3), 1), ((2, 2, 9), 2)])
def test_trap_34_a_kernel_behind_maps_of_two_shapes_is_counted_once(shape, stored):
    network = network_of(
        *branch("one", (2, 6, 3)),
        *branch("other", shape),
        ly.Add(name="sum", inputs=("one", "other")),
        dense("last", 3),
        shape=(36,),
    )
    graph = exported(network)
    check_cost(network, trace(network), graph)
    assert sum(tuple(tensor.dims) == (36, 6) for tensor in graph.graph.initializer) == stored
    assert graph_cost(tidy(graph)) == graph_cost(graph)


def test_trap_12_layers_of_equal_values_are_not_counted_as_shared():
    network = network_of(dense("first", 6), dense("second", 6), dense("last", 3), shape=(6,))
    weights = random_weights(network, 0)
    weights |= {f"second/{name}": weights[f"first/{name}"] for name in ("kernel", "bias")}
    assert graph_cost(tidy(to_onnx(network, weights))).parameters == trace(network).parameters


def test_a_graph_that_holds_other_than_the_network_is_refused():
    small, large = (network_of(dense("last", 3), shape=(size,)) for size in (4, 5))
    with pytest.raises(ExportMismatchError, match="18 parameters and 15 multiply-accumulates"):
        check_cost(small, trace(small), exported(large))


def test_statistics_are_no_parameters():
    network = network_of(ly.Standardize(name="scale"), dense("last", 3), shape=(4,))
    assert graph_cost(exported(network)).parameters == 4 * 3 + 3


def test_members_of_a_fusion_add_up():
    network = network_of(dense("last", 3), shape=(4,))
    fused = fuse([exported(network, seed) for seed in (0, 1)], WeightedMean((1.0, 1.0)))
    found = graph_cost(fused)
    assert (found.parameters, found.macs) == (2 * 15, 2 * 12)


def test_trap_36_the_share_of_int8_weights_is_read_from_the_file():
    network = network_of(dense("hidden", 8), dense("last", 3), shape=(4,))
    graph = exported(network)
    assert graph_cost(graph).int8_weight_fraction == 0
    quantized = onnx.ModelProto()
    quantized.CopyFrom(graph)
    kernel = next(tensor for tensor in quantized.graph.initializer if tensor.name == "hidden/kernel")
    kernel.CopyFrom(numpy_helper.from_array(np.ones((4, 8), np.int8), "hidden/kernel_quantized"))
    scale = numpy_helper.from_array(np.float32(0.1), "hidden/kernel_scale")
    quantized.graph.initializer.append(scale)
    back = helper.make_node("DequantizeLinear", ["hidden/kernel_quantized", "hidden/kernel_scale"], ["hidden/kernel"])
    quantized.graph.node.insert(0, back)
    found = graph_cost(quantized)
    floats = 4 * (8 + 8 * 3 + 3) + 4
    assert found.bytes_by_type == {"float32": floats, "int8": 32}
    assert found.int8_weight_fraction == pytest.approx(32 / (floats + 32))
    assert (found.parameters, found.macs) == (graph_cost(graph).parameters, graph_cost(graph).macs)
