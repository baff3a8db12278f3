"""Compute once what several members compute alike, and drop what no output needs."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx

from app.serving.opsets import ML_DOMAIN

_DRAWN = ("Random", "Bernoulli", "Multinomial", "Dropout")


def share_common(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph of the same outputs in which no two nodes apply one operator to the same tensors.

    What no output needs is left out. Nodes that draw random numbers or hold a graph stay as they are.
    """
    kept = set(_answered(model.graph)) | set(_inner_uses(model.graph.node))
    renamed: dict[str, str] = {}
    seen: dict[bytes, onnx.NodeProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        own = _with_inputs(node, renamed)
        if not (_is_formula(node) and kept.isdisjoint(node.output)):
            nodes.append(own)
            continue
        first = seen.setdefault(_formula(own), own)
        if first is own:
            nodes.append(own)
        renamed.update(zip(node.output, first.output, strict=True))
    return with_nodes(model, nodes, model.graph.initializer)


def with_nodes(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], tensors: Collection[onnx.TensorProto]
) -> onnx.ModelProto:
    """Return a model of other nodes and initializers; those that no output needs are left out."""
    used = set(_answered(model.graph))
    needed: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if not used.isdisjoint(node.output):
            needed.append(node)
            used.update(node.input, _inner_uses([node]))
    made = onnx.ModelProto()
    made.CopyFrom(_without_content(model))
    made.graph.node.extend(reversed(needed))
    made.graph.initializer.extend(tensor for tensor in tensors if tensor.name in used)
    return made


def asked_only(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Return a graph that answers only `outputs`, in that order, and computes only what they need."""
    answered = {output.name: output for output in model.graph.output}
    fewer = onnx.ModelProto()
    fewer.CopyFrom(_without_content(model))
    del fewer.graph.output[:]
    fewer.graph.output.extend(answered[name] for name in outputs)
    return with_nodes(fewer, model.graph.node, model.graph.initializer)


def _answered(graph: onnx.GraphProto) -> list[str]:
    return [output.name for output in graph.output]


def _without_content(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return all of a model but nodes, initializers and inferred shapes; nothing large is copied."""
    bare = onnx.ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        opset_import=model.opset_import,
        metadata_props=model.metadata_props,
        functions=model.functions,
    )
    bare.graph.name = model.graph.name
    bare.graph.doc_string = model.graph.doc_string
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    return bare


def _with_inputs(node: onnx.NodeProto, renamed: Mapping[str, str]) -> onnx.NodeProto:
    if renamed.keys().isdisjoint(node.input):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [renamed.get(name, name) for name in node.input]
    return copy


def _is_formula(node: onnx.NodeProto) -> bool:
    """Say whether the answer depends on nothing but operator, attributes and inputs."""
    return (
        node.domain in ("", "ai.onnx", ML_DOMAIN)
        and not node.op_type.startswith(_DRAWN)
        and not any(_graphs_of(attribute) for attribute in node.attribute)
    )


def _formula(node: onnx.NodeProto) -> bytes:
    """Return bytes that two nodes share only if they compute the same."""
    bare = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=node.input)
    bare.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    bare.output.extend("used" if name else "" for name in node.output)
    content: bytes = bare.SerializeToString(deterministic=True)
    return content


def _graphs_of(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _inner_uses(nodes: Collection[onnx.NodeProto]) -> Iterator[str]:
    """Name the tensors that graphs inside of nodes take, own ones among them."""
    for node in nodes:
        for attribute in node.attribute:
            for graph in _graphs_of(attribute):
                yield from _answered(graph)
                for inner in graph.node:
                    yield from inner.input
                yield from _inner_uses(graph.node)
