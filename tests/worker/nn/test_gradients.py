import numpy as np

from app.domain import layers as ly
from app.domain.network import InputSpec, Network


def gradients_of(
    network: Network,
    weights: dict[str, np.ndarray],
    x: np.ndarray,
    targets: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    **options: int,
):
    from worker.nn.gradients import batch_gradients
    from worker.nn.objectives import plain_objective
    from worker.nn.training import Rows

    rows = Rows(x, targets, x[:0], targets[:0], sample_weight=sample_weight)
    settings = {"seed": 0, "batch_size": len(x), "batches": 5, **options}
    return list(batch_gradients(network, weights, rows, plain_objective(network.task), **settings))


def linear() -> Network:
    layers = (ly.Dropout(name="drop", rate=0.5), ly.Dense(name="answer", units=1))
    return Network(input=InputSpec(shape=(3,)), layers=layers, task="regression", classes=1)


def test_a_linear_network_has_the_gradient_of_the_formula():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype(np.float32), rng.normal(size=(20, 1)).astype(np.float32)
    weights = {"answer/kernel": rng.normal(size=(3, 1)).astype(np.float32), "answer/bias": np.ones(1, np.float32)}
    (found,) = gradients_of(linear(), weights, x, y)
    error = x @ weights["answer/kernel"] + 1 - y
    np.testing.assert_allclose(found["answer/kernel"], 2 * x.T @ error / 20, rtol=1e-4)
    np.testing.assert_allclose(found["answer/bias"], 2 * error.mean(axis=0), rtol=1e-4)


def test_a_row_of_weight_2_has_the_gradient_of_that_row_twice():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype(np.float32), rng.normal(size=(20, 1)).astype(np.float32)
    own = rng.integers(0, 3, 20)
    weights = {"answer/kernel": rng.normal(size=(3, 1)).astype(np.float32), "answer/bias": np.ones(1, np.float32)}
    (weighted,) = gradients_of(linear(), weights, x, y, sample_weight=own.astype(np.float32))
    (repeated,) = gradients_of(linear(), weights, np.repeat(x, own, axis=0), np.repeat(y, own, axis=0))
    for name, values in weighted.items():
        np.testing.assert_allclose(values, repeated[name], rtol=1e-4, atol=1e-6)


def test_every_batch_starts_from_the_same_weights():
    x = np.ones((12, 3), np.float32)  # every batch is the same, so every gradient is
    weights = {"answer/kernel": np.ones((3, 1), np.float32), "answer/bias": np.zeros(1, np.float32)}
    found = gradients_of(linear(), weights, x, np.zeros((12, 1), np.float32), batch_size=6, batches=2)
    assert [batch["answer/bias"].tolist() for batch in found] == [[6.0], [6.0]]


def test_only_the_entries_of_an_embedding_that_were_looked_up_have_a_gradient():
    layers = (
        ly.Embedding(name="embedding", vocabulary=9, width=4),
        ly.Flatten(name="flat"),
        ly.Dense(name="answer", units=3),
    )
    network = Network(input=InputSpec(shape=(2,), dtype="uint8"), layers=layers, classes=3)
    rng = np.random.default_rng(0)
    weights = {
        "embedding/embeddings": rng.normal(size=(9, 4)).astype(np.float32),
        "answer/kernel": rng.normal(size=(8, 3)).astype(np.float32),
        "answer/bias": np.zeros(3, np.float32),
    }
    x = np.array([[1, 5], [5, 7]], np.uint8)
    (found,) = gradients_of(network, weights, x, np.eye(3, dtype=np.float32)[:2])
    assert np.flatnonzero(np.abs(found["embedding/embeddings"]).sum(axis=1)).tolist() == [1, 5, 7]
