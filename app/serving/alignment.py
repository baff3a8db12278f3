"""Let a graph answer its classes in another order, within the graph itself."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from app.domain.alignment import class_order

_ORDER = "class_order"
_PER_CLASS = ("probabilities", "logits")


def align(graph: onnx.ModelProto, own: Sequence[str], wanted: Sequence[str]) -> onnx.ModelProto:
    """Return a graph whose answers per class, those of its members too, stand in the wanted order of the classes.

    Raise ShapeMismatchError when the names are not the same set. A graph in that order already is returned as it is.
    """
    order = class_order(own, wanted)
    if order == tuple(range(len(order))):
        return graph
    aligned = onnx.ModelProto()
    aligned.CopyFrom(graph)
    inner = aligned.graph
    # A graph may be aligned twice: an imported one, and later as a member.
    time = sum(tensor.name.startswith(_ORDER) for tensor in inner.initializer)
    moved = {value.name: f"{value.name}.own{time}" for value in inner.output if value.name.endswith(_PER_CLASS)}
    for node in inner.node:
        for field in (node.input, node.output):
            renamed = [moved.get(name, name) for name in field]
            del field[:]
            field.extend(renamed)
    inner.initializer.append(numpy_helper.from_array(np.array(order, np.int64), f"{_ORDER}{time}"))
    inner.node.extend(
        helper.make_node("Gather", [own_name, f"{_ORDER}{time}"], [name], name=f"{own_name}.aligned", axis=1)
        for name, own_name in moved.items()
    )
    onnx.checker.check_model(aligned)
    return aligned
