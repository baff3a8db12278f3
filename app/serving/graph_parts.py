"""What graphs of several models are put together from: embedded members, tensors stored once, one checked model."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from app.domain.errors import InvalidEnsembleError, ShapeMismatchError
from app.serving.meta_nodes import INPUT
from app.serving.opsets import merge_opsets
from app.serving.sharing import share_common

OPSET = 20
IR_VERSION = 10


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    members: Sequence[onnx.ModelProto],
    outputs: Sequence[onnx.ValueInfoProto],
    store: "Initializers",
) -> onnx.ModelProto:
    """Return the checked model of an ensemble's nodes; what several members compute alike is computed once."""
    graph = helper.make_graph(list(nodes), "ensemble", [members[0].graph.input[0]], list(outputs), store.tensors)
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=merge_opsets(members, opset=OPSET), ir_version=IR_VERSION, producer_name="leanfuse"
    )
    onnx.checker.check_model(model)
    return share_common(model)


def output_names(member: onnx.ModelProto) -> list[str]:
    """Return the names of a graph's outputs."""
    return [output.name for output in member.graph.output]


def _signature(value: onnx.ValueInfoProto) -> tuple[int, tuple[int, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(axis.dim_value for axis in tensor.shape.dim[1:])


def width_of(member: onnx.ModelProto, output: str) -> int:
    """Return how many numbers an output has per row."""
    found = next(value for value in member.graph.output if value.name == output)
    return _signature(found)[1][0]


def check_members(members: Sequence[onnx.ModelProto], taken: str) -> None:
    """Raise InvalidEnsembleError or ShapeMismatchError when members do not fit together by the output that is taken."""
    first = members[0]
    for index, member in enumerate(members):
        if taken not in output_names(member):
            raise InvalidEnsembleError(
                f"Member {index} answers {', '.join(output_names(member))}; this fusion needs {taken}.",
                hint="Fuse members of one task; a serial ensemble needs members that answer logits.",
            )
        if _signature(member.graph.input[0]) != _signature(first.graph.input[0]):
            raise ShapeMismatchError(
                f"Member {index} takes rows of {_signature(member.graph.input[0])[1]}, "
                f"member 0 of {_signature(first.graph.input[0])[1]}."
            )
        if width_of(member, taken) != width_of(first, taken):
            raise ShapeMismatchError(
                f"Member {index} answers {width_of(member, taken)} numbers per row, member 0 {width_of(first, taken)}."
            )


class Initializers:
    """Keep every tensor content once, whatever its names."""

    def __init__(self) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self._names: dict[tuple[int, tuple[int, ...], bytes], str] = {}

    def add(self, tensor: onnx.TensorProto, name: str) -> str:
        """Store a tensor unless its content is stored already; return the name that it has."""
        array = numpy_helper.to_array(tensor)
        key = (tensor.data_type, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._names:
            self._names[key] = name
            stored = numpy_helper.from_array(array, name)
            self.tensors.append(stored)
        return self._names[key]

    def constant(self, name: str, values: object) -> str:
        """Store float32 numbers."""
        return self.add(numpy_helper.from_array(np.asarray(values, np.float32)), name)

    def integers(self, name: str, values: object) -> str:
        """Store int64 numbers."""
        return self.add(numpy_helper.from_array(np.asarray(values, np.int64)), name)


def embed(
    member: onnx.ModelProto, prefix: str, store: Initializers, *, raw: str | None = None, inputs: str = INPUT
) -> list[onnx.NodeProto]:
    """Return a member's nodes with every name of its own prefixed; it takes the tensor `inputs`.

    The output `raw` is named so: what is called by its name is made of it.
    """
    names: dict[str, str] = {member.graph.input[0].name: inputs, "": ""}
    if raw is not None:
        names[raw] = f"{prefix}raw_{raw}"
    for tensor in member.graph.initializer:
        names[tensor.name] = store.add(tensor, prefix + tensor.name)
    return [_renamed(node, prefix, names) for node in member.graph.node]


def _renamed(node: onnx.NodeProto, prefix: str, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for field in (copy.input, copy.output):
        renamed = [names.get(name, prefix + name) for name in field]
        del field[:]
        field.extend(renamed)
    # No two nodes have the same output, while names of members may equal those of what is added to them.
    copy.name = next(name for name in copy.output if name)
    return copy
