"""Read from a foreign graph in which order it answers its classes, where it says so."""

from collections.abc import Iterator, Sequence

import onnx

from app.domain.alignment import class_order, same_classes
from app.domain.errors import FieldError, ShapeMismatchError
from app.serving.opsets import ML_DOMAIN

_TEXTS, _NUMBERS = {"classlabels_strings"}, {"classlabels_ints", "classlabels_int64s"}


def own_classes(model: onnx.ModelProto, classes: Sequence[str]) -> list[str] | None:
    """Return the labels that the classifiers of a graph carry, in their order; None where they say nothing certain.

    Numbers that are not the names of the data set's classes are taken for their places. Raise ShapeMismatchError for
    other names.
    """
    found = {(is_text, labels) for is_text, labels in _labels(model) if len(labels) == len(classes)}
    if len(found) != 1:
        return None
    is_text, labels = found.pop()
    if same_classes(labels, classes):
        return list(labels)
    if is_text:
        _refuse(labels, classes)
    return None


def _labels(model: onnx.ModelProto) -> Iterator[tuple[bool, tuple[str, ...]]]:
    for node in model.graph.node:
        for attribute in node.attribute if node.domain == ML_DOMAIN else ():
            if attribute.name in _TEXTS and attribute.strings:
                yield True, tuple(text.decode("utf-8", "replace") for text in attribute.strings)
            elif attribute.name in _NUMBERS and attribute.ints:
                yield False, tuple(map(str, attribute.ints))


def _refuse(labels: Sequence[str], classes: Sequence[str]) -> None:
    try:
        class_order(labels, classes, whose="The graph")
    except ShapeMismatchError as other:
        hint = "Where only the names differ, give the data set's in the graph's order as `classes`."
        raise ShapeMismatchError(
            other.detail, hint=hint, errors=[FieldError("/classes", other.detail, other.slug)]
        ) from None
