"""Every option of a training does what it says."""

from dataclasses import replace

import numpy as np
import pytest

from app.domain import layers as ly
from app.domain.network import InputSpec, Network
from app.domain.training_specs import (
    SGD,
    Adam,
    AdamW,
    Augmentation,
    ConstantSchedule,
    OneCycleSchedule,
    StepSchedule,
    TrainingSpec,
)
from tests.worker.fakes import FakeReporter
from worker.context import Stopped

CLASSES, COLUMNS = 3, 5
SHORT = TrainingSpec(epochs=2, batch_size=20, schedule=ConstantSchedule())


def network() -> Network:
    layers = (
        ly.Standardize(name="standard"),
        ly.Dense(name="hidden", units=12),
        ly.BatchNorm(name="norm"),
        ly.Activation(name="relu", activation="relu"),
        ly.Dropout(name="drop", rate=0.1),
        ly.Dense(name="answer", units=CLASSES),
    )
    return Network(input=InputSpec(shape=(COLUMNS,)), layers=layers, classes=CLASSES)


def table(count: int = 100, *, shares: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3), **options: object):
    """Return rows whose classes overlap."""
    from worker.nn.training import Rows

    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, count + 60, p=shares)
    x = (rng.normal(size=(count + 60, COLUMNS)) + 0.8 * np.eye(CLASSES, COLUMNS)[labels]).astype(np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    return Rows(x[:count], targets[:count], x[count:], targets[count:], **options)


class Watcher(FakeReporter):
    """Remember the model's weights after every step."""

    def __init__(self, directory, model, **options: object) -> None:
        super().__init__(directory, **options)
        self.model, self.seen = model, []

    def progress(self, step: int, total_steps: int) -> None:
        super().progress(step, total_steps)
        self.seen.append([np.array(values) for values in self.model.get_weights()])


def train(directory, training: TrainingSpec = SHORT, *, rows=None, seconds_per_chunk: float = 0, **options: object):
    """Train; return the weights, the history and the reporter."""
    from worker.nn.architectures import build_model, extract_weights
    from worker.nn.objectives import plain_objective
    from worker.nn.training import fit

    model = build_model(network(), seed=1)
    reporter = Watcher(directory, model, stop_after=options.pop("stop_after", None))
    history = fit(
        model,
        rows or table(),
        objective=plain_objective("classification"),
        training=training,
        seed=1,
        reporter=reporter,
        seconds_per_chunk=seconds_per_chunk,
        **options,
    )
    return extract_weights(model), history, reporter


def changed(training: TrainingSpec = SHORT, **updates: object) -> TrainingSpec:
    return TrainingSpec.model_validate({**training.model_dump(), **updates})


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def rates(schedule, steps: int) -> np.ndarray:
    import keras

    from worker.nn.optimizers import learning_rate

    rate = learning_rate(schedule, 0.1, steps=steps, steps_per_epoch=10)
    return np.array([float(keras.ops.convert_to_numpy(rate(step))) for step in range(steps + 1)])


def test_a_step_schedule_multiplies_the_rate_after_so_many_epochs():
    found = rates(StepSchedule(epochs=2, factor=0.5), 60)
    assert np.allclose(found[:20], 0.1)
    assert np.allclose(found[20:40], 0.05)
    assert np.allclose(found[40:60], 0.025)


def test_one_cycle_rises_to_its_rate_and_falls_to_almost_nothing():
    found = rates(OneCycleSchedule(warmup_fraction=0.25, start_divisor=20), 80)
    assert found[0] == pytest.approx(0.005)
    assert found.argmax() == 20
    assert found[20] == pytest.approx(0.1)
    assert (np.diff(found[:21]) > 0).all()
    assert (np.diff(found[20:]) < 0).all()
    assert found[-1] == pytest.approx(0.005 / 1e4, rel=1e-2)


@pytest.mark.parametrize("schedule", [{"type": "step", "epochs": 1}, {"type": "one_cycle"}, {"type": "cosine"}])
def test_a_schedule_decides_the_updates(tmp_path, schedule):
    assert not equal(train(tmp_path)[0], train(tmp_path, changed(schedule=schedule))[0])


@pytest.mark.parametrize(
    "optimizer", [SGD(learning_rate=0.1, weight_decay=0.2), AdamW(learning_rate=0.1, weight_decay=0.2)]
)
def test_weight_decay_shrinks_kernels_alone_by_rate_times_decay(tmp_path, optimizer):
    training = changed(optimizer=optimizer.model_dump(), epochs=1, batch_size=200)
    # Rows of weight zero teach nothing, so that only the decay moves the weights.
    idle = table(sample_weight=np.zeros(100, np.float32))
    decayed, _, _ = train(tmp_path, training, rows=idle)
    start, _, _ = train(tmp_path, changed(training, optimizer=SGD(weight_decay=0.0).model_dump()), rows=idle)
    for name in ("hidden/kernel", "answer/kernel"):
        assert np.allclose(decayed[name], start[name] * (1 - 0.1 * 0.2), atol=1e-6)
    for name in ("hidden/bias", "norm/gamma", "norm/beta"):
        assert np.array_equal(decayed[name], start[name])


@pytest.mark.parametrize("augmentation", [Augmentation(noise=0.5), Augmentation(mixup=0.5)])
def test_augmentation_changes_what_is_learned_from_and_never_the_selection_rows(tmp_path, augmentation):
    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import evaluate

    training, rows = changed(epochs=1, augmentation=augmentation.model_dump()), table()
    weights, history, _ = train(tmp_path, training, rows=rows)
    assert not equal(weights, train(tmp_path, changed(epochs=1))[0])
    model = build_model(network(), weights, seed=0)
    found = evaluate(model, rows.selection_x, rows.selection_targets, plain_objective("classification"))
    assert history[0]["selection_loss"] == pytest.approx(found["loss"], abs=1e-5)


def test_balanced_classes_weigh_equally_in_training_and_selection():
    from worker.nn.data import balanced

    plain = table(200, shares=(0.8, 0.15, 0.05), chosen=np.arange(0, 200, 2))
    rows, selection = balanced(plain, CLASSES)
    labels = plain.train_targets[plain.chosen].argmax(axis=1)
    sums = [rows.sample_weight[plain.chosen][labels == label].sum() for label in range(CLASSES)]
    assert np.allclose(sums, 100 / CLASSES)
    known = dict(zip(labels, rows.sample_weight[plain.chosen], strict=True))
    assert np.allclose(selection, [known[label] for label in plain.selection_targets.argmax(axis=1)])
    halved, _ = balanced(table(200, shares=(0.8, 0.15, 0.05), sample_weight=np.full(200, 0.5, np.float32)), CLASSES)
    assert halved.sample_weight.sum() == pytest.approx(100)


def test_classes_are_balanced_by_what_their_rows_weigh():
    """A row of weight 2 counts as two, so that classes weigh alike whatever their rows do."""
    from worker.nn.data import balanced

    own, selected = (np.random.default_rng(1).integers(0, 3, count).astype(np.float32) for count in (200, 60))
    plain = table(200, shares=(0.8, 0.15, 0.05), sample_weight=own, selection_weight=selected)
    rows, selection = balanced(plain, CLASSES)
    labels, chosen = (targets.argmax(axis=1) for targets in (plain.train_targets, plain.selection_targets))
    sums = [rows.sample_weight[labels == label].sum() for label in range(CLASSES)]
    assert np.allclose(sums, own.sum() / CLASSES)
    assert not rows.sample_weight[own == 0].any()
    shares = np.array([sums[label] / own[labels == label].sum() for label in range(CLASSES)])
    assert np.allclose(rows.sample_weight, shares[labels] * own)
    assert np.allclose(selection, shares[chosen] * selected)


def test_the_best_epoch_is_that_of_the_least_weighted_selection_loss(tmp_path):
    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import evaluate

    plain = table(100)
    wrong = np.roll(plain.selection_targets, 1, axis=1)
    told = {}
    for name, weight in (("right", [1, 0]), ("wrong", [0, 1])):
        rows = replace(
            plain,
            selection_x=np.concatenate([plain.selection_x] * 2),
            selection_targets=np.concatenate([plain.selection_targets, wrong]),
            selection_weight=np.repeat(np.float32(weight), 60),
        )
        training = changed(epochs=4, monitor="loss")
        weights, history, _ = train(tmp_path / name, training, rows=rows, seconds_per_chunk=1)
        best = min(history, key=lambda epoch: epoch["selection_loss"])
        told[name] = best["epoch"]
        model, wanted = build_model(network(), weights, seed=0), wrong if name == "wrong" else plain.selection_targets
        found = evaluate(model, plain.selection_x, wanted, plain_objective("classification"))
        assert best["selection_loss"] == pytest.approx(found["loss"], abs=1e-5)
        assert best["selection_accuracy"] == pytest.approx(found["accuracy"], abs=1e-5)
    assert told["wrong"] < told["right"], "what is right where rows weigh decides"


def test_balanced_classes_find_the_rare_ones(tmp_path):
    from worker.nn.architectures import build_model, predict

    rows = table(600, shares=(0.9, 0.05, 0.05))
    rare = rows.train_targets[:, 0] == 0
    recalls = {}
    for kind in (None, "balanced"):
        training = changed(epochs=8, class_weights=kind, optimizer=Adam(learning_rate=0.01).model_dump())
        weights, _, _ = train(tmp_path, training, rows=rows, seconds_per_chunk=1)
        answers = predict(build_model(network(), weights, seed=0), rows.train_x[rare]).argmax(axis=1)
        recalls[kind] = (answers != 0).mean()
    assert recalls["balanced"] > recalls[None] + 0.2


def test_averaging_follows_its_formula_and_the_average_is_what_is_kept_and_judged(tmp_path):
    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import evaluate

    rows = table()
    start = [np.array(values) for values in build_model(network(), seed=1).get_weights()]
    weights, history, reporter = train(tmp_path, changed(averaging=0.9, epochs=1), rows=rows)
    live = train(tmp_path, changed(epochs=1), rows=rows)[0]
    model = build_model(network(), weights, seed=0)
    average = start
    for step, seen in enumerate(reporter.seen):
        decay = min(0.9, (1 + step) / (10 + step))
        average = [decay * old + (1 - decay) * new for old, new in zip(average, seen, strict=True)]
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(average, model.get_weights(), strict=True))
    assert not np.allclose(weights["norm/moving_mean"], live["norm/moving_mean"], atol=1e-6)
    found = evaluate(model, rows.selection_x, rows.selection_targets, plain_objective("classification"))
    assert history[0]["selection_loss"] == pytest.approx(found["loss"], abs=1e-5)


def test_averaging_disturbs_no_update(tmp_path):
    averaged, plain = train(tmp_path, changed(averaging=0.9))[2], train(tmp_path)[2]
    for one, other in zip(averaged.seen, plain.seen, strict=True):
        assert all(np.array_equal(mine, yours) for mine, yours in zip(one, other, strict=True))


def test_without_selection_rows_the_last_average_is_kept(tmp_path):
    from worker.nn.training import Rows

    rows = table()
    blind = Rows(rows.train_x, rows.train_targets, rows.train_x[:0], rows.train_targets[:0])
    weights, history, _ = train(tmp_path, changed(averaging=0.9), rows=blind)
    assert not equal(weights, train(tmp_path, rows=blind)[0])
    assert "selection_loss" not in history[-1]


def test_trap_31_the_average_of_pruned_weights_is_pruned(tmp_path):
    from worker.nn.architectures import build_model, extract_weights
    from worker.nn.objectives import plain_objective
    from worker.nn.projection import constrain
    from worker.nn.training import fit

    model = build_model(network(), seed=1)
    start = extract_weights(model)
    start["hidden/kernel"] = np.where(np.abs(start["hidden/kernel"]) < 0.3, 0, start["hidden/kernel"])
    constrain(model, start, keep_zeros=True, groups={})
    options = {"objective": plain_objective("classification"), "training": changed(averaging=0.9), "seed": 0}
    fit(model, table(), **options, reporter=FakeReporter(tmp_path))
    assert np.array_equal(extract_weights(model)["hidden/kernel"] == 0, start["hidden/kernel"] == 0)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_otherwise_and_leaves_a_float32_model(tmp_path, precision):
    from worker.nn.architectures import build_model
    from worker.nn.export import check_parity, to_onnx

    rows, training = table(300), changed(epochs=6, optimizer=Adam(learning_rate=0.02).model_dump())
    exact, expected, _ = train(tmp_path, training, rows=rows, seconds_per_chunk=1)
    weights, history, reporter = train(tmp_path, changed(training, precision=precision), rows=rows, seconds_per_chunk=1)
    assert {values.dtype for values in weights.values()} == {np.dtype(np.float32)}
    assert {str(layer.dtype_policy.name) for layer in reporter.model.layers} == {"float32"}
    assert not equal(weights, exact)
    assert history[-1]["selection_loss"] == pytest.approx(expected[-1]["selection_loss"], rel=0.1)
    model = build_model(network(), weights, seed=0)
    assert check_parity(model, to_onnx(network(), weights), rows.selection_x, tolerance=1e-4) < 1e-4


EVERYTHING = {
    "averaging": 0.9,
    "augmentation": {"noise": 0.1},
    "class_weights": "balanced",
    "schedule": {"type": "one_cycle"},
    "precision": "mixed_bfloat16",
    "early_stopping": {"patience": 2},
}


@pytest.mark.parametrize("options", [EVERYTHING, {"augmentation": {"mixup": 0.3}, "precision": "mixed_float16"}])
def test_whatever_the_options_a_resumed_training_is_the_uninterrupted_one_bit_by_bit(tmp_path, options):
    training = changed(epochs=3, **options)
    weights, history, _ = train(tmp_path / "whole", training, seconds_per_chunk=1)
    for stop in (3, 7):
        with pytest.raises(Stopped):
            train(tmp_path / f"first-{stop}", training, stop_after=stop)
        checkpoint = tmp_path / f"first-{stop}" / "checkpoint-0"
        resumed, again, _ = train(tmp_path / f"second-{stop}", training, resume=checkpoint)
        assert again == history
        assert equal(weights, resumed)


def test_chunks_of_steps_change_no_bit(tmp_path):
    one, history, steps = train(tmp_path, changed(epochs=3))
    many, again, chunks = train(tmp_path, changed(epochs=3), seconds_per_chunk=5)
    assert equal(one, many)
    assert history == again
    assert len(chunks.steps) < len(steps.steps) == 15


def compiled_steps():
    """Return how the backend in use runs its updates."""
    import keras

    if keras.backend.backend() == "jax":
        from worker.nn.jax_steps import JaxSteps

        return JaxSteps
    from worker.nn.tensorflow_steps import TensorFlowSteps

    return TensorFlowSteps


def test_the_general_way_through_keras_gives_what_the_compiled_one_gives():
    from keras import ops

    from worker.nn.architectures import build_model, extract_weights
    from worker.nn.data import Feed, Plan
    from worker.nn.objectives import plain_objective
    from worker.nn.optimizers import make_optimizer
    from worker.nn.stepping import Averages, KerasSteps

    # Without momentum or scaling: Adam would blow up what rounding leaves of a bias before a normalization.
    training = changed(optimizer=SGD(momentum=0.0, nesterov=False).model_dump())
    rows = table(sample_weight=np.linspace(0.1, 2, 100, dtype=np.float32))
    chunk = Feed(rows, Plan(100, 20, 1, 0), Augmentation()).chunk(0, 5)
    found = []
    for kind in (KerasSteps, compiled_steps()):
        model = build_model(network(), seed=1)
        optimizer = make_optimizer(training, steps=5, steps_per_epoch=5)
        optimizer.build(model.trainable_variables)
        averages = Averages(model, 0.9)
        steps = kind(model, optimizer, plain_objective("classification"), "float32", averages)
        sums = steps.run(chunk, np.zeros(2))
        figures = steps.evaluate(rows.selection_x, rows.selection_targets, None)
        found.append(
            (extract_weights(model), [ops.convert_to_numpy(value).copy() for value in averages.values], sums, figures)
        )
    (weights, means, sums, figures), (own, own_means, own_sums, own_figures) = found
    assert all(np.allclose(weights[name], own[name], atol=1e-5) for name in weights)
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(means, own_means, strict=True))
    assert np.allclose(sums, own_sums, atol=1e-3)
    assert figures == pytest.approx(own_figures, abs=1e-5)


def test_trap_05_the_evaluation_within_a_training_changes_nothing():
    from keras import ops

    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.optimizers import make_optimizer

    model, rows = build_model(network(), seed=1), table()
    optimizer = make_optimizer(SHORT, steps=5, steps_per_epoch=5)
    optimizer.build(model.trainable_variables)
    before = [ops.convert_to_numpy(variable).copy() for variable in model.variables]
    steps = compiled_steps()(model, optimizer, plain_objective("classification"), "float32", None)
    steps.evaluate(rows.train_x, rows.train_targets, None)
    assert all(
        np.array_equal(old, new) for old, new in zip(before, map(ops.convert_to_numpy, model.variables), strict=True)
    )
