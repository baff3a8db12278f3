import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from app.domain.alignment import class_order
from app.domain.errors import InvalidEnsembleError, ShapeMismatchError
from app.serving.alignment import align
from app.serving.graph import Fusion, LogitSum, MetaLearner, WeightedMean, fuse
from app.serving.runtime import load_engine, predict_rows

CLASSES = ("cat", "dog", "owl", "newt")
ROWS = np.random.default_rng(7).normal(0, 2, (15, 3)).astype(np.float32)
META = MetaLearner(
    np.random.default_rng(5).normal(size=(2 * len(CLASSES), len(CLASSES))).astype(np.float32),
    np.zeros(len(CLASSES), np.float32),
)
orders = st.permutations(range(len(CLASSES)))


def member(seed: int, order: list[int] | None = None, *, trees: int = 0) -> onnx.ModelProto:
    """Return a linear classifier whose columns, and so its classes, stand in an order; `trees` is its ML opset."""
    rng = np.random.default_rng(seed)
    kernel, bias = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    chosen = list(range(4)) if order is None else order
    numbers = {"kernel": kernel[:, chosen], "bias": bias[chosen]}
    first = helper.make_node("Scaler", ["x"], ["in"], domain="ai.onnx.ml", offset=[0.0] * 3, scale=[1.0] * 3)
    nodes = [
        first if trees else helper.make_node("Identity", ["x"], ["in"]),
        helper.make_node("Gemm", ["in", "kernel", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("probabilities", "logits")
    ]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    stored = [numpy_helper.from_array(array, name) for name, array in numbers.items()]
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid("ai.onnx.ml", trees)] if trees else [])]
    graph = helper.make_graph(nodes, "member", [taken], values, stored)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def named(order: list[int]) -> tuple[str, ...]:
    return tuple(CLASSES[place] for place in order)


def answers(graph: onnx.ModelProto, output: str = "probabilities") -> np.ndarray:
    return predict_rows(load_engine(graph.SerializeToString()), ROWS, output)


@settings(max_examples=20)
@given(orders=st.tuples(orders, orders), fusion=st.sampled_from([WeightedMean((1, 2)), LogitSum((1, 0.5)), META]))
def test_the_order_of_the_members_classes_changes_no_fusion(
    orders: tuple[list[int], list[int]], fusion: Fusion
) -> None:
    """Catch the second half of trap 24: classes of members in another order."""
    expected = fuse([member(0), member(1)], fusion)
    moved = [align(member(seed, order), named(order), CLASSES) for seed, order in enumerate(orders)]
    found = fuse(moved, fusion)
    for output in [value.name for value in expected.graph.output]:
        assert np.allclose(answers(found, output), answers(expected, output), atol=1e-6)


@given(first=orders, second=orders)
@settings(max_examples=10)
def test_a_graph_may_be_aligned_again(first: list[int], second: list[int]) -> None:
    once = align(member(3, first), named(first), named(second))
    assert np.allclose(answers(align(once, named(second), CLASSES)), answers(member(3)), atol=1e-6)


def test_a_graph_in_the_wanted_order_stays_as_it_is() -> None:
    graph = member(0)
    assert align(graph, CLASSES, CLASSES) is graph


def test_an_ensemble_that_is_aligned_moves_the_answers_of_its_members_too() -> None:
    order = [3, 1, 0, 2]
    fused = fuse([member(0), member(1)], WeightedMean((1, 1)))
    moved = align(fused, CLASSES, named(order))
    for output in ("probabilities", "member.0.probabilities", "member.1.probabilities"):
        assert np.allclose(answers(moved, output), answers(fused, output)[:, order], atol=1e-6)


@given(own=orders, wanted=orders)
def test_an_order_leads_from_the_own_names_to_the_wanted_ones(own: list[int], wanted: list[int]) -> None:
    order = class_order(named(own), named(wanted))
    assert tuple(named(own)[place] for place in order) == named(wanted)


def test_other_labels_are_named() -> None:
    with pytest.raises(ShapeMismatchError) as refused:
        class_order(("cat", "dog", "fox", "elk"), CLASSES)
    assert refused.value.detail == "The model lacks 'owl', 'newt'. The model has besides 'fox', 'elk'."
    with pytest.raises(ShapeMismatchError, match="twice"):
        class_order(("cat", "cat", "dog", "owl", "newt"), CLASSES)


def test_graphs_of_different_operator_sets_fuse_while_their_nodes_mean_the_same() -> None:
    graphs = [member(0), member(1, trees=1), member(2, trees=3)]
    fused = fuse(graphs, WeightedMean((1, 1, 1)))
    assert {entry.domain: entry.version for entry in fused.opset_import} == {"": 20, "ai.onnx.ml": 3}
    expected = np.mean([answers(graph) for graph in graphs], axis=0)
    assert np.allclose(answers(fused), expected, atol=1e-6)


def test_graphs_whose_nodes_would_change_their_meaning_are_refused() -> None:
    older = member(0, trees=1)
    older.graph.node[0].CopyFrom(
        helper.make_node("LabelEncoder", ["x"], ["in"], domain="ai.onnx.ml", classes_strings=["a"], default_int64=0)
    )
    with pytest.raises(InvalidEnsembleError, match="LabelEncoder of ai"):
        fuse([older, member(1, trees=3)], WeightedMean((1, 1)))
