"""Quantization as a method: store and compute with fewer bits per number, in the graph that serves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.helper import tensor_dtype_to_np_dtype

from app.domain.job_errors import MethodNotApplicableError
from app.domain.models import Link
from app.domain.optimize_specs import Quantize
from app.domain.specs import OptimizeSpec
from app.serving.packed import is_packed_file, read_graph, write_graph
from app.serving.runtime import load_engine, predict_rows
from worker.assignment import Assignment, VersionInput
from worker.context import Context
from worker.graph_cost import graph_cost
from worker.optimize.parents import baseline_of, link_to, referred, served_path, size_notes
from worker.optimize.quantizing import (
    DENSE,
    Calibrated,
    calibrate,
    to_dynamic_int8,
    to_float16,
    to_static_int8,
    weighted_layers,
)
from worker.optimize.tidying import fold_batch_norms, tidy
from worker.package import PARITY_ROWS, Draft, Product, finish, served_in
from worker.rows import Array, Data

# A channel that sums fewer products is no faster in int8; it is left alone where its layer has few of the weights.
_FEWEST_PRODUCTS = 32
_SMALL_SHARE = 0.05
_DAMAGE_ROWS = 512
_CALIBRATION_STREAM = 35
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "MatMulInteger")


@dataclass(frozen=True)
class Quantized:
    """Hold a quantized graph and what the report says of how it came about."""

    graph: onnx.ModelProto
    notes: dict[str, Any]


def quantize(spec: OptimizeSpec, method: Quantize, assignment: Assignment, context: Context, data: Data) -> Product:
    """Quantize the served graph of any parent, single or fused; inputs and outputs keep their names and types."""
    parent = referred(assignment, "parent", data)
    graph = _read_float(parent)
    packed = is_packed_file(served_path(parent))
    kept = graph if _holds_codebooks(graph) else fold_batch_norms(graph)
    if method.mode == "static_int8":
        quantized = _quantize_statically(kept, graph, spec, method, assignment.scratch, data)
    else:
        quantized = _store_in(method.mode, kept)
    for line in quantized.notes.get("left_float", {}).items():
        context.reporter.log("{} stays float: {}".format(*line))
    directory = assignment.output / "model"
    directory.mkdir(parents=True)
    path = write_graph(directory, tidy(quantized.graph), packed=packed)
    notes = {"mode": method.mode, **quantized.notes, **numbers_of(path), "parent": size_notes(parent)}
    if data.weights:
        notes["row_weights"] = "not used: nothing is learned, and every row calibrates and is counted alike"
    context.reporter.progress(1, 1)
    return finish(_draft(spec, method, assignment, parent, directory, notes, data), assignment, data)


def _draft(
    spec: OptimizeSpec,
    method: Quantize,
    assignment: Assignment,
    parent: VersionInput,
    directory: Path,
    notes: dict[str, Any],
    data: Data,
) -> Draft:
    parameters, macs = counts_of(parent, served_in(directory))
    return Draft(
        directory=directory,
        kind=parent.manifest.kind,
        name=spec.name,
        method="quantize",
        seed=assignment.seed,
        recipe_digest=assignment.recipe_digest,
        parameters=parameters,
        macs=macs,
        weights_bytes=0,
        parity=_difference(parent, directory, data),
        baselines=[baseline_of(parent, data, role="parent")],
        links=(link_to(parent, "parent"), *_members_of(parent)),
        notes=notes,
        max_drop=method.max_drop,
    )


def counts_of(parent: VersionInput, path: Path) -> tuple[int, int]:
    """Count the parameters and the multiply-accumulates per row of a file made of the parent's, in the file itself.

    What the parent's figure counts otherwise than its graph, a log-mel front as a fast transform, is counted so here.
    """
    known = parent.manifest.metrics.macs
    before, after = (graph_cost(read_graph(file)) for file in (served_path(parent), path))
    if before.macs is None or after.macs is None:
        return after.parameters, known
    return after.parameters, after.macs + known - before.macs


def _members_of(parent: VersionInput) -> tuple[Link, ...]:
    """Return the links to the members whose own answers the graph gives; those of a serial fusion are only logits."""
    if parent.manifest.method == "serial":
        return ()
    return tuple(link for link in parent.manifest.links if link.role == "member")


def _read_float(parent: VersionInput) -> onnx.ModelProto:
    graph = read_graph(served_path(parent))
    if any(node.op_type in _QUANTIZED for node in graph.graph.node):
        raise MethodNotApplicableError(
            f"{parent.name}/{parent.version} is quantized already.", hint="Start from the float version it was made of."
        )
    for place, node in enumerate(graph.graph.node):
        node.name = node.name or f"node{place}"
    return graph


def _holds_codebooks(graph: onnx.ModelProto) -> bool:
    """Say whether kernels hold few values each: then one scale per kernel keeps them few, and nothing is folded."""
    names = set(weighted_layers(graph).values())
    kernels = [numpy_helper.to_array(tensor) for tensor in graph.graph.initializer if tensor.name in names]
    return any(kernel.size >= 64 and 4 * len(np.unique(kernel)) <= min(kernel.size, 1024) for kernel in kernels)


def _quantize_statically(
    graph: onnx.ModelProto, parent: onnx.ModelProto, spec: OptimizeSpec, method: Quantize, scratch: Path, data: Data
) -> Quantized:
    rows = calibration_rows(data, count=method.calibration_rows, seed=spec.seed)
    per_channel = not _holds_codebooks(parent)
    calibrated = calibrate(graph, rows, scratch, per_channel=per_channel)
    chosen = _worth_quantizing(graph)
    left = dict.fromkeys(
        (layer for layer in weighted_layers(graph) if layer not in chosen),
        f"few weights, and fewer than {_FEWEST_PRODUCTS} products a channel, which int8 makes no faster",
    )
    if not chosen:
        raise MethodNotApplicableError("No layer multiplies by stored weights.", hint="Use the mode float16.")
    notes: dict[str, Any] = {
        "calibration": {"rows": len(rows), "from": "train", "seed": spec.seed},
        "scales": "per channel" if per_channel else "per kernel, so that few values stay few",
    }
    if method.fall_back and method.max_drop is not None:
        chosen, lost, fallen = _fall_back(parent, calibrated, chosen, method.max_drop, data)
        left |= dict.fromkeys(fallen, "among the layers that lose most")
        notes["selection_drop"] = lost
    notes |= {"int8_layers": chosen, "left_float": left}
    return Quantized(to_static_int8(calibrated, chosen), notes)


def calibration_rows(data: Data, *, count: int, seed: int) -> Array:
    """Draw rows of the train set, in the type that the graph takes; no other set may shape the model."""
    places = np.random.default_rng((seed, _CALIBRATION_STREAM)).permutation(len(data.x["train"]))[:count]
    return np.ascontiguousarray(data.x["train"][np.sort(places)], dtype=data.input_dtype)


def _worth_quantizing(graph: onnx.ModelProto) -> list[str]:
    """Return the layers that int8 makes faster, or of which it saves bytes that count."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.graph.initializer}
    layers = weighted_layers(graph)
    convolutions = {node.name for node in graph.graph.node if node.op_type == "Conv"}
    total = sum(int(np.prod(shapes[kernel])) for kernel in layers.values())

    def is_worth_it(layer: str) -> bool:
        shape = shapes[layers[layer]]
        products = int(np.prod(shape[1:] if layer in convolutions else shape[-2:-1]))
        return products >= _FEWEST_PRODUCTS or int(np.prod(shape)) >= _SMALL_SHARE * total

    return [layer for layer in layers if is_worth_it(layer)] or list(layers)


def _fall_back(
    parent: onnx.ModelProto, calibrated: Calibrated, layers: Sequence[str], max_drop: float, data: Data
) -> tuple[list[str], float, list[str]]:
    """Leave the layers in float that hurt most, one more each time, until the selection rows lose at most `max_drop`.

    Return the layers in int8, what is lost with them, and the others.
    """
    answer = _answering(data.x["selection"], data)
    before = answer(parent)
    lost = _drop(before, answer(to_static_int8(calibrated, layers)), data)
    if lost <= max_drop:
        return list(layers), lost, []
    damage = _damage(parent, calibrated, layers, data)
    ranked = sorted(layers, key=lambda layer: damage[layer], reverse=True)
    for count in range(1, len(ranked)):
        chosen = [layer for layer in layers if layer not in ranked[:count]]
        lost = _drop(before, answer(to_static_int8(calibrated, chosen)), data)
        if lost <= max_drop:
            return chosen, lost, ranked[:count]
    raise MethodNotApplicableError(
        f"Even one layer in int8 loses {lost:.2f} points on the selection rows; at most {max_drop:g} is allowed.",
        hint="Use the mode float16, more calibration rows, or a larger max_drop.",
    )


def _damage(parent: onnx.ModelProto, calibrated: Calibrated, layers: Sequence[str], data: Data) -> dict[str, float]:
    """Return how far the answers move when only this layer is in int8: the mean squared change on selection rows."""
    answer = _answering(data.x["selection"][:_DAMAGE_ROWS], data)
    before = answer(parent)
    return {layer: float(np.square(answer(to_static_int8(calibrated, [layer])) - before).mean()) for layer in layers}


def _answering(rows: Array, data: Data) -> Callable[[onnx.ModelProto], NDArray[Any]]:
    return lambda graph: predict_rows(load_engine(graph.SerializeToString()), rows, data.output)


def _drop(before: NDArray[Any], after: NDArray[Any], data: Data) -> float:
    """Return what is lost on the selection rows: points of accuracy, or percent of RMSE."""
    targets = np.asarray(data.y["selection"])
    if data.classification:
        right = [float((answers.argmax(axis=1) == targets).mean()) for answers in (before, after)]
        return 100 * (right[0] - right[1])
    old, new = (float(np.square(answers - targets.reshape(answers.shape)).mean() ** 0.5) for answers in (before, after))
    return 100 * (new / old - 1) if old else float(new > 0) * 100


def _store_in(mode: str, graph: onnx.ModelProto) -> Quantized:
    if mode == "float16":
        speed = "bytes, not time: the weights are turned back to float32 when the file is loaded"
        return Quantized(to_float16(graph), {"saves": speed})
    layers = list(weighted_layers(graph, DENSE))
    if not layers:
        raise MethodNotApplicableError(
            "Dynamic quantization is for dense layers, and this graph has none.", hint="Use the mode static_int8."
        )
    others = [layer for layer in weighted_layers(graph) if layer not in layers]
    left = dict.fromkeys(others, "a convolution, which the runtime does not do faster with scales found as they come")
    return Quantized(to_dynamic_int8(graph, layers), {"int8_layers": layers, "left_float": left})


def numbers_of(path: Path) -> dict[str, Any]:
    """Count, in the file itself, the numbers that it stores by type, and the share of weights that are int8.

    Weights are the tensors of two and more axes.
    """
    kinds: dict[str, dict[str, int]] = {}
    weights = {"int8": 0, "all": 0}
    for tensor in read_graph(path).graph.initializer:
        kind = str(tensor_dtype_to_np_dtype(tensor.data_type))
        size = int(np.prod(tensor.dims))
        entry = kinds.setdefault(kind, {"tensors": 0, "numbers": 0})
        entry["tensors"] += 1
        entry["numbers"] += size
        if len(tensor.dims) >= 2:
            weights["all"] += size
            weights["int8"] += size if kind in ("int8", "uint8") else 0
    return {"dtypes": kinds, "int8_weight_fraction": weights["int8"] / max(1, weights["all"])}


def _difference(parent: VersionInput, directory: Path, data: Data) -> dict[str, Any]:
    """Say how far the answers moved from the parent's; raise MethodNotApplicableError when they are no numbers."""
    rows = data.x["selection"][:PARITY_ROWS]
    graphs = (served_path(parent), served_in(directory))
    before, after = (predict_rows(load_engine(path), rows, data.output) for path in graphs)
    if not np.isfinite(after).all():
        raise MethodNotApplicableError("The quantized graph answers what is no number.", hint="Use another mode.")
    return {"rows": len(rows), "max_difference": float(np.abs(after - before).max(initial=0)), "against": "the parent"}
