"""How the tensors of several members lie in one, and the nodes that lay them otherwise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import prod
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int | None, ...]


class UnlikeError(Exception):
    """Members cannot be computed as one from here on."""


def unlike(reason: str) -> NoReturn:
    """Raise UnlikeError."""
    raise UnlikeError(reason)


@dataclass(frozen=True)
class Value:
    """Name a tensor that holds a tensor of each member.

    `shape` is that of one member's, None where it is not known, as that of the batch. `common`: all members have this
    one; `joined`: they lie side by side along `axis`, member by member; `stacked`: along a new axis in front.
    """

    name: str
    shape: Shape
    layout: Literal["common", "joined", "stacked"]
    axis: int = 0

    @property
    def rank(self) -> int:
        """Count the axes of one member's tensor."""
        return len(self.shape)


@dataclass(frozen=True)
class Constant:
    """Hold an initializer of each member."""

    names: tuple[str, ...]
    arrays: tuple[Array, ...]

    @property
    def same(self) -> bool:
        """Say whether all members have the same one."""
        return len(set(self.names)) == 1


@dataclass
class Builder:
    """Collect the nodes and initializers of `members` members that are computed as one.

    Answers of members are called `{prefix}.{name}`, and what comes between them `{prefix}/{number}`.
    """

    members: int
    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _stored: dict[tuple[object, ...], str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def node(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: object) -> str:
        """Add a node and return its output."""
        name = output or self._fresh()
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def like(self, node: onnx.NodeProto, inputs: Sequence[str], output: str, **changed: object) -> str:
        """Add a node with the attributes of another, but for those that change."""
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        return self.node(node.op_type, inputs, output, **{**attributes, **changed})

    def constant(self, key: tuple[object, ...], array: Array) -> str:
        """Store an initializer once for each key; return its name."""
        if key not in self._stored:
            name = self._stored[key] = self._fresh()
            self.tensors[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return self._stored[key]

    def _fresh(self) -> str:
        return f"{self.prefix}/{next(self._numbers)}"

    def integers(self, *values: int) -> str:
        """Store int64 numbers."""
        return self.constant(("integers", values), np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """Store an int64 number without axes."""
        return self.constant(("integer", value), np.array(value, np.int64))

    def together(self, constant: Constant, way: tuple[object, ...], arrays: Sequence[Array], axis: int | None) -> str:
        """Store the members' arrays side by side along an axis, or stacked; `way` says how they were made."""
        key = (constant.names, *way, axis)
        if key in self._stored:
            return self._stored[key]
        return self.constant(key, np.stack(arrays) if axis is None else np.concatenate(arrays, axis=axis))


def dimensions(shape: Shape, start: int = 0) -> list[int]:
    """Return sizes from axis `start` on, all of which must be known."""
    found = shape[start:]
    return [size if size is not None else unlike("a size is not known") for size in found]


def stacked(builder: Builder, value: Value) -> Value:
    """Lay members along a new axis in front; of a common tensor it stays one, to be broadcast."""
    if value.layout == "stacked":
        return value
    if value.layout == "common":
        name = builder.node("Unsqueeze", [value.name, builder.integers(0)])
    else:
        order = [value.axis, *(axis for axis in range(value.rank + 1) if axis != value.axis)]
        name = builder.node("Transpose", [unfold(builder, value)], perm=order)
    return replace(value, name=name, layout="stacked", axis=0)


def unfold(builder: Builder, value: Value) -> str:
    """Return a joined tensor with an axis of the members of its own, in front of the one that they lie along."""
    if value.axis < 1:
        unlike("members lie along the batch")
    sizes = dimensions(value.shape, 1)
    sizes.insert(value.axis - 1, builder.members)
    return builder.node("Reshape", [value.name, builder.integers(-1, *sizes)])


def joined(builder: Builder, value: Value, axis: int = 1) -> Value:
    """Lay members side by side along an axis; of a common tensor as many copies."""
    if value.layout == "joined" and value.axis == axis:
        return value
    if value.layout == "joined" or axis != 1 or value.rank < 2:
        unlike("members lie along another axis")
    if value.layout == "common":
        name = builder.node("Concat", [value.name] * builder.members, axis=axis)
    else:
        first, *others = dimensions(value.shape, 1)
        rows = builder.node("Transpose", [value.name], perm=[1, 0, *range(2, value.rank + 1)])
        name = builder.node("Reshape", [rows, builder.integers(-1, builder.members * first, *others)])
    return replace(value, name=name, layout="joined", axis=axis)


def keeps_rows(before: Shape, after: Shape) -> bool:
    """Say whether a tensor is only laid out anew within each row."""
    known = None not in before[1:] and None not in after[1:]
    return (
        known and before[0] is None and after[0] is None and prod(dimensions(before, 1)) == prod(dimensions(after, 1))
    )
