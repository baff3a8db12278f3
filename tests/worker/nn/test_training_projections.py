from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.domain import layers as ly
from app.domain.errors import ShapeMismatchError
from app.domain.network import InputSpec, Network
from app.domain.training_specs import SGD, Adam, AdamW, TrainingSpec
from tests.worker.fakes import FakeReporter
from worker.context import Stopped

CLASSES = 3
OPTIMIZERS = {
    "adam": Adam(learning_rate=0.01),
    "adamw": AdamW(learning_rate=0.01, weight_decay=0.1),
    "sgd": SGD(learning_rate=0.01),
}


def network() -> Network:
    layers = (
        ly.Conv1D(name="conv", filters=6, activation="relu"),
        ly.BatchNorm(name="norm"),
        ly.Flatten(name="flat"),
        ly.Dense(name="hidden", units=10, activation="relu"),
        ly.Dropout(name="drop", rate=0.2),
        ly.Dense(name="answer", units=CLASSES),
    )
    return Network(input=InputSpec(shape=(5, 2)), layers=layers, classes=CLASSES)


def rows():
    from worker.nn.training import Rows

    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5, 2)).astype(np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[x[:, :3, 0].argmax(axis=1)]
    return Rows(x[:60], targets[:60], x[60:], targets[60:])


def lesson(*, training: TrainingSpec, start: dict[str, np.ndarray], **options: object):
    from worker.learning import Lesson
    from worker.nn.objectives import plain_objective

    return Lesson(network(), rows(), plain_objective("classification"), training, 0, start, **options)


def random_start() -> dict[str, np.ndarray]:
    from worker.nn.architectures import build_model, extract_weights

    return extract_weights(build_model(network(), seed=1))


def pruned(weights: dict[str, np.ndarray], *, share: float) -> dict[str, np.ndarray]:
    """Zero this share of every kernel, the smallest entries first."""
    thinned = {}
    for name, values in weights.items():
        smallest = np.argsort(np.abs(values), axis=None)[: round(share * values.size)]
        thinned[name] = values.copy()
        if name.endswith("kernel"):
            thinned[name].reshape(-1)[smallest] = 0
    return thinned


def sparsity(weights: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float((values == 0).mean()) for name, values in weights.items() if name.endswith("kernel")}


def learned(directory: Path, wanted, *, stop_after: int | None = None, resume: Path | None = None):
    from worker.learning import learn

    return learn(wanted, FakeReporter(directory, stop_after=stop_after), resume).weights


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_trap_31_zeros_stay_zero_whatever_momentum_and_weight_decay_do(tmp_path, optimizer):
    training = TrainingSpec(epochs=3, batch_size=16, optimizer=OPTIMIZERS[optimizer])
    # A first training leaves nothing of the mask in its momentum: pruning comes in the middle, as methods do it.
    start = pruned(learned(tmp_path, lesson(training=training, start=random_start())), share=0.7)
    kept = learned(tmp_path, lesson(training=training, start=start, keep_zeros=True))
    assert sparsity(kept) == sparsity(start)
    assert all(np.array_equal(kept[name] == 0, start[name] == 0) for name in start if name.endswith("kernel"))
    assert not np.array_equal(kept["hidden/kernel"], start["hidden/kernel"])
    lost = learned(tmp_path, lesson(training=training, start=start))
    assert all(share < sparsity(start)[name] for name, share in sparsity(lost).items())


def test_trap_31_zeros_survive_an_interruption(tmp_path):
    training = TrainingSpec(epochs=3, batch_size=16)
    wanted = lesson(training=training, start=pruned(random_start(), share=0.5), keep_zeros=True)
    whole = learned(tmp_path / "whole", wanted)
    with pytest.raises(Stopped):
        learned(tmp_path / "first", wanted, stop_after=2)
    resumed = learned(tmp_path / "second", wanted, resume=tmp_path / "first" / "checkpoint-0")
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    assert sparsity(resumed) == sparsity(wanted.start)


def test_entries_of_one_group_stay_equal_and_free_ones_move_alone(tmp_path):
    start = random_start()
    numbers = np.random.default_rng(0).integers(-1, 4, start["hidden/kernel"].shape)
    training = TrainingSpec(epochs=2, batch_size=16, optimizer=Adam(learning_rate=0.01))
    found = learned(tmp_path, lesson(training=training, start=start, groups={"hidden/kernel": numbers}))
    kernel = found["hidden/kernel"]
    centers = [np.unique(kernel[numbers == group]) for group in range(4)]
    assert all(len(values) == 1 for values in centers)
    assert not np.isclose(centers[0][0], start["hidden/kernel"][numbers == 0].mean(), atol=1e-6)
    assert len(np.unique(kernel[numbers == -1])) == (numbers == -1).sum()


def test_zeros_and_groups_go_together(tmp_path):
    start = pruned(random_start(), share=0.5)
    numbers = np.where(start["hidden/kernel"] == 0, 0, np.where(start["hidden/kernel"] > 0, 1, 2))
    training = TrainingSpec(epochs=2, batch_size=16)
    found = learned(
        tmp_path, lesson(training=training, start=start, keep_zeros=True, groups={"hidden/kernel": numbers})
    )
    assert len(np.unique(found["hidden/kernel"])) == 3
    assert sparsity(found) == sparsity(start)


def test_a_grouping_of_another_shape_is_refused(tmp_path):
    wanted = lesson(training=TrainingSpec(), start={}, groups={"hidden/kernel": np.zeros((2, 2), np.intp)})
    with pytest.raises(ShapeMismatchError, match="groups"):
        learned(tmp_path, wanted)


def test_only_kernels_with_a_tenth_of_zeros_have_zeros_to_keep():
    from worker.learning import has_zeros

    start = random_start()
    assert not has_zeros(start)
    assert not has_zeros({"hidden/bias": np.zeros(4), "norm/moving_mean": np.zeros(3), "none/kernel": np.zeros((0, 2))})
    assert not has_zeros(pruned(start, share=0.02))
    assert has_zeros({**start, "hidden/kernel": pruned(start, share=0.1)["hidden/kernel"]})


@settings(max_examples=25, deadline=None)
@given(
    values=arrays(np.float32, (3, 4), elements=st.floats(-9, 9, width=32)),
    numbers=arrays(int, (3, 4), elements=st.integers(-1, 5)),
)
def test_grouping_sets_every_group_to_its_mean(values, numbers):
    import keras

    from worker.nn.projection import _grouped

    found = np.asarray(_grouped("kernel", numbers, keras.Variable(values))(values))
    assert np.array_equal(found[numbers == -1], values[numbers == -1])
    for group in set(numbers[numbers >= 0]):
        inside = numbers == group
        assert np.allclose(found[inside], values[inside].mean(), atol=1e-5)
        assert len(np.unique(found[inside])) == 1
