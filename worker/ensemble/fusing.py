"""From members and a way to fuse them to one graph, one recipe and one honest report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from app.domain import fusion as maths
from app.domain.datasets import RowSet, canonical_json
from app.domain.job_errors import ExportMismatchError, NoGainError
from app.domain.specs import EnsembleSpec
from app.serving.graph import PREDICTION_SET, Fusion, LogitSum, MetaLearner, WeightedMean, fuse
from app.serving.packed import is_packed_file, read_graph, write_graph
from app.serving.runtime import load_engine, predict_rows
from worker.assignment import Assignment
from worker.ensemble.arithmetic import fused_answers, needed_outputs
from worker.ensemble.calibrating import calibrate_fusion, coverage_notes
from worker.ensemble.diversity import diversity_notes, marginal_values
from worker.ensemble.members import Member, answers_of, best_of
from worker.package import PARITY_ROWS, Baseline, Draft, Product, finish, summarize
from worker.rows import Array, Data

FUSION_TOLERANCE = 1e-5


@dataclass(frozen=True)
class _Ready:
    """Hold what is fused with all temperatures, and the level of its prediction sets."""

    fused: "Fused"
    level: float | None = None


@dataclass(frozen=True)
class Fused:
    """Hold the members of an ensemble in order, how they are fused, and what the report should add."""

    method: str
    members: Sequence[Member]
    fusion: Fusion
    notes: Mapping[str, Any]
    history: Sequence[Mapping[str, float]] = ()


def fused_product(fused: Fused, assignment: Assignment, data: Data) -> Product:
    """Write, check and measure the fused graph; raise NoGainError when a required gain is not shown."""
    spec = assignment.spec
    if not isinstance(spec, EnsembleSpec):
        raise TypeError(f"a {spec.kind} job makes no ensemble")
    directory = assignment.output / "ensemble"
    directory.mkdir(parents=True)
    ready = calibrated(fused, spec, data)
    parity = _write(ready.fused, directory, data, level=ready.level)
    product = finish(_draft(ready.fused, directory, parity, assignment, data), assignment, data)
    check_gain(spec, product, data)
    return product


def calibrated(fused: Fused, spec: EnsembleSpec, data: Data) -> _Ready:
    """Fit what is fitted on fused answers for the selection rows: a temperature, and the level of prediction sets."""
    before = _fuse_rows(fused, fused.fusion, "selection", data)
    fusion, told = calibrate_fusion(fused.fusion, before, data, wanted=spec.calibrate)
    notes = {**fused.notes, "calibration": {**fused.notes.get("calibration", {}), **told}}
    if spec.conformal is None:
        return _Ready(replace(fused, fusion=fusion, notes=notes))
    selection, report = (_fuse_rows(fused, fusion, name, data) for name in ("selection", "report"))
    level, covered = coverage_notes(selection, report, data, spec.conformal)
    return _Ready(replace(fused, fusion=fusion, notes={**notes, **covered}), level)


def _fuse_rows(fused: Fused, fusion: Fusion, name: RowSet, data: Data) -> NDArray[np.float64]:
    rows, graphs = data.x[name], [member.graph for member in fused.members]
    answers = {output: answers_of(graphs, rows, output) for output in needed_outputs(fusion, data)}
    return fused_answers(fusion, answers, data, rows)


def check_gain(spec: EnsembleSpec, product: Product, data: Data) -> None:
    """Raise NoGainError when a required gain over the best member, the first comparison, is not shown."""
    if spec.require_gain and product.comparisons[0].verdict != "better":
        raise NoGainError(
            summarize(product.comparisons[0], unit="points of accuracy" if data.classification else "of squared error"),
            hint="Add members that differ more, measure on more report rows, or set require_gain to false.",
        )


def _write(fused: Fused, directory: Path, data: Data, *, level: float | None) -> dict[str, Any]:
    """Write the recipe and the fused graph, packed when a member is: what it saves would be lost otherwise."""
    graph = fuse([read_graph(member.graph) for member in fused.members], fused.fusion, level=level)
    path = write_graph(directory, graph, packed=any(is_packed_file(member.graph) for member in fused.members))
    (directory / "recipe.json").write_bytes(canonical_json(_recipe(fused)))
    if isinstance(fused.fusion, MetaLearner):
        save_file(fused.fusion.tensors, directory / "weights.safetensors")
    return _check_parity(fused, path, data)


def _check_parity(fused: Fused, path: Path, data: Data) -> dict[str, Any]:
    """Compare the fused graph with the arithmetic of fusion on real rows, predictions in units of the largest one."""
    rows = data.x["selection"][:PARITY_ROWS]
    graphs = [member.graph for member in fused.members]
    answers = {name: answers_of(graphs, rows, name) for name in needed_outputs(fused.fusion, data)}
    expected = fused_answers(fused.fusion, answers, data, rows)
    found = predict_rows(load_engine(path), rows, data.output)
    difference = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not difference <= FUSION_TOLERANCE:
        raise ExportMismatchError(
            f"The fused graph differs from the fusion of its members by {difference:.2e} on {len(rows)} rows; "
            f"at most {FUSION_TOLERANCE:.0e} is accepted."
        )
    return {"rows": len(rows), "max_difference": difference}


def weights_of(fusion: Fusion, members: int) -> list[float | None]:
    """Return each member's weight; a meta-learner has none."""
    return [None] * members if isinstance(fusion, MetaLearner) else [float(weight) for weight in fusion.weights]


def _recipe(fused: Fused) -> dict[str, Any]:
    weights = weights_of(fused.fusion, len(fused.members))
    members = [
        {
            "version_id": member.version_id,
            "name": member.name,
            "version": member.version,
            "digest": member.digest,
            "weight": weight,
        }
        for member, weight in zip(fused.members, weights, strict=True)
    ]
    if isinstance(fused.fusion, WeightedMean) and fused.fusion.temperatures:
        for entry, temperature in zip(members, fused.fusion.temperatures, strict=True):
            entry["temperature"] = temperature
    start = {"start": fused.fusion.start} if isinstance(fused.fusion, LogitSum) and fused.fusion.start else {}
    cooled = {"temperature": fused.fusion.temperature} if isinstance(fused.fusion, WeightedMean) else {}
    return {"method": fused.method, "members": members, **start, **cooled}


def _draft(fused: Fused, directory: Path, parity: dict[str, Any], assignment: Assignment, data: Data) -> Draft:
    answers = answers_of([member.graph for member in fused.members], data.x["report"], data.output)
    best = best_of(answers, data.y["report"], data)
    distinct = {member.digest: member.metrics for member in fused.members}.values()
    meta = fused.fusion.size if isinstance(fused.fusion, MetaLearner) else 0
    weights = weights_of(fused.fusion, len(fused.members))
    return Draft(
        directory=directory,
        kind="ensemble",
        name=assignment.spec.name,
        method=fused.method,
        seed=assignment.seed,
        recipe_digest=assignment.recipe_digest,
        parameters=sum(metrics.parameters for metrics in distinct) + meta,
        macs=sum(metrics.macs for metrics in distinct) + meta,
        weights_bytes=sum(metrics.weights_bytes for metrics in distinct) + 4 * meta,
        parity=parity,
        baselines=[
            Baseline(f"its best member {fused.members[best].label}", answers[best], fused.members[best].graph),
            Baseline("the plain mean of its members", answers.mean(axis=0)),
        ],
        links=tuple(member.link(place, weights[place]) for place, member in enumerate(fused.members)),
        notes={
            **fused.notes,
            **_left_out(assignment),
            "members": _member_notes(fused, answers, data),
            "diversity": diversity_notes(answers, data),
            **_agreement(answers, data),
        },
        history=fused.history,
        extra_outputs=(PREDICTION_SET,) if "conformal" in fused.notes else (),
    )


def _left_out(assignment: Assignment) -> dict[str, Any]:
    """Name the members that the ensemble does without, and why."""
    return {"left_out": [item.model_dump() for item in assignment.left_out]} if assignment.left_out else {}


def _member_notes(fused: Fused, answers: NDArray[Any], data: Data) -> list[dict[str, Any]]:
    weights = weights_of(fused.fusion, len(fused.members))
    marginal = marginal_values(fused.fusion, _outputs(fused, answers, data), data)
    return [
        {
            "model": member.label,
            "digest": member.digest,
            "weight": weight,
            **_figures(own, data.y["report"], data),
            "marginal_value": value,
        }
        for member, weight, own, value in zip(fused.members, weights, answers, marginal, strict=True)
    ]


def _outputs(fused: Fused, answers: NDArray[Any], data: Data) -> dict[str, NDArray[Any]]:
    """Return the members' outputs for the report rows that the fusion is made of."""
    graphs = [member.graph for member in fused.members]
    return {
        output: answers if output == data.output else answers_of(graphs, data.x["report"], output)
        for output in needed_outputs(fused.fusion, data)
    }


def _figures(answers: NDArray[Any], targets: Array, data: Data) -> dict[str, float]:
    if not data.classification:
        return {"rmse": maths.mean_squared_error(answers, np.asarray(targets).reshape(answers.shape)) ** 0.5}
    return {
        "accuracy": float((answers.argmax(axis=1) == targets).mean()),
        "nll": maths.negative_log_likelihood(answers, np.asarray(targets)),
    }


def _agreement(answers: NDArray[Any], data: Data) -> dict[str, Any]:
    """Say how far the members differ on the report rows, the mean over all rows."""
    if not data.classification:
        return {"agreement": {"deviation": float(maths.spread(answers).deviation.mean())}}
    told = maths.uncertainty(answers)._asdict()
    return {"agreement": {name: float(values.mean()) for name, values in told.items()}}
