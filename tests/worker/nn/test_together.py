"""Traps 14 and 29: members that are trained as one start apart, share nothing, and are what each would be alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.domain import layers as ly
from app.domain.network import InputSpec, Network
from app.domain.training_specs import AdamW, Augmentation, CosineSchedule, EarlyStopping, TrainingSpec
from tests.worker.fakes import FakeReporter
from tests.worker.nn.backends import needs_tensorflow
from tests.worker.nn.test_training import learnable_rows
from worker.context import Stopped

SEEDS = (5, 6, 7)
TRAINING = TrainingSpec(
    epochs=3, batch_size=32, optimizer=AdamW(learning_rate=0.01), schedule=CosineSchedule(), averaging=0.9
)


@pytest.fixture(autouse=True)
def _tensorflow() -> None:
    needs_tensorflow("members are stacked on TensorFlow alone")


def signal_network() -> Network:
    """Return a network with everything that has a state while it trains: dropout, batch norm, shared weights."""
    layers = (
        ly.Conv1D(name="conv", filters=8, use_bias=False, dilation=2),
        ly.BatchNorm(name="norm"),
        ly.Activation(name="relu", activation="relu"),
        ly.Conv1D(name="again", filters=8, inputs=("relu",)),
        ly.Conv1D(name="shared", filters=8, weights="again", activation="relu"),
        ly.GlobalMaxPool(name="strongest"),
        ly.Dropout(name="drop", rate=0.3),
        ly.Dense(name="answer", units=3),
    )
    return Network(input=InputSpec(shape=(6, 1), dtype="float32"), layers=layers, classes=3)


def image_network() -> Network:
    """Return a network of every other layer that has weights or windows."""
    layers = (
        ly.Standardize(name="standardize"),
        ly.Conv2D(name="conv", filters=6, strides=(2, 2), activation="relu"),
        ly.BatchNorm(name="norm"),
        ly.MaxPool2D(name="pool"),
        ly.SeparableConv2D(name="separable", filters=6, activation="relu"),
        ly.Add(name="sum", inputs=("pool", "separable")),
        ly.DepthwiseConv2D(name="depthwise"),
        ly.AvgPool2D(name="mean", pool_size=(2, 2), strides=(1, 1), padding="same"),
        ly.Concat(name="both", inputs=("mean", "sum")),
        ly.Flatten(name="flat"),
        ly.Dropout(name="drop", rate=0.4),
        ly.Dense(name="hidden", units=8, activation="tanh"),
        ly.Dense(name="answer", units=3),
    )
    return Network(input=InputSpec(shape=(9, 9, 1), dtype="float32"), layers=layers, classes=3)


def rows_of(shape: tuple[int, ...], count: int = 90):
    """Return rows whose numbers grow with the class."""
    rows = learnable_rows(count, noise=0.1)
    rng = np.random.default_rng(1)

    def numbers(targets):
        level = targets.argmax(1).reshape(-1, *[1] * len(shape))
        return (rng.normal(size=(len(targets), *shape)) + level).astype(np.float32)

    return replace(rows, train_x=numbers(rows.train_targets), selection_x=numbers(rows.selection_targets))


CASES = {"signals": (signal_network, lambda: rows_of((6, 1))), "images": (image_network, lambda: rows_of((9, 9, 1)))}


def task_of(case: str, training: TrainingSpec):
    from worker.nn.objectives import plain_objective
    from worker.nn.together import Task

    return Task(CASES[case][0](), plain_objective("classification"), training)


def pupils_of(case: str, seeds=SEEDS, **changes):
    from worker.nn.together import Pupil

    rows = CASES[case][1]()
    return [Pupil(seed, replace(rows, **changes), {}) for seed in seeds]


def together(case: str, directory: Path, training=TRAINING, *, pupils=None, resume=None):
    from worker.nn.together import fit_together

    return fit_together(task_of(case, training), pupils or pupils_of(case), FakeReporter(directory), resume)


def alone(case: str, directory: Path, pupil, training=TRAINING):
    """Train a member by the plain trainer."""
    from worker.nn.architectures import build_model, extract_weights
    from worker.nn.training import fit

    task = task_of(case, training)
    model = build_model(task.network, seed=pupil.seed)
    history = fit(
        model,
        pupil.rows,
        objective=task.objective,
        training=training,
        seed=pupil.seed,
        reporter=FakeReporter(directory),
    )
    return extract_weights(model), history


def assert_alike(found, expected, *, tolerance=2e-4):
    weights, history = found
    expected_weights, expected_history = expected
    assert weights.keys() == expected_weights.keys()
    for name, values in expected_weights.items():
        np.testing.assert_allclose(weights[name], values, atol=tolerance, rtol=0, err_msg=name)
    for own, other in zip(history, expected_history, strict=True):
        assert own == pytest.approx(other, abs=tolerance)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory):
    """Train the three members once: every compilation takes seconds."""
    return together("signals", tmp_path_factory.mktemp("trio"))


def test_trap_29_every_member_is_what_the_plain_trainer_makes_of_it(trio, tmp_path: Path) -> None:
    """Own start, order, masks, statistics, moments and averages: else the third member would differ by far more."""
    for place, pupil in enumerate(pupils_of("signals")):
        assert_alike(trio[place], alone("signals", tmp_path, pupil))


def test_trap_29_so_it_is_with_every_kind_of_layer(tmp_path: Path) -> None:
    pupils = pupils_of("images", seeds=(8, 9))
    found = together("images", tmp_path, pupils=pupils)
    assert_alike(found[1], alone("images", tmp_path, pupils[1]))


def test_trap_29_step_by_step_one_member_is_the_plain_trainer(tmp_path: Path) -> None:
    training = TRAINING.model_copy(update={"epochs": 6, "batch_size": 90, "averaging": None})
    (pupil,) = pupils_of("signals", seeds=(5,))
    (found,) = together("signals", tmp_path, training, pupils=[pupil])
    expected = alone("signals", tmp_path, pupil, training)
    assert len(expected[1]) == 6, "one step an epoch: the figures of every step are compared"
    assert_alike(found, expected, tolerance=2e-5)


def test_trap_29_results_do_not_depend_on_who_else_is_trained(trio, tmp_path: Path) -> None:
    pair = together("signals", tmp_path, pupils=pupils_of("signals", seeds=(SEEDS[2], 99)))
    assert_alike(trio[2], pair[0])


def test_trap_29_no_gradient_of_a_member_holds_anything_of_another() -> None:
    import tensorflow as tf

    from worker.nn.stacked import StackedModel

    model = StackedModel(image_network(), [{}, {}], [1, 2])
    rows = tf.constant(np.random.default_rng(0).normal(size=(8, 2, 9, 9, 1)), tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(rows, model.draw_masks(8))[:, 0]))
    slopes = tape.gradient(loss, model.trainable_variables)
    assert all(not np.any(slope[1]) for slope in slopes)
    assert sum(np.any(slope[0]) for slope in slopes) > len(slopes) / 2


def test_trap_14_members_start_apart_and_end_apart(trio) -> None:
    from worker.nn.stacked import StackedModel

    model = StackedModel(signal_network(), [{}, {}, {}], SEEDS)
    kernel = np.asarray(model.named["conv/kernel"])
    distances = [np.abs(kernel[one] - kernel[other]).max() for one, other in ((0, 1), (0, 2), (1, 2))]
    assert min(distances) > 0.01
    assert np.abs(trio[0][0]["answer/kernel"] - trio[1][0]["answer/kernel"]).max() > 0.01


def test_members_with_draws_weights_and_augmentation_are_each_as_alone(tmp_path: Path) -> None:
    training = TRAINING.model_copy(
        update={"augmentation": Augmentation(noise=0.2), "class_weights": "balanced", "label_smoothing": 0.1}
    )
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2, 90).astype(np.float32)
    pupils = [
        replace(pupil, rows=replace(pupil.rows, chosen=np.sort(rng.choice(90, 90)), sample_weight=weight))
        for pupil in pupils_of("signals", seeds=(3, 4))
    ]
    found = together("signals", tmp_path, training, pupils=pupils)
    assert_alike(found[1], alone("signals", tmp_path, pupils[1], training))


def test_a_member_that_stops_early_keeps_what_it_had(tmp_path: Path) -> None:
    training = TrainingSpec(epochs=12, batch_size=32, early_stopping=EarlyStopping(patience=1), monitor="loss")
    pupils = pupils_of("signals", seeds=(1, 2, 3, 4))
    found = together("signals", tmp_path, training, pupils=pupils)
    lengths = [len(history) for _, history in found]
    assert len(set(lengths)) > 1, "the members stop at different epochs"
    first = int(np.argmin(lengths))
    assert_alike(found[first], alone("signals", tmp_path, pupils[first], training))


def test_an_interrupted_training_goes_on_to_the_same_bits(trio, tmp_path: Path) -> None:
    from worker.nn.together import fit_together

    reporter = FakeReporter(tmp_path / "cut", stop_after=4)
    with pytest.raises(Stopped):
        fit_together(task_of("signals", TRAINING), pupils_of("signals"), reporter)
    resumed = together("signals", tmp_path / "resumed", resume=reporter.checkpoints[-1][1])
    for (weights, history), (expected, expected_history) in zip(resumed, trio, strict=True):
        assert history == expected_history
        assert all(np.array_equal(weights[name], values) for name, values in expected.items())


def test_what_cannot_be_stacked_says_why() -> None:
    from tests.worker.nn.test_training import network
    from worker.nn.together import why_alone

    bytes_ = replace(task_of("signals", TRAINING), network=network())
    assert "cannot be stacked" in (why_alone(bytes_, pupils_of("signals")) or "")
    clipped = TRAINING.model_copy(update={"global_clipnorm": 1.0})
    assert why_alone(task_of("signals", TRAINING), pupils_of("signals")) is None
    assert "clipped" in (why_alone(task_of("signals", clipped), pupils_of("signals")) or "")
