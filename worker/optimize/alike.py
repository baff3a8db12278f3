"""Find layers of a trained parent that are alike, and the member of each group that may stand for the others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.domain.job_errors import MethodNotApplicableError
from app.domain.layers import Layer
from app.domain.network import Network
from app.domain.surgery.rewriting import Weights, variables_of
from app.domain.surgery.sharing import Groups, comparable, name_groups
from app.domain.surgery.similarity import (
    FEWEST_ROWS,
    centred_gram,
    group_similar,
    similarity_matrix,
    weight_vector,
)
from app.serving.runtime import load_engine, predict_rows
from worker.nn.export import to_onnx
from worker.optimize.parents import Parent
from worker.optimize.selection import selection_loss
from worker.rows import Array, Data

# More rows change an alignment by less than it says, and every layer's activations of all of them are in memory.
COMPARED_ROWS = 256

Similarity = Literal["cka", "cosine"]


@dataclass(frozen=True)
class Compared:
    """Hold layers that could share, by weights name, and how alike they are (layers, layers)."""

    names: list[str]
    similarity: NDArray[np.float64]

    def entry(self) -> dict[str, Any]:
        """Return the matrix as an entry of a report."""
        return {"layers": self.names, "similarity": self.similarity.round(4).tolist()}


def compare_layers(parent: Parent, similarity: Similarity, data: Data) -> list[Compared]:
    """Compare all layers of the parent that could share; raise MethodNotApplicableError where none could."""
    classes = comparable(parent.network)
    if similarity == "cosine":
        parts = {name: weight_vector(parent.weights, name) for names in classes for name in names}
    else:
        parts = _grams(parent, [name for names in classes for name in names], data)
    return [Compared(names, similarity_matrix([parts[name] for name in names])) for names in classes]


def group_compared(network: Network, compared: Sequence[Compared], threshold: float) -> dict[str, list[str]]:
    """Return groups of layers of which every pair is above the threshold; without any, say how near the best came."""
    groups = [
        [found.names[place] for place in group]
        for found in compared
        for group in group_similar(found.similarity, threshold)
    ]
    if groups:
        return name_groups(network, groups)
    best, one, other = max(_closest(found) for found in compared)
    raise MethodNotApplicableError(
        f"No two layers have a similarity of {threshold:g}: the most alike, {one!r} and {other!r}, have {best:.3f}.",
        hint=f"Use a threshold of at most {np.floor(best * 1000) / 1000:g}, or name the groups yourself.",
    )


def _closest(compared: Compared) -> tuple[float, str, str]:
    pairs = np.array(compared.similarity)
    np.fill_diagonal(pairs, -np.inf)
    first, second = sorted(np.unravel_index(pairs.argmax(), pairs.shape))
    return float(pairs[first, second]), compared.names[first], compared.names[second]


def _grams(parent: Parent, names: Sequence[str], data: Data) -> dict[str, NDArray[Any]]:
    rows = data.x["selection"]
    if len(rows) < FEWEST_ROWS:
        raise MethodNotApplicableError(
            f"{len(rows)} selection rows are too few to compare what layers answer.",
            hint='Compare their weights: "similarity": "cosine".',
        )
    places = np.unique(np.linspace(0, len(rows) - 1, min(COMPARED_ROWS, len(rows))).round().astype(int))
    first = {layer.weights_name: layer for layer in reversed(parent.network.layers)}
    layers = [first[name] for name in names]
    activations = activations_of(parent.network, parent.weights, layers, np.asarray(rows[places]))
    return {name: centred_gram(answers) for name, answers in zip(names, activations, strict=True)}


def activations_of(network: Network, weights: Weights, layers: Sequence[Layer], rows: Array) -> Iterator[Array]:
    """Yield what each layer answers for raw rows, (rows, ...), after its own activation and as it is served."""
    graph = to_onnx(network, weights)
    tensors = [tensor_of(layer) for layer in layers]
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    engine = load_engine(graph.SerializeToString())
    yield from (predict_rows(engine, rows, name) for name in tensors)


def tensor_of(layer: Layer) -> str:
    """Return the name of the tensor that holds a layer's answer in an exported graph."""
    activation = getattr(layer, "activation", "linear")
    return f"layer.{layer.name}" if activation == "linear" else f"layer.{layer.name}.{activation}"


def choose_members(parent: Parent, groups: Groups, data: Data) -> dict[str, dict[str, float]]:
    """Return, by group, the selection loss with each member's weights in all places of the group.

    Group by group: those before use their best member already, those after are as in the parent.
    """
    weights = dict(parent.weights)
    losses: dict[str, dict[str, float]] = {}
    for group, members in groups.items():
        losses[group] = {
            member: selection_loss(parent.network, weights | _copied(weights, member, members), data)
            for member in members
        }
        weights |= _copied(weights, best_member(losses[group]), members)
    return losses


def best_member(losses: Mapping[str, float]) -> str:
    """Return the member of the least loss, the first of equal ones."""
    return min(losses, key=losses.__getitem__)


def _copied(weights: Weights, member: str, members: Sequence[str]) -> dict[str, NDArray[Any]]:
    values = variables_of(weights, member)
    return {f"{other}/{variable}": value for other in members for variable, value in values.items()}
