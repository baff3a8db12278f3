"""The points of a search depend on its seed and on what earlier trials came to, and on nothing else."""

import pytest

from app.domain.search import base_point
from app.domain.specs import SearchSpec, job_spec_adapter
from worker.search.asking import Study
from worker.search.trials import Outcome, Trial, front_of, load_outcome, save_outcome

SPACE = {
    "/architecture/hidden": {"choices": [[4], [8], [16, 16]]},
    "/architecture/dropout": {"low": 0.0, "high": 0.5},
    "/training/batch_size": {"low": 8, "high": 128, "log": True},
}


def spec_of(**changes) -> SearchSpec:
    body = {
        "kind": "search",
        "name": "found",
        "dataset": "digits",
        "architecture": {"type": "mlp", "hidden": [8]},
        "training": {"epochs": 3, "batch_size": 32},
        "space": SPACE,
        "objectives": ["accuracy", "bytes"],
        **changes,
    }
    found = job_spec_adapter.validate_python(body)
    assert isinstance(found, SearchSpec)
    return found


def come_to(number: int, point: dict) -> Trial:
    """Return what a trial would come to: every fifth fails, the others trade width against accuracy."""
    if number % 5 == 4:
        return Trial(number, point, "failed", reason="too large")
    width = sum(point["/architecture/hidden"])
    accuracy = 0.9 - 1 / (width + point["/training/batch_size"]) - abs(point["/architecture/dropout"] - 0.2)
    figures = {"selection_accuracy": accuracy, "latency_ms": 0.1, "bytes": width, "macs": width, "parameters": width}
    losses = (-accuracy / 2, -accuracy * 0.8, -accuracy)
    return Trial(number, point, "finished", figures, losses=losses, network=str(width))


def go_on(spec: SearchSpec, trials: list[Trial], count: int) -> list[Trial]:
    """Tell a fresh study what is recorded and go on to so many trials."""
    study, trials = Study(spec), list(trials)
    for trial in trials:
        study.tell(trial)
    for number in range(len(trials), count):
        trials.append(come_to(number, study.ask(number) if number else base_point(spec)))
        study.tell(trials[-1])
    return trials


@pytest.mark.parametrize(
    ("changes", "count", "stops"),
    [
        ({"objectives": ["accuracy"]}, 20, range(1, 20)),
        ({"objectives": ["accuracy", "bytes", "macs"]}, 20, range(1, 20)),
    ],
    ids=["one objective", "three objectives"],
)
def test_a_study_rebuilt_from_records_asks_for_the_same_points(changes, count, stops):
    spec = spec_of(**changes)
    whole = go_on(spec, [], count)
    for stop in stops:
        assert go_on(spec, whole[:stop], min(stop + 4, count)) == whole[: stop + 4]


def test_another_seed_asks_for_other_points():
    one, other = (go_on(spec_of(seed=seed), [], 6) for seed in (0, 1))
    assert one[0].point == other[0].point == base_point(spec_of())
    assert all(a.point != b.point for a, b in zip(one[1:], other[1:], strict=True))


def test_points_lie_inside_the_space():
    for trial in go_on(spec_of(), [], 30)[1:]:
        assert trial.point["/architecture/hidden"] in SPACE["/architecture/hidden"]["choices"]
        assert 0 <= trial.point["/architecture/dropout"] <= 0.5
        assert isinstance(trial.point["/training/batch_size"], int)
        assert 8 <= trial.point["/training/batch_size"] <= 128


def test_a_search_learns_from_its_trials():
    trials = go_on(spec_of(objectives=["accuracy"]), [], 40)
    early, late = ([trial.loss("accuracy") for trial in part if trial.figures] for part in (trials[1:11], trials[30:]))
    assert sum(late) / len(late) < sum(early) / len(early)


def test_a_spec_s_own_point_may_lie_outside_of_the_space():
    spec = spec_of(architecture={"type": "mlp", "hidden": [5]})
    trials = go_on(spec, [], 4)
    assert trials[0].point["/architecture/hidden"] == [5]
    assert go_on(spec, trials[:2], 4) == trials


def test_a_trial_is_read_back_as_it_was_kept(tmp_path):
    trial = go_on(spec_of(), [], 2)[1]
    save_outcome(Outcome(trial), tmp_path)
    assert load_outcome(tmp_path).trial == trial


def finished(number: int, accuracy: float, latency_ms: float, state: str = "finished") -> Trial:
    figures = {"selection_accuracy": accuracy, "latency_ms": latency_ms, "bytes": 1, "macs": 1, "parameters": 1}
    return Trial(number, {}, state, figures)


def test_latencies_that_differ_by_less_than_a_median_repeats_put_nothing_on_the_front():
    trials = [finished(0, 0.90, 0.1000), finished(1, 0.95, 0.1001), finished(2, 0.80, 0.05), finished(3, 0.95, 0.1)]
    assert [trial.number for trial in front_of(trials, ["accuracy", "latency"])] == [2, 1]


def test_repeated_and_failed_trials_are_never_on_the_front():
    trials = [finished(0, 0.9, 0.1), finished(1, 0.99, 0.01, "repeated"), Trial(2, {}, "failed", reason="too large")]
    assert [trial.number for trial in front_of(trials, ["accuracy", "latency"])] == [0]
