"""Jobs with several seeds: what is registered, what the report says over all of them, and that they resume."""

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy import stats as scipy_stats

from app.domain.specs import job_spec_adapter
from app.domain.stats import holm
from tests.worker.methods.jobs import Job, Workshop, digits
from worker.context import Stopped
from worker.optimize.gap import gap_over_runs
from worker.package import file_ref
from worker.repeats import summarize_runs, with_seed

TINY = {"type": "mlp", "hidden": [16], "dropout": 0.2}
TRAINING = {"epochs": 3, "batch_size": 50, "optimizer": {"type": "adam", "learning_rate": 0.01}}
TRAIN = {"kind": "train", "name": "tiny", "architecture": TINY, "training": TRAINING, "seed": 5}
SEEDS = 3


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("repeats")
    return Workshop(root / "jobs", digits(root / "digits", train=300))


@pytest.fixture(scope="module")
def alone(small) -> list[Job]:
    return [small.run({**TRAIN, "seed": 5 + number}) for number in range(SEEDS)]


@pytest.fixture(scope="module")
def repeated(small) -> Job:
    return small.run({**TRAIN, "seeds": SEEDS})


def weights_of(job: Job) -> dict[str, np.ndarray]:
    return load_file(job.product.directory / "weights.safetensors")


def test_the_first_seed_is_registered_whichever_did_best(alone, repeated):
    assert len(repeated.products) == 1
    for name, values in weights_of(alone[0]).items():
        np.testing.assert_array_equal(weights_of(repeated)[name], values)
    assert repeated.product.manifest.seed == 5


def test_the_report_gives_mean_and_t_interval_of_what_the_seeds_did_alone(alone, repeated):
    told = repeated.report["repeats"]
    expected = [job.accuracy for job in alone]
    assert told["seeds"] == [5, 6, 7]
    assert told["accuracy"]["values"] == pytest.approx(expected)
    assert len(set(expected)) > 1
    assert told["accuracy"]["mean"] == pytest.approx(np.mean(expected))
    interval = scipy_stats.t.interval(0.95, SEEDS - 1, np.mean(expected), scipy_stats.sem(expected))
    assert told["accuracy"]["interval"] == pytest.approx(interval)
    assert told["nll"]["mean"] == pytest.approx(np.mean([job.product.manifest.metrics.nll for job in alone]))
    differences = [job.report["baseline"]["difference"] for job in alone]
    assert told["against_baseline"]["difference"]["values"] == pytest.approx(differences)
    assert told["against_baseline"]["verdict"] == "better"
    assert repeated.product.manifest.files["report.json"] == file_ref(repeated.product.directory / "report.json")


def test_only_the_report_of_later_seeds_is_kept(repeated):
    nested = repeated.assignment.output / "nested"
    assert [path.name for path in nested.iterdir()] == ["seed5"]


def test_repeats_resume_to_the_same_figures(small, repeated):
    steps = len(repeated.reporter.steps)
    with pytest.raises(Stopped):
        small.run({**TRAIN, "seeds": SEEDS}, stop_after=steps // 2)
    _, checkpoint = small.last.reporter.checkpoints[-1]
    resumed = small.run({**TRAIN, "seeds": SEEDS}, resume=checkpoint)
    told, expected = resumed.report["repeats"], repeated.report["repeats"]
    assert told["accuracy"] == expected["accuracy"]
    assert told["nll"] == expected["nll"]
    assert len(resumed.reporter.steps) < steps


def test_no_seed_of_a_serial_ensemble_is_used_twice():
    members = [{"architecture": TINY, "seed": seed} for seed in (0, 4)]
    spec = job_spec_adapter.validate_python(
        {
            "kind": "ensemble",
            "name": "e",
            "dataset": "d",
            "seeds": 3,
            "method": {"method": "serial", "members": members},
        }
    )
    seeds = [member.seed for number in range(3) for member in with_seed(spec, number).method.members]
    assert seeds == [0, 4, 5, 9, 10, 14]


def test_two_copies_of_one_model_show_no_difference_over_runs():
    same = {"against": "its parent", "difference": 0.0}
    reports = [{"metrics": {"accuracy": 0.9}, "comparisons": [same]} for _ in range(5)]
    told = summarize_runs(reports, first_seed=0)
    assert told["against_baseline"]["verdict"] == "no difference shown"


def test_differences_of_several_baselines_are_adjusted_for_their_number():
    rng = np.random.default_rng(0)
    reports = [
        {
            "metrics": {"accuracy": 0.9},
            "comparisons": [{"against": f"{place}", "difference": rng.normal(0.01, 0.01)} for place in range(4)],
        }
        for _ in range(6)
    ]
    told = summarize_runs(reports, first_seed=0)
    p_values = [found["p_value"] for found in told["comparisons"]]
    assert [found["adjusted_p_value"] for found in told["comparisons"]] == holm(p_values) != p_values


def test_a_serial_ensemble_is_repeated_whole_and_its_first_members_registered(small):
    training = {**TRAINING, "epochs": 1}
    members = [{"architecture": TINY, "seed": seed} for seed in (0, 1)]
    spec = {"kind": "ensemble", "name": "e", "training": training, "method": {"method": "serial", "members": members}}
    job = small.run({**spec, "seeds": 2})
    once = small.run(spec)
    assert [product.name_hint for product in job.products] == [product.name_hint for product in once.products]
    for own, alone in zip(job.products[:-1], once.products[:-1], strict=True):
        assert own.manifest.files["weights.safetensors"] == alone.manifest.files["weights.safetensors"]
    assert job.report["repeats"]["accuracy"]["values"][0] == once.accuracy
    assert len(job.report["repeats"]["comparisons"]) == len(once.report["comparisons"]) == 2
    assert "repeats" not in once.report


def test_a_distillation_is_compared_with_its_teacher_over_all_seeds(small, alone):
    method = {"method": "distill", "teacher": "tiny/1", "student": TINY, "max_drop": 100}
    spec = {"kind": "optimize", "name": "student", "training": {**TRAINING, "epochs": 1}, "method": method, "seeds": 2}
    told = small.run(spec, teacher=[alone[0].version()]).report["repeats"]
    assert [found["against"] for found in told["comparisons"]] == [
        "its teacher tiny/1",
        "the same student trained on labels alone",
    ]
    assert told["passed_gate"] == 2


def test_the_share_of_a_lead_over_several_runs_is_that_of_the_mean_lead():
    gaps = [
        {"measure": "accuracy", "student": 0.93, "teacher": 0.96, "control": 0.90},
        {"measure": "accuracy", "student": 0.94, "teacher": 0.96, "control": 0.97},
    ]
    reports = [{"method": {"gap": gap}} for gap in gaps]
    assert gap_over_runs(reports) == pytest.approx((0.935 - 0.935) / (0.96 - 0.935))
    assert gap_over_runs(reports[1:]) is None
    assert gap_over_runs([*reports, {"method": {"gap": {"measure": "accuracy", "student": 0.9}}}]) is None
    by_rmse = [{"method": {"gap": {"measure": "rmse", "student": 3.0, "teacher": 1.0, "control": 5.0}}}]
    assert gap_over_runs(by_rmse) == pytest.approx(16 / 24)
