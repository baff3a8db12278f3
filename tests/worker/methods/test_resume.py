"""A job that is stopped anywhere and goes on later ends with the very same weights."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.worker.methods.jobs import Job, Workshop, digits
from worker.context import Stopped

TINY = {"type": "mlp", "hidden": [16], "dropout": 0.3}
TRAINING = {"epochs": 2, "batch_size": 50}
STEPS = 8


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("resume")
    return Workshop(root / "jobs", digits(root / "digits", train=200))


@pytest.fixture(scope="module")
def member(small) -> Job:
    return small.run({"kind": "train", "name": "tiny", "architecture": TINY, "training": TRAINING})


def spec_of(method):
    spec = {"training": TRAINING, "name": "long"}
    if method == "distill":
        return {**spec, "kind": "optimize", "method": {"method": "distill", "teacher": "tiny/1", "student": TINY}}
    if method == "snapshot":
        return {**spec, "kind": "ensemble", "method": {"method": "snapshot", "architecture": TINY, "cycles": 2}}
    if method in ("residual", "samme", "gradient"):
        members = {"members": [{"architecture": TINY}], "rounds": 2}
        return {**spec, "kind": "ensemble", "method": {"method": "serial", "type": method, **members}}
    members = [{"model": "tiny/1"}, {"model": "tiny/1"}]
    return {**spec, "kind": "ensemble", "method": {"method": "stack", "members": members, "folds": 2}}


def tensors_of(job: Job) -> list[dict[str, np.ndarray]]:
    found = [product.directory / "weights.safetensors" for product in job.products]
    return [load_file(path) for path in found if path.exists()]


@pytest.mark.parametrize("method", ["distill", "residual", "samme", "gradient", "stack", "snapshot"])
def test_a_long_method_resumes_to_the_same_weights(small, member, method):
    spec, references = spec_of(method), {"teacher": [member.version()], "members": [member.version()] * 2}
    whole = tensors_of(small.run(spec, **references))
    # In the first epoch of the second stage: several steps may be done before the reporter is asked, but no epoch more.
    stop_after = int(np.random.default_rng(len(method)).integers(STEPS + 1, STEPS + 4))
    with pytest.raises(Stopped) as stopped:
        small.run(spec, stop_after=stop_after, **references)
    step, checkpoint = small.last.reporter.checkpoints[-1]
    assert stopped.value.reason == "drain"
    assert STEPS <= step < 2 * STEPS
    resumed = small.run(spec, resume=checkpoint, **references)
    assert min(step for step, _ in resumed.reporter.steps) >= STEPS
    assert len(whole) == len(tensors_of(resumed)) > 0
    for expected, found in zip(whole, tensors_of(resumed), strict=True):
        assert expected.keys() == found.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_a_cancelled_job_stops_without_a_checkpoint(small):
    small_spec = {"kind": "train", "architecture": TINY, "training": TRAINING}
    assignment = small.assignment(small_spec)
    with pytest.raises(Stopped) as stopped:
        small.run(small_spec, stop_after=2, reason="cancel")
    assert stopped.value.reason == "cancel"
    assert small.last.reporter.checkpoints == []
    assert not any(assignment.output.iterdir())
