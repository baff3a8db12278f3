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
