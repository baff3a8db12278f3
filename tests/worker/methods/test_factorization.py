import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import layers as ly
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import InputSpec, Network, trace
from app.domain.surgery.factorization import check_factorizable, factorize, factors, largest_rank, rank_of
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.conftest import TRAINING
from worker.nn.export import to_onnx


def random_weights(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in trace(network).variables.items()}


def network_of(*layers: ly.Layer, shape: tuple[int, ...]) -> Network:
    return Network(input=InputSpec(shape=shape), layers=layers, classes=3)


def dense_network(units: int = 20) -> Network:
    return network_of(
        ly.Dense(name="wide", units=units, activation="relu"),
        ly.Dense(name="twice", units=units, weights="shared", activation="tanh"),
        ly.Dense(name="again", units=units, weights="shared"),
        ly.Dense(name="answer", units=3),
        shape=(16,),
    )


def convolutions() -> Network:
    return network_of(
        ly.Conv2D(name="conv", filters=12),
        ly.Conv2D(name="mix", filters=16, kernel_size=1, strides=2, padding="valid", activation="relu"),
        ly.SeparableConv2D(name="apart", filters=16, strides=2, depth_multiplier=2, activation="relu"),
        ly.Reshape(name="steps", shape=(4, 16)),
        ly.Conv1D(name="mix_steps", filters=16, kernel_size=1, use_bias=False),
        ly.SeparableConv1D(name="apart_steps", filters=18),
        ly.GlobalAvgPool(name="mean"),
        ly.Dense(name="answer", units=3),
        shape=(8, 8, 2),
    )


def of_low_rank(weights: dict[str, np.ndarray], rank: int) -> dict[str, np.ndarray]:
    """Return the weights with every kernel's matrix cut to a rank."""
    low = dict(weights)
    for name, value in weights.items():
        if name.endswith("kernel") and "depthwise" not in name:
            left, right = factors(value.reshape(-1, value.shape[-1]).astype(np.float64), rank)
            low[name] = (left @ right).astype(np.float32).reshape(value.shape)
    return low


def answers(network: Network, weights: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    return predict_rows(load_engine(to_onnx(network, weights).SerializeToString()), rows, "logits")


@pytest.mark.parametrize("network", [dense_network(), convolutions()], ids=["dense", "convolutions"])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_trap_39_all_of_the_energy_reproduces_the_answers(network, rank):
    weights = of_low_rank(random_weights(network), rank)
    split = factorize(network, weights, energy=1.0)
    assert set(split.ranks.values()) == {rank}
    assert {name: value.shape for name, value in split.start.items()} == trace(split.network).variables
    assert trace(split.network).parameters < trace(network).parameters
    assert trace(split.network).macs < trace(network).macs
    rows = np.random.default_rng(1).normal(size=(5, *network.input.shape)).astype(np.float32)
    before = answers(network, weights, rows)
    scale = max(1.0, np.abs(before).max())
    np.testing.assert_allclose(answers(split.network, split.start, rows), before, atol=1e-5 * scale)


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_trap_39_full_rank_reproduces_the_matrix_but_never_makes_it_smaller(inputs, outputs, seed):
    matrix = np.random.default_rng(seed).normal(size=(inputs, outputs)).astype(np.float32)
    left, right = factors(matrix, min(inputs, outputs))
    np.testing.assert_allclose(left @ right, matrix, atol=1e-5)
    assert largest_rank(inputs, outputs) < min(inputs, outputs)
    rank = largest_rank(inputs, outputs)
    assert rank * (inputs + outputs) < inputs * outputs <= (rank + 1) * (inputs + outputs)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=6), st.floats(0.05, 1))
def test_the_rank_is_the_smallest_that_keeps_the_energy(sizes, energy):
    sizes = sorted(sizes, reverse=True)
    share = np.cumsum(np.square(sizes)) / np.sum(np.square(sizes))
    rank = rank_of(np.diag(sizes), energy)
    assert share[rank - 1] >= energy - 1e-9
    assert rank == 1 or share[rank - 2] < energy


def test_trap_39_a_layer_that_would_grow_is_refused_with_the_rank_it_needs():
    network = dense_network()
    weights = random_weights(network)
    with pytest.raises(MethodNotApplicableError, match=r"needs the rank .* only up to rank"):
        factorize(network, weights, energy=1.0)
    weights["wide/kernel"] = of_low_rank(weights, 2)["wide/kernel"]
    split = factorize(network, weights, energy=0.999)
    assert split.ranks == {"wide": 2}
    assert set(split.kept) == {"shared", "answer"}
    assert split.network.layer("again") == network.layer("again")


def test_layers_that_share_weights_are_split_once():
    network = dense_network()
    split = factorize(network, of_low_rank(random_weights(network), 2), energy=0.99)
    names = {layer.name: layer.weights_name for layer in split.network.layers}
    assert names["twice_basis"] == names["again_basis"] == "shared_basis"
    assert names["twice"] == names["again"] == "shared"
    shapes = trace(split.network).variables
    assert shapes["shared_basis/kernel"] == (20, split.ranks["shared"])


def test_a_name_that_is_taken_is_not_taken_again():
    network = network_of(ly.Dense(name="wide", units=20), ly.Dense(name="wide_basis", units=3), shape=(16,))
    split = factorize(network, of_low_rank(random_weights(network), 1), energy=0.99)
    assert len({layer.name for layer in split.network.layers}) == len(split.network.layers) == 4


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([ly.Conv2D(name="conv", filters=3), ly.GlobalAvgPool(name="mean")], (4, 4, 1)),
        ([ly.Dense(name="of_one_input", units=3)], (1,)),
    ],
)
def test_what_has_no_matrix_to_split_is_told_without_weights(layers, shape):
    with pytest.raises(MethodNotApplicableError, match="no dense layer"):
        check_factorizable(network_of(*layers, shape=shape))


def test_what_can_be_split_passes():
    check_factorizable(dense_network())
    check_factorizable(convolutions())


def factorizing(**options: object) -> dict[str, object]:
    method = {"method": "factorize", "parent": "mlp", "max_drop": None, **options}
    return {"kind": "optimize", "name": "low-rank", "method": method, "training": {**TRAINING, "epochs": 6}}


def test_a_job_reports_the_rank_of_every_layer_and_both_sides_of_fine_tuning(workshop, dense):
    job = workshop.run(factorizing(energy=0.6), parent=[dense.version()])
    method = job.report["method"]
    assert 1 <= method["ranks"]["dense1"] < 32
    assert set(method["before_fine_tuning"]) == set(method["after_fine_tuning"])
    assert method["macs_after"] < method["macs_before"]
    assert job.product.manifest.metrics.parameters == method["parameters_after"] < method["parameters_before"]
    assert job.accuracy > 0.75


def test_a_job_whose_energy_asks_for_too_much_is_refused_before_training(workshop, dense):
    with pytest.raises(MethodNotApplicableError, match="No layer would become smaller") as refused:
        workshop.run(factorizing(energy=1.0), parent=[dense.version()])
    assert workshop.last.reporter.metrics == []
    assert [field.pointer for field in refused.value.errors] == ["/method/energy"]


def test_a_step_whose_energy_asks_for_too_much_is_named(workshop, dense):
    steps = [{"method": "factorize", "energy": 1.0}, {"method": "prune", "ratio": 0.3}]
    chain = {"method": "chain", "parent": "mlp", "steps": steps}
    with pytest.raises(
        MethodNotApplicableError, match=r"Step 1 \(factorize\): No layer would become smaller"
    ) as refused:
        workshop.run({**factorizing(), "method": chain}, parent=[dense.version()])
    assert workshop.last.reporter.metrics == []
    assert [field.pointer for field in refused.value.errors] == ["/method/steps/0/energy"]
