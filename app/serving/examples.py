"""Rows from TensorFlow Serving's examples: features by name, their values flat as in a `tf.train.Example`."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from app.domain.errors import FieldError, InvalidRequestError
from app.domain.models import InputSignature
from app.domain.prediction_errors import InputShapeMismatchError
from app.serving.inputs import TENSOR, Rows, instances_to_rows


def examples_to_rows(
    examples: Sequence[Mapping[str, Any]], context: Mapping[str, Any], signature: InputSignature
) -> Rows:
    """Return rows of examples.

    Args:
        examples: One mapping of features per row. Values are flat in C order or nested as the row; one value stands for
            a row of one.
        context: Features that all examples have.
        signature: Shape of one row and dtype.

    Returns:
        [batch, *row shape] of the signature's dtype.
    """
    rows = [_values(example, context, f"examples[{index}]") for index, example in enumerate(examples)]
    return instances_to_rows([_as_row(values, signature.shape) for values in rows], signature)


def _values(example: Mapping[str, Any], context: Mapping[str, Any], where: str) -> object:
    for name in example.keys() & context.keys():
        detail = f"{where} and the context both have the feature {name[:80]!r}."
        field = FieldError(f"/context/{name[:80]}", detail, InvalidRequestError.slug)
        raise InvalidRequestError(detail, hint="Send it once.", errors=[field])
    features = {**context, **example}
    if set(features) != {TENSOR}:
        found = ", ".join(sorted(features))[:80] or "nothing"
        raise InputShapeMismatchError(
            f"{where} has the features {found}; the model takes `{TENSOR}`.", hint='Send {"x": values} per example.'
        )
    return features[TENSOR]


def _as_row(values: object, shape: tuple[int, ...]) -> object:
    if isinstance(values, list):
        if len(values) == 1 and isinstance(values[0], str | dict):
            return values[0]
        is_flat = len(values) == prod(shape) and not any(isinstance(value, list) for value in values)
        return _nested(values, shape) if is_flat else values
    is_number = isinstance(values, int | float) and not isinstance(values, bool)
    return _nested([values], shape) if is_number and prod(shape) == 1 else values


def _nested(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values
