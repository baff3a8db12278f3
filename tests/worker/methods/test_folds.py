"""Members compared by their folds: the t-test that allows for the train rows that folds share."""

import numpy as np
import pytest

from app.domain.stats import corrected_resampled_t
from tests.worker.methods.jobs import wave
from worker.ensemble.folds import compare_by_folds
from worker.rows import open_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_data(wave(tmp_path_factory.mktemp("folds") / "wave"))


def answers_with(data, *deviations):
    """Return what members answer that are off by so much."""
    rng = np.random.default_rng(0)
    targets = np.asarray(data.y["train"], np.float64)
    return np.stack([targets + deviation * rng.normal(size=targets.shape) for deviation in deviations])


def test_copies_of_one_member_show_no_difference(data):
    one = answers_with(data, 0.5)[0]
    folds = np.arange(len(one)) % 5
    told = compare_by_folds(np.stack([one, one]), folds, data)["comparisons"][0]
    assert (told["difference"], told["verdict"]) == (0, "no difference shown")


def test_a_member_that_is_far_worse_in_every_fold_is_told(data):
    held_out = answers_with(data, 0.5, 2.0, 0.51)
    folds = np.arange(held_out.shape[1]) % 5
    told = compare_by_folds(held_out, folds, data)
    assert told["best"] in (0, 2)
    worse = next(found for found in told["comparisons"] if found["member"] == 1)
    assert worse["verdict"] == "worse"
    losses = np.array(told["losses"])
    expected = corrected_resampled_t(list(losses[told["best"]] - losses[1]), 0.2)
    assert (worse["difference"], worse["interval"], worse["p_value"]) == expected
    assert worse["adjusted_p_value"] >= worse["p_value"]
