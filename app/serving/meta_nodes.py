"""The nodes of a meta-learner: from the members' answers, and perhaps the row itself, to the answer of a stack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from app.domain.fusion import SMALLEST_PROBABILITY

INPUT = "x"
Constant = Callable[[str, object], str]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HiddenLayer:
    """Add tanh(f @ kernel + bias) @ answers to what is linear in the features f.

    kernel (features, width), bias (width,), answers (width, outputs).
    """

    kernel: Floats
    bias: Floats
    answers: Floats


@dataclass(frozen=True)
class Passed:
    """Let the row's own numbers be features too: (x - mean) / deviation, both (numbers of a row,)."""

    mean: Floats
    deviation: Floats


@dataclass(frozen=True)
class MetaLearner:
    """Fuse by a meta-learner on the members' values side by side, member by member (stacking).

    For a classification these are log-probabilities: kernel (members * classes, classes), bias (classes,). For a
    regression they are predictions: kernel (members, 1), bias (1,). With `passed` the kernel has a row more for every
    number of a row.
    """

    kernel: Floats
    bias: Floats
    hidden: HiddenLayer | None = None
    passed: Passed | None = None

    @property
    def tensors(self) -> dict[str, Floats]:
        """Return all its numbers by name."""
        found = {"kernel": self.kernel, "bias": self.bias}
        if self.hidden is not None:
            found |= {f"hidden/{name}": values for name, values in vars(self.hidden).items()}
        if self.passed is not None:
            found |= {f"passed/{name}": values for name, values in vars(self.passed).items()}
        return found

    @property
    def size(self) -> int:
        """Count its numbers."""
        return sum(values.size for values in self.tensors.values())


def meta_nodes(learner: MetaLearner, answers: Sequence[str], taken: str, constant: Constant) -> list[NodeProto]:
    """Return the nodes from the members' answers (probabilities or predictions) to the stack's.

    `constant` stores numbers under a name and returns the name that they have.
    """
    nodes = [node("Concat", answers, "side_by_side", axis=1)]
    features = "side_by_side"
    if taken != "prediction":
        limits = [constant("smallest", SMALLEST_PROBABILITY), constant("largest", 1.0)]
        nodes += [node("Clip", [features, *limits], "clipped"), node("Log", ["clipped"], "log_probabilities")]
        features = "log_probabilities"
    if learner.passed is not None:
        nodes += _passed_nodes(learner.passed, features, constant)
        features = "features"
    answer = "prediction" if taken == "prediction" else "logits"
    nodes += _learner_nodes(learner, features, answer, constant)
    return nodes if taken == "prediction" else [*nodes, softmax_node()]


def _passed_nodes(passed: Passed, features: str, constant: Constant) -> list[NodeProto]:
    return [
        node("Flatten", [INPUT], "flat", axis=1),
        node("Sub", ["flat", constant("passed/mean", passed.mean)], "centred"),
        node("Div", ["centred", constant("passed/deviation", passed.deviation)], "standardized"),
        node("Concat", [features, "standardized"], "features", axis=1),
    ]


def _learner_nodes(learner: MetaLearner, features: str, answer: str, constant: Constant) -> list[NodeProto]:
    linear = [features, constant("meta/kernel", learner.kernel), constant("meta/bias", learner.bias)]
    hidden = learner.hidden
    if hidden is None:
        return [node("Gemm", linear, answer)]
    into = [features, constant("meta/hidden_kernel", hidden.kernel), constant("meta/hidden_bias", hidden.bias)]
    return [
        node("Gemm", linear, "linear"),
        node("Gemm", into, "hidden"),
        node("Tanh", ["hidden"], "activated"),
        node("Gemm", ["activated", constant("meta/answers", hidden.answers), "linear"], answer),
    ]


def node(operator: str, inputs: Sequence[str], output: str, **attributes: int) -> NodeProto:
    """Return a node that is named after its output."""
    made: NodeProto = helper.make_node(operator, list(inputs), [output], name=output, **attributes)
    return made


def softmax_node() -> NodeProto:
    """Return the node from logits to probabilities."""
    return node("Softmax", ["logits"], "probabilities", axis=-1)
