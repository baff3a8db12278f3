"""Do a whole job with several seeds: what a claim needs, since one training is one draw."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from app.domain.ensemble_specs import Serial, Snapshot
from app.domain.specs import EnsembleSpec, TrainSpec, WorkSpec
from app.domain.stats import decide, holm, mean_over_runs, p_value_over_runs
from worker.assignment import Assignment
from worker.context import Context
from worker.learning import plan_stage
from worker.nested import report_of, run_all_nested, run_for_report
from worker.optimize.gap import gap_over_runs
from worker.package import Product, amend
from worker.rows import Data
from worker.stages import Stages

Run = Callable[[Assignment, Context], list[Product]]
FIGURES = (
    *("accuracy", "nll", "brier", "ece", "rmse", "parameters", "macs", "served_bytes"),
    *("latency_ms_batch_1", "latency_ms_batch_32"),
)


def run_repeats(run: Run, assignment: Assignment, context: Context, data: Data) -> list[Product]:
    """Do the job once per seed; its version is the first seed's, whichever did best.

    To choose by the report rows would make them selection rows. Each run is one stage, so that a job that was
    interrupted keeps what is finished; of later runs nothing but the report is kept.
    """
    spec = assignment.spec
    names = [f"seed{spec.seed + number}" for number in range(spec.seeds)]
    rows = len(data.y["train"])
    stages = Stages(context, [plan_stage(name, spec.training, rows) for name in names])
    made: list[Product] = []
    reports: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        own = _assignment(assignment, number)
        if number == 0:
            made = run_all_nested(stages, name, run, own, context)
            reports.append(report_of(made[-1]))
        else:
            reports.append(run_for_report(stages, name, run, own, context))
    *parts, product = made
    return [*parts, amend(product, {"repeats": summarize_runs(reports, first_seed=spec.seed)})]


def with_seed(spec: WorkSpec, number: int) -> WorkSpec:
    """Return the spec of run `number`: one run, with seeds that no other run has; only the first looks for leaks."""
    update: dict[str, Any] = {"seed": spec.seed + number, "seeds": 1}
    if isinstance(spec, TrainSpec) and number:
        update["leak_check"] = False
    if isinstance(spec, EnsembleSpec) and isinstance(spec.method, Serial):
        seeds = [member.seed for member in spec.method.planned]
        shift = number * (max(seeds) - min(seeds) + 1)
        members = [member.model_copy(update={"seed": member.seed + shift}) for member in spec.method.members]
        update["method"] = spec.method.model_copy(update={"members": members})
    if isinstance(spec, EnsembleSpec) and isinstance(spec.method, Snapshot):
        update["method"] = spec.method.model_copy(update={"seed": spec.method.seed + number * spec.method.cycles})
    return spec.model_copy(update=update)


def _assignment(assignment: Assignment, number: int) -> Assignment:
    spec = with_seed(assignment.spec, number)
    return assignment.model_copy(update={"spec": spec, "seed": spec.seed})


def summarize_runs(reports: Sequence[Mapping[str, Any]], *, first_seed: int) -> dict[str, Any]:
    """Return every figure's mean, deviation, 95 % t interval and values, and the differences from each baseline."""
    against = _against_baselines(reports)
    gates = [report["gate"]["passed"] for report in reports if report.get("gate")]
    return {
        "seeds": [first_seed + number for number in range(len(reports))],
        "registered": first_seed,
        "interval": "95 % t interval of the mean over trainings; all were measured on the same report rows",
        **{name: asdict(mean_over_runs(values)) for name in FIGURES if (values := _values(reports, name))},
        "gap_kept": gap_over_runs(reports),
        "against_baseline": against[0] if against else None,
        "comparisons": against,
        "passed_gate": sum(gates) if gates else None,
    }


def _values(reports: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    values = [report["metrics"].get(name) for report in reports]
    return [] if None in values else values


def _against_baselines(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Test the mean paired difference from each baseline, adjusted for their number."""
    places = zip(*(report["comparisons"] for report in reports), strict=True)
    found = [
        (_name([run["against"] for run in runs]), mean_over_runs([run["difference"] for run in runs]))
        for runs in places
    ]
    p_values = [p_value_over_runs(differences) for _, differences in found]
    return [
        {
            "against": name,
            "difference": asdict(differences),
            "p_value": p_value,
            "adjusted_p_value": adjusted,
            "verdict": decide(differences.mean, adjusted),
        }
        for (name, differences), p_value, adjusted in zip(found, p_values, holm(p_values), strict=True)
    ]


def _name(names: Sequence[str]) -> str:
    """Name what all runs are compared with; a run's best member may be another than the next run's."""
    return names[0] if len(set(names)) == 1 else f"each run's own: {', '.join(sorted(set(names)))}"
