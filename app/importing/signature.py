"""Find out what a foreign graph takes and answers, and how that fits a data set."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal, NamedTuple, TypeAlias

import onnx
from onnx import TensorProto, helper, shape_inference

from app.domain.datasets import DatasetSchema
from app.domain.errors import FieldError, ShapeMismatchError
from app.domain.import_errors import InvalidModelError
from app.domain.specs import GraphOptions
from app.serving.opsets import ML_DOMAIN

Answers: TypeAlias = Literal["probabilities", "logits", "prediction"]
# None stands for a size that the graph leaves open, and for a shape that cannot be told.
Sizes: TypeAlias = tuple[int | None, ...]

BATCH = "batch"
_NUMBERS = {
    *(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16),
    *(TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT16),
}
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
_CLASSIFIERS = {"ZipMap", "Softmax", "TreeEnsembleClassifier", "Normalizer"}


class Feed(NamedTuple):
    """Say how raw rows (`rank` axes with the batch) become what the graph takes: moved, reshaped, and of this type."""

    name: str
    element: int
    rank: int = 0
    channels_first: bool = False
    shape: tuple[int, ...] | None = None


class Taken(NamedTuple):
    """Name the tensor that is taken as the answer, and the output it was found by; `answers` None is still unknown.

    `logits` is the tensor behind a softmax that makes probabilities.
    """

    output: str
    tensor: str
    answers: Answers | None
    sizes: Sizes | None
    logits: str | None = None


class _Tensor(NamedTuple):
    element: int
    sizes: Sizes | None


def find_feed(model: onnx.ModelProto, schema: DatasetSchema) -> Feed:
    """Return how rows of a data set are fed; raise InvalidModelError or ShapeMismatchError."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise InvalidModelError(
            f"The graph has {len(inputs)} inputs{_listed([value.name for value in inputs])}.",
            hint="It must have one: the rows.",
        )
    name, tensor = inputs[0].name, _declared(inputs[0])
    if tensor.element not in _NUMBERS:
        raise InvalidModelError(f"The input {name[:80]!r} takes no numbers.", hint="It must be a tensor of numbers.")
    if not tensor.sizes or tensor.sizes[0] not in {None, 1}:
        raise InvalidModelError(
            f"The input {name[:80]!r} has no open batch axis.", hint="Export with a dynamic first axis."
        )
    return _fit(Feed(name, tensor.element, len(schema.shape) + 1), tensor.sizes[1:], schema.shape)


def _fit(feed: Feed, sizes: Sizes, shape: tuple[int, ...]) -> Feed:
    moved = (shape[-1], *shape[:-1])
    if _fits(sizes, shape):
        return feed
    if len(shape) > 1 and _fits(sizes, moved):
        return feed._replace(channels_first=True)
    for flat in ((prod(shape),), shape[:-1] if shape[-1] == 1 else shape):
        if _fits(sizes, flat):
            return feed._replace(shape=flat)
    raise ShapeMismatchError(
        f"The graph takes rows of the shape {_shown(sizes)}; the data set's rows have {list(shape)}.",
        hint=f"It may also take them flat, {[prod(shape)]}, or with the channels first, {list(moved)}.",
        errors=[FieldError("/file", "takes rows of another shape", ShapeMismatchError.slug)],
    )


def _fits(sizes: Sizes, shape: Sequence[int]) -> bool:
    return len(sizes) == len(shape) and all(size in {None, wanted} for size, wanted in zip(sizes, shape, strict=True))


def find_taken(model: onnx.ModelProto, schema: DatasetSchema, options: GraphOptions) -> Taken:
    """Return what is taken as the answer; raise InvalidModelError where it cannot be told, or ShapeMismatchError."""
    known = _known_tensors(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    outputs = {value.name: _behind(value.name, makers) for value in model.graph.output}
    fitting = [
        name for name, tensor in outputs.items() if tensor in makers and _answers_rows(known.get(tensor), schema)
    ]
    chosen = _choose(fitting, {name: known.get(tensor) for name, tensor in outputs.items()}, schema, options.output)
    tensor = outputs[chosen]
    sizes = known[tensor].sizes if tensor in known else None
    if schema.task == "regression":
        return Taken(chosen, tensor, "prediction", sizes)
    answers = options.answers or _guess(chosen, makers)
    return Taken(chosen, tensor, answers, sizes, _logits_behind(makers[tensor]) if answers == "probabilities" else None)


def _behind(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """Return the tensor of an output: a map from labels to probabilities, as scikit-learn's are, is made of one."""
    node = makers.get(name)
    is_map = node is not None and (node.domain, node.op_type) == (ML_DOMAIN, "ZipMap")
    return node.input[0] if node is not None and is_map else name


def _answers_rows(tensor: _Tensor | None, schema: DatasetSchema) -> bool:
    if tensor is None:
        return True
    if tensor.element not in _FLOATS:
        return False
    if tensor.sizes is None:
        return True
    one_number = schema.task == "regression" and len(tensor.sizes) == 1
    open_batch = bool(tensor.sizes) and tensor.sizes[0] is None
    return open_batch and (one_number or _fits(tensor.sizes[1:], (schema.outputs,)))


def _choose(
    fitting: Sequence[str], outputs: Mapping[str, _Tensor | None], schema: DatasetSchema, wanted: str | None
) -> str:
    if wanted is not None and wanted not in outputs:
        raise _at_output(InvalidModelError, f"There is no output {wanted[:80]!r}{_listed(list(outputs))}.", "Name one.")
    candidates = [name for name in fitting if wanted in {None, name}]
    if not candidates:
        told = ", ".join(f"{name[:40]} {_described(tensor)}" for name, tensor in list(outputs.items())[:10])
        needed = f"float [batch, {schema.outputs}] is needed"
        raise _at_output(ShapeMismatchError, f"The graph answers {told}; {needed}.", "Is it for this data set?")
    likely = [name for name in candidates if _by_name(name) == "probabilities"] or candidates
    if len(likely) > 1:
        raise _at_output(
            InvalidModelError, f"Several outputs could be the answer{_listed(likely)}.", "Name one as `output`."
        )
    return likely[0]


def _at_output(
    kind: type[InvalidModelError | ShapeMismatchError], detail: str, hint: str
) -> InvalidModelError | ShapeMismatchError:
    return kind(detail, hint=hint, errors=[FieldError("/output", detail, kind.slug)])


def _guess(output: str, makers: Mapping[str, onnx.NodeProto]) -> Answers | None:
    """Tell probabilities from logits by the output's name, else by the node that makes it."""
    made_by = makers[output].op_type
    return _by_name(output) or ("probabilities" if made_by in _CLASSIFIERS else None)


def _by_name(output: str) -> Answers | None:
    plain = output.lower()
    if "prob" in plain or "softmax" in plain:
        return "probabilities"
    return "logits" if "logit" in plain else None


def _logits_behind(node: onnx.NodeProto) -> str | None:
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
    return node.input[0] if node.op_type == "Softmax" and axis in {-1, 1} else None


def _known_tensors(model: onnx.ModelProto) -> dict[str, _Tensor]:
    """Return type and sizes of what shape inference knows, for a batch of any size."""
    inferred = shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.output)
    return {value.name: _declared(value) for value in values if value.type.HasField("tensor_type")}


def _declared(value: onnx.ValueInfoProto) -> _Tensor:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return _Tensor(tensor.elem_type, None)
    sizes = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    return _Tensor(tensor.elem_type, sizes)


def _shown(sizes: Sizes | None) -> str:
    return "?" if sizes is None else f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"


def _described(tensor: _Tensor | None) -> str:
    if tensor is None:
        return "(no tensor)"
    kind = "float" if tensor.element in _FLOATS else helper.tensor_dtype_to_string(tensor.element).rpartition(".")[2]
    return f"{kind.lower()} {_shown(tensor.sizes)}"


def _listed(names: Sequence[str]) -> str:
    return f": {', '.join(name[:40] for name in names[:10])}" if names else ""
