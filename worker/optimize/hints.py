"""Where hints come from: a layer of the teacher's own network, asked once for every row of the transfer set."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from app.domain.hints import HintShapes, average_places, hint_shapes
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import Network
from app.domain.optimize_specs import Hints
from app.serving.runtime import Engine, batches_of
from worker.assignment import VersionInput
from worker.nn.hints import ACTIVATION, activation_engine, hinted, with_hint
from worker.nn.objectives import Objective
from worker.optimize.parents import label_of
from worker.rows import Array

BATCH_ROWS = 256


@dataclass(frozen=True)
class Guide:
    """Hold a layer of the teacher, and how the student's is compared with it."""

    hints: Hints
    shapes: HintShapes
    engine: Engine

    def show(self, rows: Array) -> NDArray[np.float32]:
        """Return what the student is to follow for raw rows: (rows, numbers)."""
        parts = [
            self.engine.run(np.ascontiguousarray(batch, self.engine.dtype), [ACTIVATION])[0]
            for batch in batches_of(rows, BATCH_ROWS)
        ]
        return np.concatenate([average_places(part, self.shapes.places).reshape(len(part), -1) for part in parts])

    def objective(self, plain: Objective, *, outputs: int, targets: int) -> Objective:
        """Return an objective with the hint as its second term."""
        return hinted(plain, outputs=outputs, targets=targets, weight=self.hints.weight)

    def around(self, network: Network, seed: int) -> Callable[[Any], Any]:
        """Return what puts, behind the answers of a student's model, what it follows."""
        return partial(with_hint, network=network, layer=self.hints.student_layer, shapes=self.shapes, seed=seed)


def guide_of(hints: Hints, teacher: VersionInput, student: Network) -> Guide:
    """Return the guide; raise MethodNotApplicableError where the teacher has no such layer, or no layers of its own."""
    if "network.json" not in teacher.files:
        raise MethodNotApplicableError(
            f"{label_of(teacher)} is an ensemble, and has no layers of its own that could give hints.",
            hint="Distill from one of its members, or leave out `hints`.",
        )
    network = Network.model_validate_json(teacher.files["network.json"].read_bytes())
    shapes = hint_shapes(student, network, hints)
    weights = load_file(teacher.files["weights.safetensors"])
    return Guide(hints, shapes, activation_engine(network, weights, hints.teacher_layer))
