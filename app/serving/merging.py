"""Compute members that are alike as one: wide and grouped convolutions, and products of stacked matrices."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TypeAlias

import onnx
from onnx import helper, numpy_helper

from app.serving.graph_parts import output_names
from app.serving.merging_rules import WEIGHTED, Operand, Step, merge_step
from app.serving.merging_values import Array, Builder, Constant, Shape, UnlikeError, Value, joined, stacked
from app.serving.sharing import share_common, with_nodes

_PREFIX = re.compile(r"(member\.\d+\.)+")
Nodes: TypeAlias = Sequence[onnx.NodeProto]


def variants(model: onnx.ModelProto) -> list[tuple[str, onnx.ModelProto]]:
    """Return graphs of the same answers by name, of which one may run faster than another: `plain`, and `merged`."""
    plain = share_common(model)
    merged = merge_alike(plain)
    return [("plain", plain), *([("merged", merged)] if merged is not None else [])]


def merge_alike(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return a graph of the same outputs in which members of equal structure are computed as one.

    None if there are none, or none of whose weights that is known how to. Members are what is called `member.{i}.`.
    """
    plain = share_common(model)
    if any(attribute.HasField("g") or attribute.graphs for node in plain.graph.node for attribute in node.attribute):
        return None
    parts = _parts(plain)
    shapes = _shapes(plain)
    arrays = {tensor.name: tensor for tensor in plain.graph.initializer}
    root = _unused(shapes)
    merged = [
        found
        for place, group in enumerate(_alike(parts, arrays))
        if (found := _merge(group, f"{root}.{place}", shapes, arrays)) is not None
    ]
    if not merged:
        return None
    nodes = _all_nodes(plain, parts, merged)
    tensors = [*plain.graph.initializer, *(tensor for group in merged for tensor in group.builder.tensors.values())]
    return share_common(with_nodes(plain, nodes, tensors))  # a tensor may have been laid out anew twice


def _unused(names: Collection[str]) -> str:
    root = "merged"
    while any(name.startswith(root) for name in names):
        root += "_again"
    return root


@dataclass
class _Parts:
    """Sort nodes: common ones, those of each member, and those that need several members."""

    common: list[onnx.NodeProto] = field(default_factory=list)
    members: dict[str, list[onnx.NodeProto]] = field(default_factory=lambda: defaultdict(list))
    rest: list[onnx.NodeProto] = field(default_factory=list)


def _parts(model: onnx.ModelProto) -> _Parts:
    common = _common(model.graph.node)
    parts, owners = _Parts(), dict[str, str]()
    constants = {tensor.name for tensor in model.graph.initializer}
    outside = {value.name for value in model.graph.input} | constants | {""}
    for node in model.graph.node:
        if common.issuperset(node.output):
            parts.common.append(node)
            outside.update(node.output)
            continue
        needed = {owners.get(name, "") for name in node.input if name not in outside}
        found = _PREFIX.match(node.output[0])
        owner = needed.pop() if len(needed) == 1 else found[0] if found and not needed else ""
        owners.update(dict.fromkeys(node.output, owner))
        (parts.members[owner] if owner else parts.rest).append(node)
    return parts


def _common(nodes: Nodes) -> set[str]:
    """Name what nodes answer that several members take, and everything that they are made of.

    Members take nothing of each other, so only `share_common` can have brought that about.
    """
    takers: dict[str, set[str]] = defaultdict(set)
    common: set[str] = set()
    for node in reversed(nodes):
        own = _owner_by_name(node)
        others = {taker for name in node.output for taker in takers[name] if not own.startswith(taker)}
        if (own and others) or not common.isdisjoint(node.output):
            common.update(node.output, node.input)
        for name in node.input:
            takers[name].add(_owner_by_name(node))
    return common - {""}


def _owner_by_name(node: onnx.NodeProto) -> str:
    found = _PREFIX.match(node.output[0])
    return found[0] if found else ""


def _alike(parts: _Parts, tensors: Mapping[str, onnx.TensorProto]) -> list[list[Nodes]]:
    """Group members whose nodes are alike up to the last one with weights, each down to what all have in common."""
    groups: dict[tuple[object, ...], list[tuple[Nodes, list[object]]]] = defaultdict(list)
    for nodes in parts.members.values():
        forms = _forms(nodes, tensors)
        weighted = [place for place, node in enumerate(nodes) if node.op_type in WEIGHTED]
        if weighted:
            groups[tuple(forms[: weighted[-1] + 1])].append((nodes, forms))
    return [_common_start(group) for group in groups.values() if len(group) > 1]


def _common_start(group: Sequence[tuple[Nodes, list[object]]]) -> list[Nodes]:
    alike = [len(set(forms)) == 1 for forms in zip(*(forms for _, forms in group), strict=False)]
    length = alike.index(False) if False in alike else len(alike)
    return [nodes[:length] for nodes, _ in group]


def _forms(nodes: Nodes, tensors: Mapping[str, onnx.TensorProto]) -> list[object]:
    """Describe each node by all but names and weights."""
    places: dict[str, tuple[int, int]] = {}
    forms: list[object] = []
    for place, node in enumerate(nodes):
        operands = tuple(
            places.get(name) or ((tensors[name].data_type, *tensors[name].dims) if name in tensors else name)
            for name in node.input
        )
        settings = tuple(sorted(one.SerializeToString(deterministic=True) for one in node.attribute))
        forms.append((node.op_type, node.domain, settings, operands, len(node.output)))
        places |= {name: (place, index) for index, name in enumerate(node.output)}
    return forms


@dataclass
class _Merged:
    """Hold what was merged of a group: the nodes that do it, and how many nodes of each member they stand for."""

    members: list[Nodes]
    builder: Builder
    length: int
    values: dict[str, Value]  # by the first member's names

    @property
    def replaced(self) -> set[str]:
        """Name what the nodes answered that are not needed any more."""
        return {name for nodes in self.members for node in nodes[: self.length] for name in node.output}

    @property
    def answers(self) -> dict[str, tuple[str, ...]]:
        """Name each tensor of the first member with those of all of them."""
        firsts = zip(*(nodes[: self.length] for nodes in self.members), strict=True)
        return {alike[0].output[0]: tuple(node.output[0] for node in alike) for alike in firsts}


def _merge(
    members: list[Nodes], prefix: str, shapes: Mapping[str, Shape], tensors: Mapping[str, onnx.TensorProto]
) -> _Merged | None:
    """Merge as many nodes as go; None if no weights are among them."""
    merged = _Merged(members, Builder(len(members), prefix), 0, {})
    for alike in zip(*members, strict=True):
        kept = len(merged.builder.nodes)
        try:
            value = merge_step(merged.builder, _step(alike, merged, shapes, tensors))
        except UnlikeError:
            del merged.builder.nodes[kept:]
            break
        merged.values[alike[0].output[0]] = value
        merged.length += 1
    return merged if any(node.op_type in WEIGHTED for node in members[0][: merged.length]) else None


def _step(alike: Nodes, merged: _Merged, shapes: Mapping[str, Shape], tensors: Mapping[str, onnx.TensorProto]) -> Step:
    operands = [
        _operand(names, merged.values, shapes, tensors) for names in zip(*(n.input for n in alike), strict=True)
    ]
    name = alike[0].output[0]
    if name not in shapes:
        raise UnlikeError(f"the shape of {name} is not known")
    return Step(alike[0], operands, shapes[name], f"{merged.builder.prefix}.{name}")


def _operand(
    names: tuple[str, ...],
    values: Mapping[str, Value],
    shapes: Mapping[str, Shape],
    tensors: Mapping[str, onnx.TensorProto],
) -> Operand:
    first = names[0]
    if not first:
        return None
    if first in values:
        return values[first]
    if first in tensors:
        return Constant(names, tuple(_array(tensors[name]) for name in names))
    if first not in shapes:
        raise UnlikeError(f"the shape of {first} is not known")
    return Value(first, shapes[first], "common")


def _array(tensor: onnx.TensorProto) -> Array:
    array: Array = numpy_helper.to_array(tensor)
    return array


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Return the shape of every tensor, weights left out: they are large, and no shape depends on their numbers."""
    bare = with_nodes(model, model.graph.node, [one for one in model.graph.initializer if _is_small(one)])
    bare.graph.input.extend(
        helper.make_tensor_value_info(one.name, one.data_type, one.dims)
        for one in model.graph.initializer
        if not _is_small(one)
    )
    graph = onnx.shape_inference.infer_shapes(bare).graph
    return {
        value.name: tuple(
            axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }


def _is_small(tensor: onnx.TensorProto) -> bool:
    return bool(prod(tensor.dims) <= 64)


def _all_nodes(model: onnx.ModelProto, parts: _Parts, merged: Sequence[_Merged]) -> list[onnx.NodeProto]:
    """Return common nodes, merged ones, and the others in their order."""
    replaced = {name for group in merged for name in group.replaced}
    common = {id(node) for node in parts.common}
    others = [node for node in model.graph.node if id(node) not in common and replaced.isdisjoint(node.output)]
    for group in merged:
        others = [_gathering(node, group) or node for node in others]
    used = {name for node in others for name in node.input} | set(output_names(model))
    apart = [node for group in merged for node in _taken_apart(group, used)]
    return [*parts.common, *(node for group in merged for node in group.builder.nodes), *apart, *others]


def _gathering(node: onnx.NodeProto, group: _Merged) -> onnx.NodeProto | None:
    """Return a sum over members, or their answers side by side, made of the merged tensor; None for another node."""
    if len(set(node.input)) < len(node.input):
        return None
    for first, names in group.answers.items():
        if group.values[first].layout == "common":
            continue
        if node.op_type == "Sum" and set(names) <= set(node.input):
            return _summed(node, group, first, names)
        if node.op_type == "Concat" and tuple(node.input) == names and group.values[first].rank == 2:
            return _side_by_side(node, group, first)
    return None


def _summed(node: onnx.NodeProto, group: _Merged, first: str, names: Sequence[str]) -> onnx.NodeProto:
    builder, value = group.builder, group.values[first]
    others = [name for name in node.input if name not in names]
    inputs = [stacked(builder, value).name, builder.integers(0)]
    if not others:
        return helper.make_node("ReduceSum", inputs, node.output, name=node.name, keepdims=0)
    total = builder.node("ReduceSum", inputs, keepdims=0)
    return helper.make_node("Sum", [total, *others], node.output, name=node.name)


def _side_by_side(node: onnx.NodeProto, group: _Merged, first: str) -> onnx.NodeProto | None:
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    if axis not in (1, -1):
        return None
    name = joined(group.builder, group.values[first]).name
    return helper.make_node("Identity", [name], node.output, name=node.name)


def _taken_apart(group: _Merged, used: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that give members' tensors back by their names, where something takes them."""
    apart: list[onnx.NodeProto] = []
    for first, names in group.answers.items():
        if not used.isdisjoint(names):
            apart += _apart(group.builder, group.values[first], names)
    return apart


def _apart(builder: Builder, value: Value, names: Sequence[str]) -> list[onnx.NodeProto]:
    if value.layout == "common":
        return [helper.make_node("Identity", [value.name], [name], name=name) for name in names]
    if value.layout == "stacked" and (value.rank < 2 or None in value.shape[1:]):
        return [
            helper.make_node("Gather", [value.name, builder.integer(place)], [name], name=name, axis=0)
            for place, name in enumerate(names)
        ]
    # One Split of tensors side by side takes less than a Gather for each member.
    side = value if value.layout == "joined" else joined(builder, value)
    return [helper.make_node("Split", [side.name], names, name=names[0], axis=side.axis, num_outputs=len(names))]
