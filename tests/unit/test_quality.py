import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from app.domain import quality
from app.domain.fusion import softmax


@st.composite
def answers(draw):
    """Probabilities (rows, classes) and labels."""
    rows, classes = draw(st.integers(1, 60)), draw(st.integers(2, 6))
    logits = draw(arrays(np.float64, (rows, classes), elements=st.floats(-20, 20)))
    labels = draw(arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    return softmax(logits), labels


def well_calibrated(rows: int, *, temperature: float = 1.0, seed: int = 0):
    """Draw labels from probabilities, and answer those of another temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 4)) * 2
    true = softmax(logits)
    labels = (rng.random((rows, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return softmax(logits * temperature), labels


@given(answers())
def test_the_brier_score_is_the_squared_distance_to_the_label(pair):
    probabilities, labels = pair
    classes = probabilities.shape[1]
    by_hand = np.square(probabilities - np.eye(classes)[labels]).sum(axis=1).mean()
    assert quality.brier_score(probabilities, labels) == pytest.approx(by_hand, abs=1e-12)
    assert 0 <= quality.brier_score(probabilities, labels) <= 2


def test_the_brier_score_of_two_classes_is_twice_that_of_one():
    rng = np.random.default_rng(0)
    positive, labels = rng.random(200), rng.integers(2, size=200)
    own = quality.brier_score(np.stack([1 - positive, positive], axis=1), labels)
    assert own == pytest.approx(2 * metrics.brier_score_loss(labels, positive))


@given(answers())
def test_the_figures_by_class_are_those_of_scikit_learn(pair):
    probabilities, labels = pair
    classes = probabilities.shape[1]
    answered = probabilities.argmax(axis=1)
    confusion = quality.confusion_matrix(labels, answered, classes=classes)
    places = list(range(classes))
    np.testing.assert_array_equal(confusion, metrics.confusion_matrix(labels, answered, labels=places))
    expected = metrics.precision_recall_fscore_support(labels, answered, labels=places, zero_division=0)
    found = [
        (figures.precision or 0, figures.recall or 0, figures.f1 or 0, figures.support)
        for figures in quality.class_figures(confusion)
    ]
    np.testing.assert_allclose(np.array(found).T, expected, atol=1e-12)
    assert quality.macro_f1(confusion) == pytest.approx(metrics.f1_score(labels, answered, average="macro"))
    if len({*labels, *answered}) > 1:  # scikit-learn warns where there is but one class
        assert quality.matthews_correlation(confusion) == pytest.approx(metrics.matthews_corrcoef(labels, answered))
    else:
        assert quality.matthews_correlation(confusion) == 0


def test_the_balanced_accuracy_counts_every_class_alike():
    labels, answered = np.array([0] * 90 + [1] * 10), np.zeros(100, np.int64)
    confusion = quality.confusion_matrix(labels, answered, classes=2)
    assert quality.balanced_accuracy(confusion) == metrics.balanced_accuracy_score(labels, answered) == 0.5


def test_what_no_row_decides_has_no_figure():
    never_called, never_there = quality.class_figures(np.array([[0, 5], [0, 0]]))
    assert (never_called.precision, never_called.recall) == (None, 0)
    assert (never_there.precision, never_there.recall) == (0, None)


@given(answers())
def test_the_bins_hold_every_row_once_and_their_accuracies_make_up_the_accuracy(pair):
    probabilities, labels = pair
    bins = quality.reliability(probabilities, labels)
    assert sum(found.rows for found in bins) == len(labels)
    right = sum(found.rows * found.accuracy for found in bins if found.accuracy is not None)
    assert right == pytest.approx((probabilities.argmax(axis=1) == labels).sum())
    assert all(
        found.low <= found.confidence + 1e-9 and found.confidence <= found.high + 1e-9 for found in bins if found.rows
    )


@given(answers())
def test_calibration_errors_are_shares_and_the_average_gap_bounds_them_below(pair):
    probabilities, labels = pair
    gap = abs(probabilities.max(axis=1).mean() - (probabilities.argmax(axis=1) == labels).mean())
    for error in (quality.expected_calibration_error, quality.adaptive_calibration_error):
        assert gap - 1e-9 <= error(probabilities, labels) <= 1 + 1e-9


def test_trap_27_calibration_errors_tell_a_calibrated_model_from_a_sharpened_one():
    honest, sharpened = well_calibrated(20_000), well_calibrated(20_000, temperature=3)
    for error in (quality.expected_calibration_error, quality.adaptive_calibration_error):
        assert error(*honest) < 0.015
        assert error(*sharpened) > 0.1


def test_the_calibration_error_of_a_known_model_is_its_gap():
    probabilities = np.tile([0.9, 0.1], (100, 1))
    labels = np.repeat([0, 1], [60, 40])
    assert quality.expected_calibration_error(probabilities, labels) == pytest.approx(0.3)
    assert quality.adaptive_calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_the_figures_of_a_regression_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(100, 1))
    predictions = targets + rng.normal(size=(100, 1)) * 0.3
    assert quality.mean_absolute_error(predictions, targets) == pytest.approx(
        metrics.mean_absolute_error(targets, predictions)
    )
    assert quality.determination(predictions, targets) == pytest.approx(metrics.r2_score(targets, predictions))
    assert quality.determination(predictions, np.ones((100, 1))) is None
