"""Decide whether a foreign graph may be taken: nothing of it is executed, nothing beside it is opened."""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, defs

from app.domain.errors import ModelTooLargeError
from app.domain.import_errors import InvalidModelError, UnsafeModelError
from app.serving.opsets import ML_DOMAIN

OLDEST_OPSET = 7
NEWEST_ML_OPSET = 5
MOST_NODES = 50_000
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_BROKEN_HINT = "Check that the file is whole: `onnx.checker.check_model` must accept it."


def read_foreign(path: Path, *, most_parameters: int) -> onnx.ModelProto:
    """Return the graph of a file whose every byte is in the file, of operators that are standard.

    Raise UnsafeModelError for data in other files and for operators of other domains, InvalidModelError for what is no
    proper graph or cannot be served (control flow, random numbers, an operator set that is too old or new), and
    ModelTooLargeError.
    """
    model = _parse(path)
    _check_domains(model)
    _check_tensors(model, most_parameters)
    _check_nodes(model)
    try:
        onnx.checker.check_model(model)
    except Exception as broken:  # noqa: BLE001 - the checker raises whatever it likes
        raise InvalidModelError(f"The graph is not valid: {_first_line(broken)}", hint=_BROKEN_HINT) from None
    return model


def stored_numbers(model: onnx.ModelProto) -> int:
    """Count the floating numbers that a graph holds, in tensors or in attributes such as those of trees."""
    tensors: int = sum(prod(tensor.dims) for tensor in _tensors(model.graph) if tensor.data_type in _FLOATS)
    return tensors + sum(len(attribute.floats) for node in model.graph.node for attribute in node.attribute)


def _parse(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(path.read_bytes())
    except DecodeError:
        raise InvalidModelError("The file is no ONNX file, or was cut off.", hint=_BROKEN_HINT) from None
    if not model.graph.node:
        raise InvalidModelError("The file holds no graph with nodes.", hint=_BROKEN_HINT)
    return model


def _check_domains(model: onnx.ModelProto) -> None:
    """Refuse foreign operators, and write the standard domain in one way, once."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = _standard(entry.domain)
        _check_version(domain, entry.version)
        if versions.setdefault(domain, entry.version) != entry.version:
            raise InvalidModelError(f"The file imports two versions of {_shown(domain)}.", hint=_BROKEN_HINT)
    if model.functions:
        raise InvalidModelError(
            "The file defines functions of its own.", hint="Inline them: `onnx.inliner.inline_local_functions(model)`."
        )
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    for node in model.graph.node:
        node.domain = _standard(node.domain)


def _standard(domain: str) -> str:
    if domain in {"", "ai.onnx"}:
        return ""
    if domain != ML_DOMAIN:
        raise UnsafeModelError(
            f"The file needs operators of {domain[:80]!r}.", hint=f"Only those of ONNX and of {ML_DOMAIN} are run."
        )
    return domain


def _check_version(domain: str, version: int) -> None:
    oldest, newest = (1, NEWEST_ML_OPSET) if domain else (OLDEST_OPSET, defs.onnx_opset_version())
    if not oldest <= version <= newest:
        raise InvalidModelError(
            f"The file is of {_shown(domain)} opset {version}; {oldest} to {newest} are read.",
            hint="Export it with another `opset_version` (`target_opset`).",
        )


def _shown(domain: str) -> str:
    return domain or "ONNX"


def _check_tensors(model: onnx.ModelProto, most_parameters: int) -> None:
    numbers = 0
    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            places = [entry.value for entry in tensor.external_data if entry.key == "location"]
            raise UnsafeModelError(
                f"The numbers of {tensor.name[:80]!r} lie in another file, {(places or ['?'])[0][:80]!r}.",
                hint="Save everything in one file: `onnx.save(model, path, save_as_external_data=False)`.",
            )
        if any(size < 0 for size in tensor.dims):
            raise InvalidModelError(f"{tensor.name[:80]!r} has a negative size.", hint=_BROKEN_HINT)
        numbers += prod(tensor.dims)
    if numbers > most_parameters:
        raise ModelTooLargeError(
            f"The file holds {numbers:,} numbers; at most {most_parameters:,} are accepted.", hint="Send a smaller one."
        )
    if model.graph.sparse_initializer:
        raise InvalidModelError("The file holds sparse tensors.", hint="Store them as ordinary ones.")


def _check_nodes(model: onnx.ModelProto) -> None:
    if len(model.graph.node) > MOST_NODES:
        raise ModelTooLargeError(
            f"The graph has {len(model.graph.node):,} nodes; at most {MOST_NODES:,} are accepted.",
            hint="Send a smaller one.",
        )
    for node in model.graph.node:
        if any(attribute.g.node or attribute.graphs for attribute in node.attribute):
            raise InvalidModelError(
                f"The graph holds control flow ({node.op_type[:40]}).",
                hint="Export it without `Loop`, `If` and `Scan`.",
            )
        if node.op_type in _RANDOM:
            raise InvalidModelError(
                f"The graph draws random numbers ({node.op_type}).", hint="Export the model as it predicts."
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Yield every stored tensor, those in attributes and inner graphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from _tensors_of(attribute)


def _tensors_of(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []:
        yield from (sparse.values, sparse.indices)
    for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
        yield from _tensors(inner)


def _first_line(broken: Exception) -> str:
    return (str(broken).strip().splitlines() or [type(broken).__name__])[0][:300]
