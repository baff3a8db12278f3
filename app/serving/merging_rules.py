"""How each operator runs for several members at once: one rule an operator, each of which may find members unlike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper

from app.serving.merging_values import (
    Array,
    Builder,
    Constant,
    Shape,
    Value,
    dimensions,
    joined,
    keeps_rows,
    stacked,
    unfold,
    unlike,
)

Operand: TypeAlias = Value | Constant | None
WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Step:
    """Say what one node of each member takes; `node` is the first member's, `shape` that of its answer."""

    node: onnx.NodeProto
    operands: Sequence[Operand]
    shape: Shape
    output: str

    def attribute(self, name: str, default: object = None) -> object:
        """Return an attribute of the node."""
        found = (one for one in self.node.attribute if one.name == name)
        return next((helper.get_attribute_value(one) for one in found), default)

    def answer(self, like: Value, name: str) -> Value:
        """Return the answer, laid out as another value."""
        return replace(like, name=name, shape=self.shape)


def merge_step(builder: Builder, step: Step) -> Value:
    """Add the nodes that answer for all members; raise UnlikeError where that is not known to be the same."""
    rule = _RULES.get(step.node.op_type)
    if rule is None or step.node.domain not in ("", "ai.onnx") or len(step.node.output) != 1:
        unlike(f"{step.node.op_type} has no rule")
    return rule(builder, step)


def _value(operand: Operand) -> Value:
    return operand if isinstance(operand, Value) else unlike("a tensor of weights is not an initializer")


def _constant(operand: Operand) -> Constant:
    return operand if isinstance(operand, Constant) else unlike("a weight is computed")


def _same(operand: Operand) -> str:
    """Return the initializer that all members have."""
    constant = _constant(operand)
    return constant.names[0] if constant.same else unlike("members differ in a setting")


def _optional(operands: Sequence[Operand], place: int) -> Operand:
    return operands[place] if len(operands) > place else None


def _convolution(builder: Builder, step: Step) -> Value:
    value, kernel = _value(step.operands[0]), _constant(step.operands[1])
    groups = int(str(step.attribute("group", 1)))
    if value.layout != "common" or groups > 1:
        value, groups = joined(builder, value), groups * builder.members
    inputs = [value.name, builder.together(kernel, (), kernel.arrays, 0)]
    bias = _optional(step.operands, 2)
    if bias is not None:
        inputs.append(builder.together(_constant(bias), (), _constant(bias).arrays, 0))
    name = builder.like(step.node, inputs, step.output, group=groups)
    return Value(name, step.shape, "joined", 1)


def _dense(builder: Builder, step: Step) -> Value:
    settings = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    if any(step.attribute(name, usual) != usual for name, usual in settings.items()):
        unlike("a Gemm is scaled")
    kernel = _constant(step.operands[1])
    turned = bool(step.attribute("transB", 0))
    kernels, way = [array.T if turned else array for array in kernel.arrays], ("columns", turned)
    bias, units = _optional(step.operands, 2), kernels[0].shape[1]
    offsets = None if bias is None else [np.broadcast_to(array, (units,)) for array in _rows(_constant(bias), units)]
    value = _value(step.operands[0])
    if value.layout == "common":
        inputs = [value.name, builder.together(kernel, way, kernels, 1)]
        if offsets is not None:
            inputs.append(builder.together(_constant(bias), ("row",), offsets, 0))
        return Value(builder.node("Gemm", inputs, step.output), step.shape, "joined", 1)
    operands = [stacked(builder, value).name, builder.together(kernel, way, kernels, None)]
    if offsets is None:
        return Value(builder.node("MatMul", operands, step.output), step.shape, "stacked")
    product = builder.node("MatMul", operands)
    rows = builder.together(_constant(bias), ("rows",), [row[None] for row in offsets], None)
    return Value(builder.node("Add", [product, rows], step.output), step.shape, "stacked")


def _rows(bias: Constant, units: int) -> list[Array]:
    if any(array.size not in (1, units) for array in bias.arrays):
        unlike("a bias differs by row")
    return [array.reshape(-1) for array in bias.arrays]


def _product(builder: Builder, step: Step) -> Value:
    value, kernel = _value(step.operands[0]), _constant(step.operands[1])
    if kernel.arrays[0].ndim != 2 or value.rank < 2:
        unlike("a product is not by a matrix")
    if value.layout == "common":
        inputs = [value.name, builder.together(kernel, ("columns",), kernel.arrays, 1)]
        return Value(builder.node("MatMul", inputs, step.output), step.shape, "joined", value.rank - 1)
    spread = [array.reshape((1,) * (value.rank - 2) + array.shape) for array in kernel.arrays]
    inputs = [stacked(builder, value).name, builder.together(kernel, ("columns", value.rank), spread, None)]
    return Value(builder.node("MatMul", inputs, step.output), step.shape, "stacked")


def _normalization(builder: Builder, step: Step) -> Value:
    value, numbers = _value(step.operands[0]), [_constant(one) for one in step.operands[1:]]
    if step.attribute("training_mode", 0) or value.rank < 2:
        unlike("a normalization is trained")
    if value.layout == "stacked" and value.rank == 2:
        return _scaled(builder, step, value, numbers)
    value = joined(builder, value)
    inputs = [value.name, *(builder.together(one, (), one.arrays, 0) for one in numbers)]
    return step.answer(value, builder.like(step.node, inputs, step.output))


def _scaled(builder: Builder, step: Step, value: Value, numbers: Sequence[Constant]) -> Value:
    """Normalize stacked vectors by one product and one sum; laying them side by side would cost more."""
    epsilon = float(str(step.attribute("epsilon", 1e-5)))
    parts = zip(*(one.arrays for one in numbers), strict=True)
    scales, offsets = [], []
    for gamma, beta, mean, variance in parts:
        scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        scales.append(scale.astype(gamma.dtype)[None])
        offsets.append((beta - mean * scale).astype(gamma.dtype)[None])
    names = tuple(name for one in numbers for name in one.names)
    key = ("normalization", names, epsilon)
    scaled = builder.node("Mul", [value.name, builder.constant((*key, "scale"), np.stack(scales))])
    added = builder.node("Add", [scaled, builder.constant((*key, "offset"), np.stack(offsets))], step.output)
    return step.answer(value, added)


def _each(builder: Builder, step: Step) -> Value:
    """Apply a function of single numbers; what else it takes is the same for all members."""
    value = _value(step.operands[0])
    settings = ["" if one is None else _same(one) for one in step.operands[1:]]
    return step.answer(value, builder.like(step.node, [value.name, *settings], step.output))


def _between(builder: Builder, step: Step) -> Value:
    """Apply an operator that broadcasts."""
    values = [one for one in step.operands if isinstance(one, Value)]
    if not values or None in step.operands or any(value.shape != step.shape for value in values):
        unlike("tensors of unlike shape meet")
    layouts = {(value.layout, value.axis) for value in values if value.layout != "common"}
    constants = [one for one in step.operands if isinstance(one, Constant)]
    like = values[0]
    if len(layouts) == 1 and like.layout != "common":
        pass
    elif layouts == {("joined", 1)} or (not layouts and not all(one.same for one in constants)):
        like = joined(builder, like)
    elif layouts:
        like = stacked(builder, next(value for value in values if value.layout != "common"))
    inputs = [_alongside(builder, one, like) for one in step.operands]
    return step.answer(like, builder.like(step.node, inputs, step.output))


def _alongside(builder: Builder, operand: Operand, like: Value) -> str:
    """Return an operand laid out so that it meets each member's numbers in a value."""
    if isinstance(operand, Constant):
        return _spread(builder, operand, like)
    value = _value(operand)
    if like.layout == "stacked":
        return stacked(builder, value).name
    return value.name if like.layout == "common" else joined(builder, value, like.axis).name


def _spread(builder: Builder, constant: Constant, like: Value) -> str:
    sizes = constant.arrays[0].shape
    if constant.same and (like.layout == "common" or constant.arrays[0].size == 1):
        return constant.names[0]
    aligned = [array.reshape((1,) * (like.rank - array.ndim) + sizes) for array in constant.arrays]
    if like.layout == "stacked":
        return builder.together(constant, ("aligned", like.rank), aligned, None)
    if constant.same and aligned[0].shape[like.axis] == 1:
        return constant.names[0]
    full = list(aligned[0].shape)
    full[like.axis] = dimensions(like.shape, like.axis)[0] if like.axis else unlike("members lie along the batch")
    spread = [np.broadcast_to(array, full) for array in aligned]
    return builder.together(constant, ("spread", like.rank, full[like.axis]), spread, like.axis)


def _maps(builder: Builder, step: Step) -> Value:
    """Pool channel by channel."""
    value = _value(step.operands[0])
    value = value if value.layout == "common" else joined(builder, value)
    return step.answer(value, builder.like(step.node, [value.name], step.output))


def _layout(builder: Builder, step: Step) -> Value:
    """Lay every row out anew (Flatten, Reshape, Squeeze, Unsqueeze)."""
    value = _value(step.operands[0])
    if not keeps_rows(value.shape, step.shape):
        unlike("rows do not stay rows")
    settings = [_same(one) for one in step.operands[1:]]
    if value.layout == "common":
        return step.answer(value, builder.like(step.node, [value.name, *settings], step.output))
    if value.layout == "joined" and value.axis == 1 and len(step.shape) > 1:
        first, *others = dimensions(step.shape, 1)
        target = builder.integers(-1, builder.members * first, *others)
    else:
        value = stacked(builder, value)
        target = builder.integers(builder.members, -1, *dimensions(step.shape, 1))
    return step.answer(value, builder.node("Reshape", [value.name, target], step.output))


def _transpose(builder: Builder, step: Step) -> Value:
    value = _value(step.operands[0])
    given = step.attribute("perm")
    order = [int(axis) for axis in given] if isinstance(given, list) else list(reversed(range(value.rank)))
    if value.layout == "stacked":
        moved = [0, *(axis + 1 for axis in order)]
        return step.answer(value, builder.node("Transpose", [value.name], step.output, perm=moved))
    name = builder.node("Transpose", [value.name], step.output, perm=order)
    axis = order.index(value.axis) if value.layout == "joined" else 0
    return replace(step.answer(value, name), axis=axis)


def _softmax(builder: Builder, step: Step) -> Value:
    value = _value(step.operands[0])
    axis = int(str(step.attribute("axis", -1))) % value.rank
    if value.layout == "joined" and value.axis == axis:
        value = stacked(builder, value)
    place = axis + 1 if value.layout == "stacked" else axis
    return step.answer(value, builder.like(step.node, [value.name], step.output, axis=place))


def _concatenation(builder: Builder, step: Step) -> Value:
    values = [_value(one) for one in step.operands]
    axis = int(str(step.attribute("axis", 0))) % len(step.shape)
    layouts = {(value.layout, value.axis) for value in values}
    if layouts == {("joined", 1)} and axis == 1:
        parts = [unfold(builder, value) for value in values]
        side = builder.node("Concat", parts, axis=2)
        first, *others = dimensions(step.shape, 1)
        target = builder.integers(-1, builder.members * first, *others)
        return step.answer(values[0], builder.node("Reshape", [side, target], step.output))
    if len(layouts) == 1 and values[0].layout == "joined" and values[0].axis != axis:
        names = [value.name for value in values]
        return step.answer(values[0], builder.node("Concat", names, step.output, axis=axis))
    if any(value.layout == "common" for value in values):
        unlike("a common tensor is put beside own ones")
    laid = [stacked(builder, value) for value in values]
    return step.answer(laid[0], builder.node("Concat", [value.name for value in laid], step.output, axis=axis + 1))


def _lookup(builder: Builder, step: Step) -> Value:
    """Look common indices up in the tables of all members, which lie side by side."""
    table, index = _constant(step.operands[0]), _value(step.operands[1])
    if index.layout != "common" or table.arrays[0].ndim != 2 or step.attribute("axis", 0) != 0:
        unlike("a lookup is not by rows of a table")
    name = builder.node("Gather", [builder.together(table, ("columns",), table.arrays, 1), index.name], step.output)
    return Value(name, step.shape, "joined", index.rank)


Rule = Callable[[Builder, Step], Value]
_FUNCTIONS = (
    "Abs Cast Clip Elu Erf Exp Gelu HardSigmoid HardSwish Identity LeakyRelu Log Mish Neg Reciprocal Relu Selu Sigmoid "
    "Softplus Softsign Sqrt Tanh"
)
_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_FUNCTIONS.split(), _each),
    **dict.fromkeys(("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum"), _between),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"), _maps),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _layout),
    **dict.fromkeys(("LogSoftmax", "Softmax"), _softmax),
    "BatchNormalization": _normalization,
    "Concat": _concatenation,
    "Conv": _convolution,
    "Gather": _lookup,
    "Gemm": _dense,
    "MatMul": _product,
    "Transpose": _transpose,
}
