"""Traps 24 and 27: differently scaled members, and calibration on other rows than it is measured on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.calibration import (
    apply_temperature,
    conformal_level,
    enough_rows,
    fit_temperature,
    prediction_sets,
    told_temperature,
)
from app.domain.fusion import fit_convex_weights, negative_log_likelihood, softmax, weighted_mean


def scene(seed: int, rows: int = 400, classes: int = 4, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits times `scale`, and labels drawn by the probabilities of the logits alone."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 2
    labels = (softmax(logits).cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return logits * scale, labels


@given(seed=st.integers(0, 10_000), scale=st.floats(0.05, 20))
@settings(max_examples=50)
def test_trap_27_on_its_own_rows_a_temperature_never_loses_and_turns_no_answer(seed: int, scale: float) -> None:
    logits, labels = scene(seed, rows=60, scale=scale)
    probabilities = softmax(logits)
    temperature = fit_temperature(probabilities, labels)
    after = apply_temperature(probabilities, temperature)
    assert temperature > 0
    assert (after.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert negative_log_likelihood(after, labels) <= negative_log_likelihood(probabilities, labels)
    assert np.allclose(after.sum(axis=1), 1)


@pytest.mark.parametrize("scale", [3.0, 1 / 3])
def test_trap_27_the_temperature_of_a_model_that_is_too_sure_or_too_modest_is_found(scale: float) -> None:
    logits, labels = scene(0, rows=20_000, scale=scale)
    assert fit_temperature(softmax(logits), labels) == pytest.approx(scale, rel=0.05)


def test_rows_that_are_all_right_make_no_answer_certain() -> None:
    labels = np.arange(300) % 3
    probabilities = np.eye(3)[labels] * 0.7 + 0.1
    sure = apply_temperature(probabilities, fit_temperature(probabilities, labels)).max()
    assert 0.98 < sure < 1 - 1 / 600


def test_trap_27_probabilities_of_exactly_zero_stay_finite() -> None:
    probabilities, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 1])
    temperature = fit_temperature(probabilities, labels)
    assert np.isfinite(apply_temperature(probabilities, temperature)).all()
    assert temperature > 1, "one of four certain answers is wrong"


def test_the_calibration_error_falls_as_the_bins_say_by_hand() -> None:
    logits, labels = scene(1, rows=5_000, scale=4.0)
    told = told_temperature(softmax(logits), labels, fit_temperature(softmax(logits), labels))
    probabilities = apply_temperature(softmax(logits), told.temperature)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    assert told.ece == pytest.approx(sum(gaps), abs=2e-3)
    assert told.ece < told.ece_before / 3


def test_trap_24_a_member_whose_logits_are_ten_times_too_large_hardly_moves_a_calibrated_fusion() -> None:
    rng = np.random.default_rng(0)
    logits, labels = scene(2, rows=4_000)
    members = [logits + rng.normal(size=logits.shape) for _ in range(3)]
    loud = [members[0] * 10, *members[1:]]

    def fused(each: list[np.ndarray], *, calibrate: bool) -> np.ndarray:
        answers = np.stack([softmax(own) for own in each])
        if calibrate:
            answers = np.stack([apply_temperature(own, fit_temperature(own, labels)) for own in answers])
        return weighted_mean(answers, fit_convex_weights(answers, labels))

    moved = {
        calibrate: np.abs(fused(members, calibrate=calibrate) - fused(loud, calibrate=calibrate)).mean()
        for calibrate in (True, False)
    }
    assert moved[True] < moved[False] / 20


@given(seed=st.integers(0, 1_000), miscoverage=st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=20)
def test_sets_miss_no_more_new_rows_than_promised(seed: int, miscoverage: float) -> None:
    logits, labels = scene(seed, rows=6_000, scale=1.7)
    probabilities = softmax(logits)
    level = conformal_level(probabilities[:2_000], labels[:2_000], miscoverage)
    sets = prediction_sets(probabilities[2_000:], level)
    covered = sets[np.arange(4_000), labels[2_000:]].mean()
    assert covered == pytest.approx(1 - miscoverage, abs=0.04)


def test_the_level_is_the_quantile_with_one_row_more() -> None:
    probabilities = np.array([[p, 1 - p] for p in (0.9, 0.8, 0.7, 0.6)])
    labels = np.zeros(4, int)
    assert conformal_level(probabilities, labels, 0.2) == pytest.approx(0.6), "the 4th of 4 scores"
    assert conformal_level(probabilities, labels, 0.5) == pytest.approx(0.7), "the 3rd: ceil(5 * 0.5)"
    assert conformal_level(probabilities, labels, 0.1) == 0.0, "5 of 4 scores: every class belongs"
    assert (enough_rows(4, 0.2), enough_rows(4, 0.1)) == (True, False)
