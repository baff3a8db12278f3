import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from app.serving.cascade import Cascade, cascade_graph
from app.serving.graph import WeightedMean, fuse
from app.serving.runtime import load_engine
from app.serving.sharing import asked_only, share_common
from tests.unit.test_graph import member, rows


def model(nodes: list[onnx.NodeProto], outputs: list[str], **numbers: object) -> onnx.ModelProto:
    """Return a graph that takes `x` (batch, 4)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in numbers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def node(operator: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def operators(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def answers(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    engine = load_engine(graph.SerializeToString())
    return dict(zip(engine.outputs, engine.run(rows(6), engine.outputs), strict=True))


def test_members_scale_what_they_take_only_once():
    graph = fuse([member(0), member(1), member(2)], WeightedMean((1, 2, 3)))
    assert operators(graph).count("Mul") == 1 + 3
    assert operators(graph).count("Gemm") == 3


def test_formulas_of_formulas_are_shared_to_the_bit():
    shared = share_common(
        model(
            [
                node("Relu", ["x"], "a"),
                node("Relu", ["x"], "b"),
                node("Mul", ["a", "two"], "c"),
                node("Mul", ["b", "two"], "d"),
                node("Sum", ["c", "d"], "y"),
            ],
            ["y"],
            two=2,
        )
    )
    assert operators(shared) == ["Relu", "Mul", "Sum"]
    assert np.array_equal(answers(shared)["y"], 4 * np.maximum(rows(6), 0))


def test_attributes_and_order_of_inputs_keep_nodes_apart():
    nodes = [
        node("LeakyRelu", ["x"], "a", alpha=0.1),
        node("LeakyRelu", ["x"], "b", alpha=0.2),
        node("Sub", ["a", "b"], "c"),
        node("Sub", ["b", "a"], "d"),
        node("Sum", ["c", "d"], "y"),
    ]
    assert operators(share_common(model(nodes, ["y"]))) == [one.op_type for one in nodes]


def test_every_output_keeps_its_name_though_two_are_equal():
    found = answers(share_common(model([node("Relu", ["x"], "y"), node("Relu", ["x"], "z")], ["y", "z"])))
    assert np.array_equal(found["y"], found["z"])


def test_drawn_numbers_are_never_shared():
    nodes = [node("RandomNormalLike", ["x"], name) for name in "ab"]
    assert operators(share_common(model([*nodes, node("Sub", ["a", "b"], "y")], ["y"]))).count("RandomNormalLike") == 2


def test_what_no_output_needs_is_left_out():
    nodes = [node("Relu", ["x"], "y"), node("Mul", ["x", "two"], "unused"), node("Neg", ["unused"], "unused.too")]
    shared = share_common(model(nodes, ["y"], two=2))
    assert operators(shared) == ["Relu"]
    assert not shared.graph.initializer


def test_a_cascade_answers_as_before():
    members = [member(seed) for seed in (0, 0, 1)]
    graph = cascade_graph(members, Cascade((0.9, 0.8), (1.5, 1.0, 2.0)))
    before, after = answers(graph), answers(share_common(graph))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_only_what_is_asked_is_left_in_the_graph():
    graph = fuse([member(0), member(1)], WeightedMean((1, 2)))
    fewer = asked_only(graph, ["member.1.probabilities"])
    assert operators(fewer) == ["Mul", "Gemm", "Softmax"]
    name = "member.1.probabilities"
    assert np.array_equal(answers(fewer)[name], answers(graph)[name])
    assert [output.name for output in asked_only(graph, [name, "probabilities"]).graph.output] == [
        name,
        "probabilities",
    ]
