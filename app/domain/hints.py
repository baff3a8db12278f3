"""Which shapes a hint compares: a layer of the student and one of the teacher, brought to the same places."""

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.job_errors import MethodNotApplicableError
from app.domain.layer_base import Shape
from app.domain.network import Network, trace
from app.domain.optimize_specs import Hints


class HintShapes(NamedTuple):
    """Hold the shapes (places..., channels) of both layers, and the places at which they are compared.

    Maps are averaged down to the smaller number of places along each axis; where only one of the two layers has places,
    both are averaged over all of them.
    """

    student: Shape
    teacher: Shape
    places: Shape

    @property
    def numbers(self) -> int:
        """Count the teacher's numbers per row that the student is to follow."""
        return prod(self.places) * self.teacher[-1]

    @property
    def needs_projection(self) -> bool:
        """Say whether the student's channels are as many as the teacher's only after a projection."""
        return self.student[-1] != self.teacher[-1]


def hint_shapes(student: Network, teacher: Network, hints: Hints) -> HintShapes:
    """Return the shapes of the layers that a hint names; raise MethodNotApplicableError when one is not there.

    The answer of a regression follows no layer: while it learns, it is in other units than the teacher's layers are.
    """
    if student.task == "regression" and hints.student_layer == student.layers[-1].name:
        raise MethodNotApplicableError(
            f"The student's layer {hints.student_layer!r} is its answer, which learns from the teacher's already.",
            hint="Name a layer before it.",
        )
    own = _shape_of(student, hints.student_layer, "student")
    guide = _shape_of(teacher, hints.teacher_layer, "teacher")
    both_have_places = len(own) == len(guide)
    places = tuple(map(min, zip(own[:-1], guide[:-1], strict=True))) if both_have_places else ()
    return HintShapes(own, guide, places)


def average_places(values: NDArray[np.float32], places: Shape) -> NDArray[np.float32]:
    """Average maps (rows, places..., channels) down to fewer places; no places at all means over all of them."""
    if not places:
        return np.asarray(values.reshape(len(values), -1, values.shape[-1]).mean(axis=1), np.float32)
    for axis, size in enumerate(places, 1):
        matrix = averaging_matrix(values.shape[axis], size)
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return np.asarray(values, np.float32)


def averaging_matrix(size: int, fewer: int) -> NDArray[np.float32]:
    """Return (fewer, size): each row averages its share of the places, which may overlap by one (adaptive pooling)."""
    matrix = np.zeros((fewer, size), np.float32)
    for row in range(fewer):
        first, last = row * size // fewer, -(-(row + 1) * size // fewer)
        matrix[row, first:last] = 1 / (last - first)
    return matrix


def _shape_of(network: Network, name: str, whose: str) -> Shape:
    shapes = trace(network).shapes
    known = [layer.name for layer in network.layers]
    if name not in known:
        raise MethodNotApplicableError(
            f"The {whose} has no layer {name!r}.", hint=f"Its layers: {', '.join(known[:40])}."
        )
    return shapes[name]
