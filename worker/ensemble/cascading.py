"""Cascades: cheap members answer what they are sure of, dear ones the rest, in one graph that skips the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain import cascade as maths
from app.domain.cascade import Choice
from app.domain.datasets import RowSet, canonical_json
from app.domain.ensemble_specs import Cascade
from app.domain.job_errors import ExportMismatchError
from app.domain.specs import EnsembleSpec
from app.serving import cascade as compiled
from app.serving.packed import is_packed_file, read_graph, write_graph
from app.serving.runtime import load_engine, predict_rows
from worker.assignment import Assignment
from worker.context import Context
from worker.ensemble.calibrating import CalibratedMembers, calibrate_members, with_temperatures
from worker.ensemble.diversity import diversity_notes
from worker.ensemble.fusing import FUSION_TOLERANCE, check_gain
from worker.ensemble.members import Member, answers_of, best_of, registered_members
from worker.package import PARITY_ROWS, Baseline, Draft, Product, finish
from worker.rows import Data

Floats = NDArray[np.float64]
_NO_TEMPERATURE = 1.0


def build_cascade(spec: EnsembleSpec, method: Cascade, assignment: Assignment, context: Context, data: Data) -> Product:
    """Choose the thresholds on the selection rows, compile one graph, and measure what they promised."""
    members = registered_members(assignment.references.get("members", ()), data)
    raw = answers_of([member.graph for member in members], data.x["selection"], data.output)
    calibrated = calibrate_members(raw, data, wanted=spec.calibrate)
    choice = _choose(method, members, calibrated.answers, data)
    context.reporter.log(f"{spec.name}: thresholds {', '.join(f'{each:.3f}' for each in choice.thresholds)}")
    fusion = compiled.Cascade(choice.thresholds, calibrated.temperatures or (_NO_TEMPERATURE,) * len(members))
    path = _write(members, fusion, assignment.output / "ensemble")
    parity = _check_parity(path, calibrated.answers, choice, data)
    notes = {
        **_notes(method, choice, calibrated, members),
        "measured": _measured(path, members, fusion, data),
        "diversity": diversity_notes(_report_answers(members, data), data),
    }
    product = finish(_draft(members, path.parent, parity, notes, assignment, data), assignment, data)
    context.reporter.progress(1, 1)
    check_gain(spec, product, data)
    return product


def _choose(method: Cascade, members: Sequence[Member], answers: Floats, data: Data) -> Choice:
    labels = np.asarray(data.y["selection"])
    if method.thresholds == "auto":
        return maths.choose_thresholds(answers, labels, _costs(members), max_loss=method.max_loss / 100)
    return maths.judge_thresholds(answers, labels, _costs(members), method.thresholds)


def _costs(members: Sequence[Member]) -> list[float]:
    return [float(member.metrics.macs) for member in members]


def _report_answers(members: Sequence[Member], data: Data) -> Floats:
    return answers_of([member.graph for member in members], data.x["report"], data.output)


def _write(members: Sequence[Member], fusion: compiled.Cascade, directory: Path) -> Path:
    directory.mkdir(parents=True)
    graph = compiled.cascade_graph([read_graph(member.graph) for member in members], fusion)
    recipe = {
        "method": "cascade",
        "members": [
            {
                "version_id": member.version_id,
                "name": member.name,
                "version": member.version,
                "digest": member.digest,
                "weight": None,
                "temperature": temperature,
            }
            for member, temperature in zip(members, fusion.temperatures, strict=True)
        ],
        "thresholds": list(fusion.thresholds),
    }
    (directory / "recipe.json").write_bytes(canonical_json(recipe))
    return write_graph(directory, graph, packed=any(is_packed_file(member.graph) for member in members))


def _check_parity(path: Path, answers: Floats, choice: Choice, data: Data) -> dict[str, Any]:
    """Compare the graph with the arithmetic on real rows; rows that stand on a threshold may go either way."""
    rows = data.x["selection"][:PARITY_ROWS]
    expected = maths.pass_on(answers[:, :PARITY_ROWS], choice.thresholds)
    found, places = (predict_rows(load_engine(path), rows, name) for name in ("probabilities", compiled.ANSWERED_BY))
    near = (np.abs(answers[:-1, :PARITY_ROWS].max(axis=-1) - np.array(choice.thresholds)[:, None]) < 1e-5).any(axis=0)
    difference = float(np.abs(found - expected.probabilities)[~near].max(initial=0.0))
    if difference > FUSION_TOLERANCE or (places != expected.answered_by)[~near].any():
        raise ExportMismatchError(
            f"The cascade's graph differs from the arithmetic by {difference:.2e} on {len(rows)} rows; "
            f"at most {FUSION_TOLERANCE:.0e} is accepted."
        )
    return {"rows": len(rows), "max_difference": difference, "rows_on_a_threshold": int(near.sum())}


def _notes(method: Cascade, choice: Choice, calibrated: CalibratedMembers, members: Sequence[Member]) -> dict[str, Any]:
    return {
        "thresholds": list(choice.thresholds),
        "chosen_on": "selection rows" if method.thresholds == "auto" else None,
        "max_loss": method.max_loss,
        "calibration": {"members": calibrated.told},
        "predicted": _told(choice, members),
        "members": [{"model": member.label, "digest": member.digest} for member in members],
    }


def _told(choice: Choice, members: Sequence[Member]) -> dict[str, Any]:
    """Say what a choice costs: multiply-accumulates, and milliseconds by the members' latencies in batches of 32."""
    latencies = [member.metrics.latency_ms_batch_32 / 32 for member in members]
    return {
        "accuracy": choice.accuracy,
        "macs_per_row": choice.cost,
        "share_of_the_last": choice.cost / members[-1].metrics.macs,
        "asked": list(choice.asked),
        "ms_per_row_in_batches_of_32": float(np.dot(choice.asked, latencies)),
    }


def _measured(path: Path, members: Sequence[Member], fusion: compiled.Cascade, data: Data) -> dict[str, Any]:
    """Return the same of the graph's own answers for the report rows."""
    name: RowSet = "report"
    places = predict_rows(load_engine(path), data.x[name], compiled.ANSWERED_BY).astype(np.int64)
    answers = with_temperatures(_report_answers(members, data), fusion.temperatures)
    judged = maths.judge_thresholds(answers, np.asarray(data.y[name]), _costs(members), fusion.thresholds)
    shares = maths.asked(places, len(members))
    measured = judged._replace(asked=tuple(shares.tolist()), cost=float(shares @ np.array(_costs(members))))
    return _told(measured, members)


def _draft(
    members: Sequence[Member],
    directory: Path,
    parity: dict[str, Any],
    notes: dict[str, Any],
    assignment: Assignment,
    data: Data,
) -> Draft:
    answers = _report_answers(members, data)
    best = best_of(answers, data.y["report"], data)
    distinct = {member.digest: member.metrics for member in members}.values()
    return Draft(
        directory=directory,
        kind="ensemble",
        name=assignment.spec.name,
        method="cascade",
        seed=assignment.seed,
        recipe_digest=assignment.recipe_digest,
        parameters=sum(metrics.parameters for metrics in distinct),
        macs=round(notes["measured"]["macs_per_row"]),
        weights_bytes=sum(metrics.weights_bytes for metrics in distinct),
        parity=parity,
        baselines=[
            Baseline(f"its best member {members[best].label}", answers[best], members[best].graph),
            Baseline(f"its last member {members[-1].label}", answers[-1]),
        ],
        links=tuple(member.link(place, None) for place, member in enumerate(members)),
        notes=notes,
        extra_outputs=(compiled.ANSWERED_BY,),
    )
