from pathlib import Path

import numpy as np
import pytest

from app.domain import layers as ly
from app.domain.job_errors import CheckpointIncompatibleError, TrainingDivergedError
from app.domain.network import InputSpec, Network
from app.domain.training_specs import SGD, Adam, AdamW, ConstantSchedule, CosineSchedule, EarlyStopping, TrainingSpec
from tests.worker.fakes import FakeReporter
from worker.context import Stopped

CLASSES = 3


def network(*, width: int = 8) -> Network:
    """Return a network with everything that has a state while it trains: dropout, batch norm, shared weights."""
    layers = (
        ly.Embedding(name="embedding", vocabulary=20, width=4),
        ly.Conv1D(name="conv", filters=width, use_bias=False),
        ly.BatchNorm(name="norm"),
        ly.Activation(name="relu", activation="relu"),
        ly.Conv1D(name="again", filters=width, inputs=("relu",)),
        ly.Conv1D(name="shared", filters=width, weights="again", activation="relu"),
        ly.GlobalMaxPool(name="strongest"),
        ly.Dropout(name="drop", rate=0.3),
        ly.Dense(name="answer", units=CLASSES),
    )
    return Network(input=InputSpec(shape=(6,), dtype="uint8"), layers=layers, classes=CLASSES)


def learnable_rows(count: int = 90, *, noise: float = 0.3, **options: object):
    """Return byte rows whose class is their first byte modulo 3, with some labels wrong."""
    from worker.nn.training import Rows

    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, (count + 40, 6)).astype(np.uint8)
    labels = np.where(rng.random(count + 40) < noise, rng.integers(0, CLASSES, count + 40), x[:, 0] % CLASSES)
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    return Rows(x[:count], targets[:count], selection_x=x[count:], selection_targets=targets[count:], **options)


def train(
    directory: Path,
    training: TrainingSpec,
    *,
    rows=None,
    stop_after=None,
    resume=None,
    reason="drain",
    seed=5,
    seconds_per_chunk=0,
):
    """Train the network, asked after every step; return its weights, its history and the reporter."""
    from worker.nn.architectures import build_model, extract_weights
    from worker.nn.objectives import plain_objective
    from worker.nn.training import fit

    reporter = FakeReporter(directory, stop_after=stop_after, reason=reason)
    model = build_model(network(), seed=seed)
    history = fit(
        model,
        rows or learnable_rows(),
        objective=plain_objective("classification"),
        training=training,
        seed=seed,
        reporter=reporter,
        resume=resume,
        seconds_per_chunk=seconds_per_chunk,
    )
    return extract_weights(model), history, reporter


def interrupted(directory: Path, training: TrainingSpec, *, stop_after: int) -> Path:
    """Train until the reporter drains; return the checkpoint."""
    reporter = FakeReporter(directory, stop_after=stop_after)
    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import fit

    with pytest.raises(Stopped) as caught:
        fit(
            build_model(network(), seed=5),
            learnable_rows(),
            objective=plain_objective("classification"),
            training=training,
            seed=5,
            reporter=reporter,
            seconds_per_chunk=0,
        )
    assert caught.value.step == stop_after
    return reporter.checkpoints[-1][1]


LONG = TrainingSpec(epochs=6, batch_size=16, optimizer=Adam(learning_rate=0.01))
TRAININGS = {
    "adam, cosine with warm-up, early stopping": TrainingSpec(
        epochs=12,
        batch_size=16,
        optimizer=Adam(learning_rate=0.03),
        schedule=CosineSchedule(warmup_fraction=0.2),
        early_stopping=EarlyStopping(patience=2),
    ),
    "adamw, clipped": TrainingSpec(epochs=3, batch_size=16, optimizer=AdamW(), global_clipnorm=0.5),
    "momentum, constant": TrainingSpec(epochs=3, batch_size=16, optimizer=SGD(), schedule=ConstantSchedule()),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_resumed_weights_equal_those_of_the_uninterrupted_run_bit_by_bit(tmp_path, name):
    training = TRAININGS[name]
    weights, history, reporter = train(tmp_path / "whole", training)
    stops = sorted(np.random.default_rng(len(name)).choice(len(reporter.steps) - 1, 2, replace=False) + 1)
    for stop in stops:
        checkpoint = interrupted(tmp_path / f"stopped-{stop}", training, stop_after=int(stop))
        resumed, resumed_history, after = train(tmp_path / f"resumed-{stop}", training, resume=checkpoint)
        assert after.steps == reporter.steps[stop:]
        assert resumed_history == history
        assert all(np.array_equal(weights[key], resumed[key]) for key in weights)


def test_a_training_may_be_interrupted_twice(tmp_path):
    weights, _, _ = train(tmp_path / "whole", LONG)
    first = interrupted(tmp_path / "first", LONG, stop_after=4)
    with pytest.raises(Stopped):
        train(tmp_path / "second", LONG, resume=first, stop_after=9)
    second = tmp_path / "second" / "checkpoint-0"
    resumed, _, _ = train(tmp_path / "third", LONG, resume=second)
    assert all(np.array_equal(weights[key], resumed[key]) for key in weights)


def kept_figures(weights):
    """Return loss and accuracy of trained weights on the selection rows."""
    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import evaluate

    rows, model = learnable_rows(), build_model(network(), weights, seed=0)
    return evaluate(model, rows.selection_x, rows.selection_targets, plain_objective("classification"))


def test_early_stopping_ends_the_training_and_keeps_the_best_epoch(tmp_path):
    training = TRAININGS["adam, cosine with warm-up, early stopping"].model_copy(update={"monitor": "loss"})
    weights, history, reporter = train(tmp_path, training)
    losses = [epoch["selection_loss"] for epoch in history]
    assert len(history) < training.epochs
    assert min(losses[-2:]) > min(losses)
    assert len(reporter.steps) == len(history) * 6
    assert kept_figures(weights)["loss"] == pytest.approx(min(losses), abs=1e-5)


def test_the_epoch_of_most_right_answers_is_kept_and_among_equal_ones_that_of_the_lowest_loss(tmp_path):
    weights, history, _ = train(tmp_path, LONG.model_copy(update={"epochs": 12}))
    best = max(history, key=lambda epoch: (epoch["selection_accuracy"], -epoch["selection_loss"]))
    least = min(history, key=lambda epoch: epoch["selection_loss"])
    kept = kept_figures(weights)
    assert best["epoch"] != least["epoch"], "the rows no longer tell the two apart"
    assert kept["accuracy"] == pytest.approx(best["selection_accuracy"])
    assert kept["loss"] == pytest.approx(best["selection_loss"], abs=1e-5)


def test_the_last_epoch_is_kept_where_that_is_asked_for(tmp_path):
    weights, history, _ = train(tmp_path, LONG.model_copy(update={"epochs": 12, "keep": "last"}))
    best = max(history, key=lambda epoch: (epoch["selection_accuracy"], -epoch["selection_loss"]))
    assert best["epoch"] != history[-1]["epoch"], "the rows no longer tell the two apart"
    assert kept_figures(weights)["loss"] == pytest.approx(history[-1]["selection_loss"], abs=1e-5)


def test_early_stopping_waits_for_more_right_answers(tmp_path):
    stopping = EarlyStopping(patience=2, minimum_delta=0.05)
    _, history, _ = train(tmp_path, LONG.model_copy(update={"epochs": 30, "early_stopping": stopping}))
    found = [epoch["selection_accuracy"] for epoch in history]
    assert len(found) < 30
    assert all(accuracy <= max(found[:-2]) + 0.05 for accuracy in found[-2:])


def test_the_network_learns_and_every_epoch_is_reported(tmp_path):
    _, history, reporter = train(tmp_path, LONG.model_copy(update={"epochs": 25}), rows=learnable_rows(300, noise=0))
    assert history[-1]["selection_accuracy"] > 0.9 > history[0]["selection_accuracy"]
    assert history[-1]["accuracy"] > 0.7
    assert [values for _, values in reporter.metrics] == [
        {key: value for key, value in epoch.items() if key != "epoch"} for epoch in history
    ]
    assert reporter.steps[-1] == (25 * 19, 25 * 19)


def test_a_cancelled_training_writes_no_checkpoint(tmp_path):
    with pytest.raises(Stopped, match="cancel"):
        train(tmp_path, LONG, stop_after=3, reason="cancel")
    assert not list(tmp_path.iterdir())


def test_a_due_checkpoint_is_written_and_the_training_goes_on(tmp_path):
    class Impatient(FakeReporter):
        def checkpoint_due(self) -> bool:
            return len(self.steps) in (2, 5)

    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import fit

    reporter = Impatient(tmp_path)
    options = {"objective": plain_objective("classification"), "training": LONG, "seed": 5, "reporter": reporter}
    fit(build_model(network(), seed=5), learnable_rows(), **options, seconds_per_chunk=0)
    assert [step for step, _ in reporter.checkpoints] == [2, 5]


def test_a_foreign_checkpoint_is_refused(tmp_path):
    checkpoint = interrupted(tmp_path / "first", LONG, stop_after=2)
    with pytest.raises(CheckpointIncompatibleError, match="other rows or settings"):
        train(tmp_path / "second", LONG.model_copy(update={"epochs": 7}), resume=checkpoint)
    with pytest.raises(CheckpointIncompatibleError, match="other rows or settings"):
        train(tmp_path / "third", LONG, resume=checkpoint, seed=6)


def test_a_diverging_training_says_so(tmp_path):
    wild = TrainingSpec(epochs=3, batch_size=16, optimizer=SGD(learning_rate=10.0, momentum=0.99))
    rows = learnable_rows()
    broken = np.where(np.arange(len(rows.train_targets))[:, None] == 3, np.float32(np.nan), rows.train_targets)
    with pytest.raises(TrainingDivergedError, match="epoch 1 the loss is nan"):
        train(tmp_path, wild, rows=learnable_rows().__class__(**{**vars(rows), "train_targets": broken}))


def test_rows_are_read_batch_by_batch_from_memory_mapped_files(tmp_path):
    from worker.nn.training import Rows

    plain = learnable_rows()
    for name, array in vars(plain).items():
        if array is not None:
            np.save(tmp_path / f"{name}.npy", array)
    mapped = Rows(**{path.stem: np.load(path, mmap_mode="r") for path in tmp_path.glob("*.npy")})
    training = LONG.model_copy(update={"epochs": 2})
    weights, _, _ = train(tmp_path / "mapped", training, rows=mapped)
    expected, _, _ = train(tmp_path / "plain", training, rows=plain)
    assert all(np.array_equal(weights[key], expected[key]) for key in weights)


def test_chosen_rows_alone_are_learned_from(tmp_path):
    rows = learnable_rows()
    chosen = np.flatnonzero(np.arange(90) % 2)
    subset = rows.__class__(rows.train_x[chosen], rows.train_targets[chosen], rows.selection_x, rows.selection_targets)
    training = LONG.model_copy(update={"epochs": 2})
    weights, _, _ = train(tmp_path / "chosen", training, rows=learnable_rows(chosen=chosen))
    expected, _, _ = train(tmp_path / "subset", training, rows=subset)
    assert all(np.array_equal(weights[key], expected[key]) for key in weights)


def test_trap_06_rows_of_weight_zero_teach_nothing_and_of_weight_two_count_twice(tmp_path):
    from worker.nn.architectures import build_model, extract_weights
    from worker.nn.objectives import plain_objective
    from worker.nn.training import Rows, fit

    linear = Network(input=InputSpec(shape=(4,)), layers=(ly.Dense(name="answer", units=CLASSES),), classes=CLASSES)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4)).astype(np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, 8)]
    one_batch = TrainingSpec(epochs=1, batch_size=64, optimizer=SGD(momentum=0), schedule=ConstantSchedule())

    def trained(places: list[int], weight: list[float]) -> dict[str, np.ndarray]:
        model = build_model(linear, seed=0)
        rows = Rows(x[places], targets[places], x[:0], targets[:0], sample_weight=np.float32(weight))
        options = {"objective": plain_objective("classification"), "training": one_batch, "seed": 0}
        fit(model, rows, **options, reporter=FakeReporter(tmp_path))
        return extract_weights(model)

    start = extract_weights(build_model(linear, seed=0))
    unmoved = trained([0, 1, 2, 3], [0, 0, 0, 0])
    assert all(np.array_equal(start[key], unmoved[key]) for key in start)
    weighted, duplicated = trained([0, 1, 2, 3], [1, 2, 1, 1]), trained([0, 1, 1, 2, 3], [1, 1, 1, 1, 1])
    assert all(np.allclose(weighted[key], duplicated[key], atol=1e-6) for key in start)


def test_light_rows_teach_little_however_small_the_batch(tmp_path):
    from worker.nn.architectures import build_model, extract_weights
    from worker.nn.objectives import plain_objective
    from worker.nn.training import Rows, fit

    linear = Network(input=InputSpec(shape=(4,)), layers=(ly.Dense(name="answer", units=CLASSES),), classes=CLASSES)
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(8, 4)).astype(np.float32), np.eye(CLASSES, dtype=np.float32)[[0, 1] * 4]
    rows = Rows(x, targets, x[:0], targets[:0], sample_weight=np.float32([90, 1, 1, 1, 1, 1, 1, 0]))
    start = extract_weights(build_model(linear, seed=0))
    moved, losses = [], []
    for size in (1, 8):
        # So slow that what one batch changes does not show in the next.
        optimizer = SGD(learning_rate=1e-3 * size, momentum=0, nesterov=False)
        training = TrainingSpec(epochs=1, batch_size=size, optimizer=optimizer, schedule=ConstantSchedule())
        model = build_model(linear, seed=0)
        options = {"objective": plain_objective("classification"), "training": training, "seed": 0}
        history = fit(model, rows, **options, reporter=FakeReporter(tmp_path))
        moved.append({key: value - start[key] for key, value in extract_weights(model).items()})
        losses.append(history[0]["loss"])
    assert all(np.allclose(moved[0][key], moved[1][key], rtol=0.05, atol=1e-5) for key in start)
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_trap_05_evaluation_and_prediction_change_nothing():
    from keras import ops

    from worker.nn.architectures import build_model, predict
    from worker.nn.objectives import plain_objective
    from worker.nn.training import evaluate

    model, rows = build_model(network(), seed=0), learnable_rows()
    before = [ops.convert_to_numpy(variable).copy() for variable in model.variables]
    predict(model, rows.train_x)
    evaluate(model, rows.selection_x, rows.selection_targets, plain_objective("classification"))
    after = map(ops.convert_to_numpy, model.variables)
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))


def test_a_regression_learns_its_numbers(tmp_path):
    from worker.nn.architectures import build_model
    from worker.nn.objectives import plain_objective
    from worker.nn.training import Rows, fit

    layers = (ly.Dense(name="hidden", units=16, activation="relu"), ly.Dense(name="answer", units=1))
    model = build_model(Network(input=InputSpec(shape=(2,)), layers=layers, task="regression", classes=1), seed=0)
    x = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)
    y = x @ np.float32([[2], [-1]])
    training = TrainingSpec(epochs=20, batch_size=32, optimizer=Adam(learning_rate=0.01))
    options = {"objective": plain_objective("regression"), "training": training, "seed": 0}
    history = fit(model, Rows(x[:200], y[:200], x[200:], y[200:]), **options, reporter=FakeReporter(tmp_path))
    assert history[-1]["selection_loss"] < 0.1 * history[0]["selection_loss"]
    assert "accuracy" not in history[-1]
