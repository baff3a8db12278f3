import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.worker.nn.backends import slope_of

CLASSES = 4
logit_rows = arrays(np.float32, (3, CLASSES), elements=st.floats(-6, 6, width=32))
LABELS = np.eye(CLASSES, dtype=np.float32)[[0, 1, 2]]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def loss_of(objective, targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    import keras

    tensors = (keras.ops.convert_to_tensor(np.float32(values)) for values in (targets, logits))
    return keras.ops.convert_to_numpy(objective.loss(*tensors))


def gradient(objective, targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the gradient of the mean loss over the rows with respect to the logits."""
    from keras import ops

    wanted = np.float32(targets)
    return slope_of(lambda answers: ops.mean(objective.loss(wanted, answers)), logits)


def distillation(temperature: float, alpha: float = 1.0):
    from worker.nn.objectives import distillation_objective

    return distillation_objective(temperature=temperature, alpha=alpha)


def taught_by(teacher: np.ndarray) -> np.ndarray:
    return np.concatenate([LABELS, log_softmax(teacher)], axis=1)


@settings(max_examples=30, deadline=None)
@given(logits=logit_rows, smoothing=st.sampled_from([0.0, 0.1]))
def test_trap_17_cross_entropy_is_that_of_the_hand_on_logits(logits, smoothing):
    from worker.nn.objectives import plain_objective

    smoothed = (1 - smoothing) * LABELS + smoothing / CLASSES
    expected = -(smoothed * log_softmax(logits)).sum(axis=1)
    found = loss_of(plain_objective("classification", label_smoothing=smoothing), LABELS, logits)
    assert np.allclose(found, expected, atol=1e-4)


def test_trap_02_the_soft_gradient_keeps_its_size_as_the_temperature_grows():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(0, 0.5, (2, 3, CLASSES))
    norms = [np.linalg.norm(gradient(distillation(t), taught_by(teacher), student)) for t in (1, 2, 4, 8, 16)]
    assert max(norms) < 3 * min(norms)
    centred = [values - values.mean(axis=1, keepdims=True) for values in (student, teacher)]
    limit = (centred[0] - centred[1]) / CLASSES / len(teacher)
    assert np.allclose(gradient(distillation(1000.0), taught_by(teacher), student), limit, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_trap_02_the_soft_term_has_its_square_of_the_temperature_at_every_weight(alpha):
    rng = np.random.default_rng(1)
    teacher, student = rng.normal(0, 2, (2, 3, CLASSES))
    soft, own = log_softmax(teacher / 4), log_softmax(student / 4)
    divergence = (np.exp(soft) * (soft - own)).sum(axis=1)
    expected = (1 - alpha) * -(LABELS * log_softmax(student)).sum(axis=1) + alpha * 16 * divergence
    assert np.allclose(loss_of(distillation(4.0, alpha), taught_by(teacher), student), expected, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(teacher=logit_rows, temperature=st.sampled_from([1.0, 4.0]))
def test_trap_03_a_teacher_of_probabilities_teaches_what_its_logits_teach(teacher, temperature):
    student = np.linspace(-2, 2, 3 * CLASSES).reshape(3, CLASSES)
    by_logits = np.concatenate([LABELS, teacher], axis=1)
    found = loss_of(distillation(temperature), taught_by(teacher), student)
    assert np.allclose(found, loss_of(distillation(temperature), by_logits, student), rtol=1e-3, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(teacher=logit_rows, student=logit_rows, temperature=st.sampled_from([1.0, 2.0, 8.0]))
def test_trap_04_distillation_is_least_where_student_and_teacher_agree(teacher, student, temperature):
    agreed = loss_of(distillation(temperature), taught_by(teacher), teacher)
    other = loss_of(distillation(temperature), taught_by(teacher), student)
    assert np.allclose(agreed, 0, atol=1e-3)
    assert (other >= agreed - 1e-3).all()
    assert np.allclose(gradient(distillation(temperature), taught_by(teacher), teacher), 0, atol=1e-3)


def test_opposite_answers_cost_much():
    teacher = 8 * LABELS
    assert (loss_of(distillation(1.0), taught_by(teacher), -teacher) > 7).all()


@settings(max_examples=20, deadline=None)
@given(base=logit_rows, logits=logit_rows)
def test_a_residual_member_is_judged_by_the_sum(base, logits):
    from worker.nn.objectives import plain_objective, residual_objective

    packed = np.concatenate([LABELS, base], axis=1)
    expected = loss_of(plain_objective("classification"), LABELS, base + logits)
    assert np.allclose(loss_of(residual_objective(), packed, logits), expected, atol=1e-4)
    right = residual_objective().correct(packed, logits)
    total = base + logits
    decided = (total == total.max(axis=1, keepdims=True)).sum(axis=1) == 1
    assert np.array_equal(np.asarray(right)[decided], (total.argmax(axis=1) == [0, 1, 2])[decided])


def test_a_regression_is_judged_by_its_squared_error():
    from worker.nn.objectives import plain_objective

    objective = plain_objective("regression")
    assert objective.correct is None
    assert loss_of(objective, np.float32([[1], [2]]), np.float32([[1], [4]])).tolist() == [0, 4]


def decoupled(teacher: np.ndarray, student: np.ndarray, targets: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return target-class and non-target-class divergence per row, straight from their definitions."""
    parts = []
    for row, right in enumerate(targets):
        t, s = (np.exp(log_softmax(np.float64(values[row]))) for values in (teacher, student))
        b_t, b_s = (np.array([p[right], 1 - p[right]]) for p in (t, s))
        n_t, n_s = (np.delete(p, right) / (1 - p[right]) for p in (t, s))
        parts.append([(b_t * np.log(b_t / b_s)).sum(), (n_t * np.log(n_t / n_s)).sum()])
    return tuple(np.array(parts).T)


def decoupled_loss(temperature: float, alpha: float, beta: float):
    from worker.nn.objectives import decoupled_objective

    return decoupled_objective(temperature=temperature, alpha=alpha, beta=beta)


@settings(max_examples=20, deadline=None)
@given(teacher=logit_rows, student=logit_rows, temperature=st.sampled_from([1.0, 2.0, 4.0]))
def test_the_decoupled_loss_is_its_formula(teacher, student, temperature):
    of_target, of_others = decoupled(teacher / temperature, student / temperature, [0, 1, 2])
    hard = -(LABELS * log_softmax(student)).sum(axis=1)
    expected = hard + temperature**2 * (1.5 * of_target + 8 * of_others)
    found = loss_of(decoupled_loss(temperature, 1.5, 8.0), taught_by(teacher), student)
    assert np.allclose(found, expected, rtol=2e-3, atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(teacher=logit_rows, student=logit_rows)
def test_the_decoupled_parts_weighted_by_the_teacher_are_the_plain_divergence(teacher, student):
    import keras

    from worker.nn.objectives import decoupled_divergences, divergence

    parts = decoupled_divergences(*(keras.ops.convert_to_tensor(values) for values in (teacher, student, LABELS)))
    of_target, of_others = (np.asarray(part) for part in parts)
    others = 1 - np.exp(log_softmax(np.float64(teacher)))[[0, 1, 2], [0, 1, 2]]
    whole = np.asarray(divergence(keras.ops.convert_to_tensor(teacher), keras.ops.convert_to_tensor(student)))
    assert np.allclose(of_target + others * of_others, whole, atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(teacher=logit_rows, student=logit_rows, shift=st.floats(-20, 20))
def test_trap_03_and_04_the_decoupled_parts_are_least_where_they_agree_and_see_no_shift(teacher, student, shift):
    import keras

    from worker.nn.objectives import decoupled_divergences

    def parts(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        tensors = (keras.ops.convert_to_tensor(np.float32(values)) for values in (one, other, LABELS))
        return np.stack([np.asarray(part) for part in decoupled_divergences(*tensors)])

    assert np.allclose(parts(teacher, teacher), 0, atol=1e-4)
    assert (parts(teacher, student) >= -1e-4).all()
    assert np.allclose(parts(log_softmax(teacher) + shift, student), parts(teacher, student), atol=5e-3)


def test_trap_02_the_decoupled_gradient_is_the_slope_and_keeps_its_size_as_the_temperature_grows():
    rng = np.random.default_rng(3)
    teacher, student = rng.normal(0, 0.5, (2, 3, CLASSES))
    objective = decoupled_loss(4.0, 1.0, 8.0)
    found, nudge = gradient(objective, taught_by(teacher), student), 1e-2
    for row, column in np.ndindex(found.shape):
        moved = np.zeros_like(student)
        moved[row, column] = nudge
        higher, lower = (loss_of(objective, taught_by(teacher), student + sign * moved).mean() for sign in (1, -1))
        assert abs(found[row, column] - (higher - lower) / (2 * nudge)) < 3e-3
    plain = gradient(decoupled_loss(1.0, 0.0, 0.0), taught_by(teacher), student)
    norms = [
        np.linalg.norm(gradient(decoupled_loss(t, 1.0, 1.0), taught_by(teacher), student) - plain)
        for t in (1.0, 2.0, 4.0, 8.0, 16.0)
    ]
    assert max(norms) < 3 * min(norms)


def test_a_row_without_a_label_is_taught_by_the_teacher_alone():
    rng = np.random.default_rng(4)
    teacher, student = rng.normal(0, 1, (2, 3, CLASSES))
    unlabelled = np.concatenate([np.zeros_like(LABELS), log_softmax(teacher)], axis=1)
    from worker.nn.objectives import distillation_objective

    half = loss_of(distillation_objective(temperature=2.0, alpha=0.5), unlabelled, student)
    whole = loss_of(distillation_objective(temperature=2.0, alpha=1.0), unlabelled, student)
    assert np.allclose(half, whole / 2, rtol=1e-4)
    of_target, of_others = decoupled(teacher, student, list(teacher.argmax(axis=1)))
    assert np.allclose(
        loss_of(decoupled_loss(1.0, 1.0, 8.0), unlabelled, student), of_target + 8 * of_others, rtol=1e-3
    )
    right = distillation(2.0).correct(*map(np.float32, (unlabelled, student)))
    assert np.array_equal(np.asarray(right), teacher.argmax(axis=1) == student.argmax(axis=1))
